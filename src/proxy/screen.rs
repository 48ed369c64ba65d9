//! What is asked of the head of any request: that it can be read in one way only.

use http::header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::RequestHeader;

/// The largest header section of a request, in bytes.
pub const MAX_HEADER: usize = 32 * 1024;

/// End-to-end fields that a `Connection` field must not take away: whoever sits behind us decides
/// by them.
const END_TO_END: [&str; 27] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "client-cert",
    "client-cert-chain",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "dpop",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "origin",
    "range",
    "referer",
    "user-agent",
    "via",
    "x-client-cert",
];

/// A request that is refused for its form, wherever it was meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacceptable {
    pub status: StatusCode,
    pub text: &'static str,
}

impl Unacceptable {
    pub const fn bad(text: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text }
    }
}

pub const HEADER_TOO_LARGE: Unacceptable = Unacceptable {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    text: "The header section is larger than 32768 bytes.",
};
pub const HEADER_MALFORMED: Unacceptable =
    Unacceptable::bad("The header section is not well-formed.");

pub const HOST_MALFORMED: Unacceptable =
    Unacceptable::bad("The Host field must be there once, and name a host.");

pub const METHOD_NOT_ALLOWED: Unacceptable = Unacceptable {
    status: StatusCode::METHOD_NOT_ALLOWED,
    text: "This method is not served here.",
};
pub const LENGTH: Unacceptable =
    Unacceptable::bad("The length of the body is given more than once, or not as a number.");
pub const TRANSFER_CODING: Unacceptable = Unacceptable {
    status: StatusCode::NOT_IMPLEMENTED,
    text: "The only transfer coding that is served here is `chunked`.",
};

/// Refuses what could be read differently by whoever comes next, in any version of HTTP. What is
/// wrong with HTTP/1 alone is found in [`super::section`].
pub fn screen(request: &RequestHeader) -> Result<(), Unacceptable> {
    if request.method == Method::TRACE || request.method == Method::CONNECT {
        return Err(METHOD_NOT_ALLOWED);
    }
    let headers = &request.headers;
    // HTTP/2 lets equal ones through, and HTTP/1 knows no such thing (RFC 9112 §6.3).
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(LENGTH);
    }
    if headers.keys().any(is_like_framing) {
        return Err(HEADER_MALFORMED);
    }
    if !is_target(request) {
        return Err(Unacceptable::bad("The request target is not well-formed."));
    }
    // HTTP/1 was held to this already (RFC 9112 §3.2); of HTTP/2 it becomes that.
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    if !hosts.chain(authority).all(is_host) {
        return Err(HOST_MALFORMED);
    }
    // HTTP/2 carries it in `:authority`, which the library holds to `Host`.
    let has_host = headers.contains_key(HOST) || request.uri.authority().is_some();
    if !has_host && request.version >= Version::HTTP_11 {
        return Err(Unacceptable::bad("The Host field is missing."));
    }
    if nominations(headers).any(|name| is_end_to_end(&name)) {
        return Err(Unacceptable::bad("The Connection field names an end-to-end field."));
    }
    Ok(())
}

/// Whether nothing stands there that some server could take for the end of a host, or for another.
pub fn is_host(host: &[u8]) -> bool {
    host.iter().all(|b| !b" \t,@/\\?#\"<>".contains(b))
}

