//! The header section of an HTTP/1 request, read whole before it is parsed: bounded in size and
//! time, and in the one form of line ending that everybody reads the same.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::StatusCode;
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::answer::Answer;
use super::forward::{HEADER_MALFORMED, HEADER_TOO_LARGE, MAX_HEADER, Unacceptable};

/// Most requests fit.
const FIRST_READ: usize = 4096;
/// How long, and how much, is read after a refusal, so that the client gets to see it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

const TOO_SLOW: Unacceptable = Unacceptable {
    status: StatusCode::REQUEST_TIMEOUT,
    text: "The header section did not arrive in time.",
};

/// Waits for the first byte of a request. It holds no buffer: connections are idle most of the time.
pub async fn first_byte(stream: &mut Stream) -> Option<u8> {
    let mut first = [0];
    match stream.read(&mut first).await {
        Ok(1..) => first.first().copied(),
        Ok(0) | Err(_) => None,
    }
}

/// Reads on until the header section is whole. What is returned may go beyond it. `Ok(None)` where
/// the client went away.
pub async fn read(
    stream: &mut Stream,
    first: u8,
    deadline: Duration,
) -> Result<Option<BytesMut>, Unacceptable> {
    let mut section = BytesMut::with_capacity(FIRST_READ);
    section.extend_from_slice(&[first]);
    timeout(deadline, read_on(stream, section)).await.unwrap_or(Err(TOO_SLOW))
}

async fn read_on(
    stream: &mut Stream,
    mut section: BytesMut,
) -> Result<Option<BytesMut>, Unacceptable> {
    let mut lines = Lines::default();
    loop {
        match stream.read_buf(&mut section).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(None),
        }
        if lines.at == 0 {
            skip_empty_lines(&mut section);
        }
        match lines.advance(&section) {
            Progress::Whole(length) if length > MAX_HEADER => return Err(HEADER_TOO_LARGE),
            Progress::Whole(_) => return Ok(Some(section)),
            Progress::Malformed => return Err(HEADER_MALFORMED),
            Progress::Partial if section.len() > MAX_HEADER => return Err(HEADER_TOO_LARGE),
            Progress::Partial => {}
        }
    }
}

/// Clients of old send an empty line after a request (RFC 9112 §2.2).
fn skip_empty_lines(section: &mut BytesMut) {
    for _ in 0..2 {
        if section.starts_with(b"\r\n") {
            section.advance(2);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Partial,
    /// The length of the section with the empty line that ends it.
    Whole(usize),
    Malformed,
}

/// Where in the section the scan has come to.
#[derive(Debug, Default)]
struct Lines {
    at: usize,
    line_length: usize,
    after_return: bool,
}

impl Lines {
    /// Every line ends with CR LF, and neither of the two stands anywhere else (RFC 9112 §2.2).
    fn advance(&mut self, section: &[u8]) -> Progress {
        for (at, byte) in section.iter().enumerate().skip(self.at) {
            match (self.after_return, byte) {
                (true, b'\n') if self.line_length == 0 => return Progress::Whole(at + 1),
                (true, b'\n') => {
                    self.after_return = false;
                    self.line_length = 0;
                }
                (false, b'\r') => self.after_return = true,
                (true, _) | (false, b'\n' | 0) => return Progress::Malformed,
                (false, _) => self.line_length += 1,
            }
        }
        self.at = section.len();
        Progress::Partial
    }
}

/// Answers a request that was never parsed, and closes.
pub async fn refuse(stream: &mut Stream, refused: Unacceptable) {
    let _ = timeout(LINGER, async {
        let answer = Answer::plain(refused.status, refused.text);
        let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", answer.status).into_bytes();
        for (name, value) in &answer.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("Content-Length: {}\r\n\r\n", answer.body.len()).as_bytes());
        head.extend_from_slice(&answer.body);
        if stream.write_all(&head).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        // Closing with bytes unread would reset the connection, and the client might lose the
        // answer (RFC 9112 §9.6).
        let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
        let mut sink = [0; 1024];
        let mut left = LINGER_BYTES;
        while let Ok(read @ 1..) = stream.read(&mut sink).await
            && left > read
        {
            left -= read;
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_section_ends_with_an_empty_line_and_every_line_with_both_characters() {
        let cases: [(&[u8], Progress); 9] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Progress::Whole(27)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\n\n", Progress::Whole(27)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r", Progress::Partial),
            (b"", Progress::Partial),
            (b"GET / HTTP/1.1\nHost: a\n\n", Progress::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Progress::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Progress::Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", Progress::Malformed),
            (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Progress::Malformed),
        ];
        for (section, progress) in cases {
            assert_eq!(Lines::default().advance(section), progress, "{}", section.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_a_section_comes(
            section in "[ab\r\n]{0,24}", cut in 0_usize..24
        ) {
            let section = section.as_bytes();
            let whole = Lines::default().advance(section);
            let mut lines = Lines::default();
            let cut = cut.min(section.len());
            let progress = match lines.advance(&section[..cut]) {
                Progress::Partial => lines.advance(section),
                early => early,
            };
            prop_assert_eq!(progress, whole);
        }
    }
}
