//! An HTTP/2 client that sends whatever frames it is told to, and reads the statuses of answers.

use std::collections::HashMap;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame as it was received.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// RFC 9113 §4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals without indexing and without Huffman (RFC 7541 §6.2.2): any bytes at
/// all may stand in it.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            length(&mut out, text.len());
            out.extend_from_slice(text);
        }
    }
    out
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ ..127) => out.push(short),
        _ => {
            out.push(127);
            let mut left = length - 127;
            while left >= 128 {
                out.push(u8::try_from(left % 128).unwrap() | 128);
                left /= 128;
            }
            out.push(u8::try_from(left).unwrap());
        }
    }
}

pub fn request<'a>(
    method: &'a [u8],
    path: &'a [u8],
    more: &[(&'a [u8], &'a [u8])],
) -> Vec<(&'a [u8], &'a [u8])> {
    let own: [(&[u8], &[u8]); 4] = [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", b"idp.example"),
        (b":path", path),
    ];
    [&own[..], more].concat()
}

/// One connection.
pub struct Frames<S> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Frames<S> {
    /// A connection whose preface is sent already.
    pub const fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Answered(u16),
    /// RST_STREAM.
    Reset,
    /// GOAWAY, or the connection was closed.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// The preface, and settings: no dynamic table, so that answers can be read without one, and an
    /// initial window.
    pub async fn open(stream: S, window: u32) -> std::io::Result<Self> {
        let mut client = Self::over(stream);
        let settings = [&[0, 1, 0, 0, 0, 0, 0, 4][..], &window.to_be_bytes()].concat();
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &settings)];
        client.send(preface.concat()).await?;
        Ok(client)
    }

    /// `None` where the connection is closed. Settings are acknowledged.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                    self.send(self::frame(SETTINGS, ACK, 0, b"")).await.ok()?;
                    continue;
                }
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let header = self.buffer.get(..9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes(header[5..9].try_into().unwrap()) & 0x7fff_ffff;
        let (kind, flags) = (header[3], header[4]);
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Reads on until each of these streams has ended, or the connection has.
    pub async fn ended(&mut self, streams: &[u32]) -> HashMap<u32, Ended> {
        let mut statuses: HashMap<u32, u16> = HashMap::new();
        let mut ended: HashMap<u32, Ended> = HashMap::new();
        while streams.iter().any(|stream| !ended.contains_key(stream)) {
            let Some(frame) = self.next().await else { break };
            let end = frame.flags & END_STREAM != 0;
            match frame.kind {
                HEADERS => {
                    statuses.entry(frame.stream).or_insert_with(|| status(&frame.payload));
                }
                DATA => {}
                RST_STREAM => {
                    // One that comes after a whole answer only says that the rest is not wanted.
                    ended.entry(frame.stream).or_insert(Ended::Reset);
                    continue;
                }
                GOAWAY => break,
                _ => continue,
            }
            if end {
                let status = statuses.get(&frame.stream).copied().unwrap_or(0);
                ended.entry(frame.stream).or_insert(Ended::Answered(status));
            }
        }
        for stream in streams {
            ended.entry(*stream).or_insert(Ended::Closed);
        }
        ended
    }
}

/// The status at the beginning of an answer's header block, which is encoded without a dynamic table.
pub fn status(block: &[u8]) -> u16 {
    /// RFC 7541, appendix A, from 8 on.
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size (RFC 7541 §6.3).
    let block = &block[block.iter().take_while(|b| **b >> 5 == 1).count()..];
    match block {
        [indexed @ 0x88..=0x8e, ..] => STATIC[usize::from(indexed - 0x88)],
        // A literal, by the name of index 8.
        [0x08 | 0x48 | 0x18, length, value @ ..] => {
            let value = &value[..usize::from(length & 0x7f)];
            let digits = if length & 0x80 == 0 { value.to_vec() } else { huffman_digits(value) };
            String::from_utf8(digits).unwrap().parse().unwrap()
        }
        other => panic!("{}", other.escape_ascii()),
    }
}

/// RFC 7541, appendix B: of digits, 0 to 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> =
        bytes.iter().flat_map(|b| (0..8).rev().map(move |at| b >> at & 1)).collect();
    let (mut at, mut digits) = (0, Vec::new());
    let number = |from: usize, count: usize| {
        bits.get(from..from + count).map(|bits| bits.iter().fold(0, |sum, bit| sum << 1 | bit))
    };
    while digits.len() < 3 {
        match number(at, 5).unwrap() {
            short @ 0..=2 => {
                digits.push(b'0' + short);
                at += 5;
            }
            _ => {
                digits.push(b'3' + number(at, 6).unwrap() - 0x19);
                at += 6;
            }
        }
    }
    digits
}

#[test]
fn statuses_are_read_from_header_blocks() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x8c]), 400);
    assert_eq!(status(b"\x08\x03503"), 503);
    // RFC 7541 §C.6.1: "302".
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
}
