//! The header section of an HTTP/1 request, read whole before it is parsed: bounded in size and
//! time, and in the one form of line ending that everybody reads the same.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::StatusCode;
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::answer::Answer;
use super::screen::{HEADER_TOO_LARGE, MAX_HEADER, Unacceptable};
use super::section::Section;

/// Most requests fit.
const FIRST_READ: usize = 4096;
/// How long, and how much, is read after an answer to what was not read, so that the client gets to
/// see it.
pub const LINGER: Duration = Duration::from_secs(1);
pub const LINGER_BYTES: usize = 1024 * 1024;

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
    let mut form = Section::default();
    let mut checked = 0;
    loop {
        match stream.read_buf(&mut section).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(None),
        }
        if checked == 0 {
            skip_empty_lines(&mut section);
        }
        match form.advance(&section, checked)? {
            Some(length) if length > MAX_HEADER => return Err(HEADER_TOO_LARGE),
            Some(_) => return Ok(Some(section)),
            None if section.len() > MAX_HEADER => return Err(HEADER_TOO_LARGE),
            None => checked = section.len(),
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
        if stream.write_all(&head).await.is_ok() && stream.flush().await.is_ok() {
            linger(stream).await;
        }
    })
    .await;
}

/// Says that no more is sent, and reads on for a while. Closing with bytes unread would reset the
/// connection, and the client might lose the answer (RFC 9112 §9.6).
pub async fn linger(stream: &mut Stream) {
    let _ = timeout(LINGER, async {
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