/// Whether a field is taken for one that says where a message ends by whoever reads `_` as `-`.
fn is_like_framing(name: &HeaderName) -> bool {
    let folded = |own: &HeaderName| name.as_str().bytes().map(fold).eq(own.as_str().bytes());
    name.as_str().contains('_') && [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(folded)
}

/// Origin-form, absolute-form with http or https, or `*` for OPTIONS (RFC 9112 §3.2).
fn is_target(request: &RequestHeader) -> bool {
    let target = request.raw_path();
    let is_absolute = |scheme: &[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    target.first() == Some(&b'/')
        || is_absolute(b"http://")
        || is_absolute(b"https://")
        || (target == b"*" && request.method == Method::OPTIONS)
}

/// What the `Connection` fields say. Several are one list (RFC 9110 §5.3).
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    (headers.get_all(CONNECTION).iter())
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether this is the last message of its connection (RFC 9112 §9.6).
pub(super) fn is_last(headers: &HeaderMap) -> bool {
    connection_options(headers).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// What the `Connection` fields name, in lower case.
pub(super) fn nominations(headers: &HeaderMap) -> impl Iterator<Item = Vec<u8>> {
    connection_options(headers)
        .map(<[u8]>::to_ascii_lowercase)
        .filter(|name| !name.is_empty() && name != b"close" && name != b"keep-alive")
}

fn is_end_to_end(name: &[u8]) -> bool {
    END_TO_END.iter().any(|own| own.as_bytes() == name) || is_forwarding(name)
}

/// Whether a field speaks of the way that a request has come, in any spelling that a server might
/// take for it: CGI and its heirs read `_` as `-`.
pub(super) fn is_forwarding(name: &[u8]) -> bool {
    let starts_with = |start: &[u8]| {
        name.len() >= start.len() && name.iter().zip(start).all(|(b, own)| fold(*b) == *own)
    };
    match name.first().map(u8::to_ascii_lowercase) {
        Some(b'x') => starts_with(b"x-forwarded-") || name.eq_ignore_ascii_case(b"x-forwarded"),
        Some(b'f') => name.len() == FORWARDED.as_str().len() && starts_with(b"forwarded"),
        _ => false,
    }
}

pub(super) const fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    type Case = (u16, Version, &'static str, &'static str, &'static [(&'static str, &'static str)]);
    const A_HOST: (&str, &str) = ("Host", "a");

    pub fn request(
        version: Version,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> RequestHeader {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        request.set_version(version);
        for (name, value) in headers {
            request.append_header((*name).to_owned(), *value).unwrap();
        }
        request
    }

    fn status(version: Version, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let request = request(version, method, target, headers);
        screen(&request).map_or_else(|refused| refused.status.as_u16(), |()| 200)
    }

    #[test]
    fn a_request_is_refused_for_its_form_and_its_valid_twin_is_not() {
        let (v10, v11) = (Version::HTTP_10, Version::HTTP_11);
        let cases: &[Case] = &[
            (200, v11, "GET", "/", &[A_HOST]),
            (400, v11, "GET", "/", &[]),
            (200, v10, "GET", "/", &[]),
            (405, v11, "TRACE", "/", &[A_HOST]),
            (405, v11, "CONNECT", "a:443", &[A_HOST]),
            (200, v11, "DELETE", "/", &[A_HOST]),
            (200, v11, "OPTIONS", "*", &[A_HOST]),
            (400, v11, "GET", "*", &[A_HOST]),
            (400, v11, "GET", "ftp://a/", &[A_HOST]),
            (400, v11, "GET", "oauth2/token", &[A_HOST]),
            (200, v11, "GET", "HTTP://a/", &[A_HOST]),
            (
                200,
                v11,
                "GET",
                "/",
                &[A_HOST, ("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")],
            ),
            (200, v11, "GET", "/", &[A_HOST, ("Connection", "X-Hop, te")]),
            (400, v11, "GET", "/", &[A_HOST, ("Connection", "close, Authorization")]),
            (400, v11, "GET", "/", &[A_HOST, ("Connection", "x-hop"), ("Connection", "COOKIE")]),
            (400, v11, "GET", "/", &[A_HOST, ("Connection", "X_Forwarded_For")]),
            (400, v11, "GET", "/", &[A_HOST, ("Connection", "Host")]),
            (200, v11, "GET", "/", &[("Host", "a:80")]),
            (400, v11, "GET", "/", &[("Host", "a,b")]),
            (400, v11, "GET", "/", &[("Host", "u@a")]),
            (200, v11, "GET", "/", &[A_HOST, ("X_Own", "1")]),
            (400, v11, "GET", "/", &[A_HOST, ("Transfer_Encoding", "chunked")]),
            (400, v11, "GET", "/", &[A_HOST, ("content_length", "1")]),
        ];
        for (expected, version, method, target, headers) in cases {
            assert_eq!(
                status(*version, method, target, headers),
                *expected,
                "{method} {target} {headers:?}"
            );
        }
    }
}
