//! The form of an HTTP/1 header section (RFC 9112 §§2 to 6), checked while it arrives.
//!
//! It is parsed again by the library, which is laxer in some places and answers by itself in
//! others. What gets through here can be read in one way only.

use std::ops::Range;

use http::StatusCode;

use super::screen::{
    HEADER_MALFORMED as MALFORMED, HEADER_TOO_LARGE, HOST_MALFORMED as HOST, LENGTH,
    METHOD_NOT_ALLOWED, TRANSFER_CODING, Unacceptable, is_host,
};

/// The library takes no more.
const MAX_FIELDS: usize = 256;

const VERSION: Unacceptable = Unacceptable {
    status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    text: "This version of HTTP is not served here.",
};
const TARGET: Unacceptable = Unacceptable::bad("The request target is not well-formed.");

/// A header section as far as it has arrived.
#[derive(Debug, Default)]
pub struct Section {
    /// Where the line begins that is not whole yet.
    line: usize,
    fields: usize,
    is_http_10: bool,
    /// The authority of a target in absolute-form.
    authority: Option<Range<usize>>,
    host: Option<Range<usize>>,
    has_length: bool,
    has_transfer_coding: bool,
}

impl Section {
    /// Goes on where it stopped. `section` is all that has arrived so far; `from` is where the last
    /// call ended. The length of the section once it is whole.
    pub fn advance(&mut self, section: &[u8], from: usize) -> Result<Option<usize>, Unacceptable> {
        let arrived = section.get(from..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', arrived) {
            let end = from + at;
            // Every line ends with both characters: servers differ in what one alone means.
            let line = section.get(self.line..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").ok_or(MALFORMED)?;
            let start = std::mem::replace(&mut self.line, end + 1);
            if line.is_empty() {
                return self.conclude(section).map(|()| Some(end + 1));
            }
            if start == 0 {
                self.request_line(line)?;
            } else {
                self.field(line, start)?;
            }
        }
        Ok(None)
    }

    /// RFC 9112 §3.
    fn request_line(&mut self, line: &[u8]) -> Result<(), Unacceptable> {
        let mut parts = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MALFORMED);
        };
        if !is_token(method) {
            return Err(MALFORMED);
        }
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.is_http_10 = true,
            version if version.starts_with(b"HTTP/") => return Err(VERSION),
            _ => return Err(MALFORMED),
        }
        if matches!(method, b"TRACE" | b"CONNECT") {
            return Err(METHOD_NOT_ALLOWED);
        }
        if !is_taken(target) {
            return Err(TARGET);
        }
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        match (target, scheme) {
            ([b'/', ..] | b"*", _) => Ok(()),
            (_, Some(scheme)) => {
                let start = method.len() + 1 + scheme.len();
                let authority = line.get(start..).unwrap_or_default();
                let ends = |b: &u8| matches!(b, b'/' | b'?' | b'#' | b'\\' | b' ');
                let length = authority.iter().position(ends).unwrap_or(authority.len());
                if authority.get(length) == Some(&b'\\') {
                    return Err(TARGET);
                }
                self.authority = Some(start..start + length);
                Ok(())
            }
            (_, None) => Err(TARGET),
        }
    }

    /// RFC 9112 §5. A line that goes on another one, or has a blank before its colon, has no name.
    fn field(&mut self, line: &[u8], start: usize) -> Result<(), Unacceptable> {
        let colon = memchr::memchr(b':', line).ok_or(MALFORMED)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if !is_token(name) || value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(MALFORMED);
        }
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(HEADER_TOO_LARGE);
        }
        let is = |own: &[u8]| name.eq_ignore_ascii_case(own);
        match name.len() {
            4 if is(b"host") => {
                let blanks = value.len() - value.trim_ascii_start().len();
                let from = start + colon + 1 + blanks;
                let host = from..from + value.trim_ascii().len();
                if self.host.replace(host).is_some() || !is_host(value.trim_ascii()) {
                    return Err(HOST);
                }
            }
            14 if is(b"content-length") => {
                let value = value.trim_ascii();
                let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                if std::mem::replace(&mut self.has_length, true) || !is_number || value.len() > 18 {
                    return Err(LENGTH);
                }
            }
            17 if is(b"transfer-encoding") => {
                let is_known = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                if std::mem::replace(&mut self.has_transfer_coding, true) || !is_known {
                    return Err(TRANSFER_CODING);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What can only be said of the whole.
    fn conclude(&self, section: &[u8]) -> Result<(), Unacceptable> {
        let text = |range: &Range<usize>| section.get(range.clone()).unwrap_or_default();
        match (&self.authority, &self.host) {
            // RFC 9112 §3.2.2: the target counts; where they differ, somebody is being fooled.
            (Some(authority), Some(host)) if text(authority) != text(host) => return Err(HOST),
            (Some(authority), _) if authority.is_empty() => return Err(TARGET),
            (Some(authority), _) if text(authority).contains(&b'@') => return Err(TARGET),
            (_, None) if !self.is_http_10 => return Err(HOST),
            _ => {}
        }
        // RFC 9112 §6.1: both are framing, and only one can be right.
        if self.has_transfer_coding && (self.has_length || self.is_http_10) {
            return Err(LENGTH);
        }
        if self.line <= 2 {
            return Err(MALFORMED);
        }
        Ok(())
    }
}

/// Whether the library takes such a target: it would refuse others by itself.
fn is_taken(target: &[u8]) -> bool {
    let query = memchr::memchr(b'?', target).unwrap_or(target.len());
    let is_bad = |(at, b): (usize, &u8)| match b {
        b'<' | b'>' => true,
        b'`' => at < query,
        b'"' => at > query,
        b => b.is_ascii_control(),
    };
    std::str::from_utf8(target).is_ok() && !target.iter().enumerate().any(is_bad)
}

/// RFC 9110 §5.6.2.
fn is_token(name: &[u8]) -> bool {
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !name.is_empty() && name.iter().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(section: &[u8]) -> u16 {
        match Section::default().advance(section, 0) {
            Ok(Some(_)) => 200,
            Ok(None) => 100,
            Err(refused) => refused.status.as_u16(),
        }
    }

    #[test]
    fn a_section_can_be_read_in_one_way_or_is_refused() {
        let cases: &[(u16, &[u8])] = &[
            (200, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (200, b"GET / HTTP/1.1\r\nhOST:\ta:80 \r\nX-Empty:\r\nX: a:b\tc\r\n\r\n"),
            (200, b"GET / HTTP/1.0\r\n\r\n"),
            (200, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
            (200, b"GET http://a:1/x HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            (200, b"GET HTTPS://a HTTP/1.1\r\nHost: a\r\n\r\n"),
            (200, b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n"),
            (100, b"GET / HTTP/1.1\r\nHost: a\r\n"),
            (100, b"GET / HTTP/1.1\r\nHost: a\r\n\r"),
            (100, b""),
            (400, b"GET / HTTP/1.1\nHost: a\n\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\n X: a\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\n(: x\r\n\r\n"),
            (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"GET /\r\n\r\n"),
            (400, b"GET / HTTQ/1.1\r\nHost: a\r\n\r\n"),
            (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
            (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"GET http:/// HTTP/1.1\r\nHost:\r\n\r\n"),
            (400, b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
            (405, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (405, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            (200, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nContent-Length: 10\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10, 10\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\n"),
            (200, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"),
            (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n"),
            (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
            (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ];
        for (expected, section) in cases {
            assert_eq!(status(section), *expected, "{}", section.escape_ascii());
        }
    }

    /// The library would answer by itself.
    #[test]
    fn a_target_that_the_library_does_not_take_is_refused_before_it_sees_it() {
        let form = |start: &[u8], byte: u8, end: &[u8]| {
            let target = [start, &[byte], end].concat();
            let taken = pingora::http::RequestHeader::build("GET", &target, None).is_ok();
            let section = [b"GET ", &target[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            (taken, status(&section), target)
        };
        let forms: [(&[u8], &[u8]); 5] = [
            (b"/x", b""),
            (b"/x?", b"y"),
            (b"http://a/", b""),
            (b"http://a", b"/"),
            (b"/\xc3", b""),
        ];
        for (start, end) in forms {
            for byte in 0..=255 {
                let (taken, status, target) = form(start, byte, end);
                assert!(taken || status != 200, "{}", target.escape_ascii());
            }
        }
    }

    #[test]
    fn there_may_be_many_fields_but_not_more_than_are_parsed() {
        let with = |fields: usize| {
            let more = "X: y\r\n".repeat(fields - 1);
            status(format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n").as_bytes())
        };
        assert_eq!((with(MAX_FIELDS), with(MAX_FIELDS + 1)), (200, 431));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_a_section_comes(
            start in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"]),
            rest in "[aH:\r\n ]{0,24}",
            cuts in prop::collection::vec(0_usize..48, 0..4),
        ) {
            let section = format!("{start}{rest}");
            let section = section.as_bytes();
            let whole = Section::default().advance(section, 0);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(section.len())).collect();
            cuts.push(section.len());
            cuts.sort_unstable();
            let mut pieces = Section::default();
            let (mut progress, mut from) = (Ok(None), 0);
            for cut in cuts {
                progress = pieces.advance(&section[..cut], from);
                if progress != Ok(None) {
                    break;
                }
                from = cut;
            }
            prop_assert_eq!(progress, whole);
        }

        /// What is accepted here is read by the library in the same way, to the byte.
        #[test]
        fn what_is_accepted_is_accepted_by_a_parser_that_is_none_of_ours(
            line in prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", "GET http://a HTTP/1.1\r\n", "",
            ]),
            pieces in prop::collection::vec(prop::sample::select(vec![
                &b"Host: a\r\n"[..], b"X: y\r\n", b"X", b":", b" ", b"\t", b"\r", b"\n", b"\r\n",
                b"\0", b"\x7f", b"\xff", b"/", b"GET", b"HTTP/1.1", b"Content-Length: 1\r\n",
                b"Transfer-Encoding: chunked\r\n", b"\x0b", b"\"", b"<", b"@",
            ]), 0..12),
        ) {
            let section = [line.as_bytes(), &pieces.concat(), b"\r\n\r\n"].concat();
            if let Ok(Some(length)) = Section::default().advance(&section, 0) {
                let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
                let mut request = httparse::Request::new(&mut fields);
                let parsed = request.parse(&section);
                prop_assert_eq!(parsed, Ok(httparse::Status::Complete(length)));
                let lines = memchr::memchr_iter(b'\n', &section[..length]).count();
                prop_assert_eq!(request.headers.len(), lines - 2);
            }
        }

        #[test]
        fn nothing_panics(section in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Section::default().advance(&section, 0);
        }
    }
}
