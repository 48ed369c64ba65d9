//! HTTP/1.1 as both ends of the test write and read it: by hand and strictly, so that no library
//! makes equal what is not.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::random::Random;

/// Header fields in their order, with values that have no blanks around them.
pub type Fields = Vec<(String, Vec<u8>)>;

/// Nothing takes so long: no single read, and no single write.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What stands before a body.
#[derive(Clone, Debug)]
pub struct Head {
    /// Request line or status line.
    pub start: Vec<u8>,
    pub fields: Fields,
}

impl Head {
    /// The values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        values(&self.fields, name)
    }

    /// The `nth` part of the start line.
    pub fn part(&self, nth: usize) -> &[u8] {
        self.start.splitn(3, |b| *b == b' ').nth(nth).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        std::str::from_utf8(self.part(1)).unwrap().parse().unwrap()
    }
}

pub fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|f| f.0.eq_ignore_ascii_case(name)).map(|f| &f.1[..]).collect()
}

/// How the end of a body is told (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Framing {
    /// That of a message by its fields. Both at once, or one twice, is nothing that may arrive.
    pub fn of(head: &Head) -> Result<Self, String> {
        match (&head.all("content-length")[..], &head.all("transfer-encoding")[..]) {
            ([], []) => Ok(Self::None),
            ([length], []) => {
                let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
                length.map(Self::Length).ok_or_else(|| "a length that is no number".to_owned())
            }
            ([], [coding]) if *coding == b"chunked" => Ok(Self::Chunked),
            both => Err(format!("framing that is none: {both:?}")),
        }
    }
}

/// A body that is too long to be kept: how long it is, and what it hashes to.
#[derive(Clone, PartialEq, Eq)]
pub struct Sum {
    pub length: usize,
    hash: Vec<u8>,
}

impl Sum {
    pub fn of(bytes: &[u8]) -> Self {
        let mut summing = Summing::default();
        summing.add(bytes);
        summing.done()
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, ", self.length)?;
        self.hash.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct Summing {
    length: usize,
    context: Context,
    kept: Option<Vec<u8>>,
}

impl Default for Summing {
    fn default() -> Self {
        Self { length: 0, context: Context::new(&SHA256), kept: None }
    }
}

impl Summing {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.context.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
    }

    fn done(self) -> Sum {
        Sum { length: self.length, hash: self.context.finish().as_ref().to_vec() }
    }
}

/// One end of a connection.
pub struct Wire<S> {
    pub stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(16 * 1024) }
    }

    /// What has arrived and was not read, and the stream that goes on.
    pub fn into_parts(self) -> (Vec<u8>, S) {
        (self.buffer.to_vec(), self.stream)
    }

    /// `false` where the other side has closed.
    async fn more(&mut self) -> bool {
        self.buffer.reserve(16 * 1024);
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        read.expect("nothing arrives").unwrap_or(0) > 0
    }

    /// Waits until the other side has closed, having sent nothing.
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }

    /// `None` where the connection ended before it.
    pub async fn head(&mut self) -> Result<Option<Head>, String> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer[searched..], b"\r\n\r\n") {
                break searched + at;
            }
            searched = self.buffer.len().saturating_sub(3);
            if !self.more().await {
                let is_clean = self.buffer.is_empty();
                return if is_clean { Ok(None) } else { Err("a head that ends early".to_owned()) };
            }
        };
        let section = self.buffer.split_to(end + 4);
        parse(&section[..end + 2]).map(Some)
    }

    /// A body with this framing; trailer fields are an error.
    pub async fn body(&mut self, framing: Framing) -> Result<Sum, String> {
        let mut summing = Summing::default();
        self.read(framing, &mut summing).await?;
        Ok(summing.done())
    }

    /// The body itself.
    pub async fn content(&mut self, framing: Framing) -> Result<Vec<u8>, String> {
        let mut summing = Summing { kept: Some(Vec::new()), ..Summing::default() };
        self.read(framing, &mut summing).await?;
        Ok(summing.kept.unwrap_or_default())
    }

    async fn read(&mut self, framing: Framing, summing: &mut Summing) -> Result<(), String> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.take(length, summing).await?,
            Framing::Close => loop {
                summing.add(&self.buffer);
                self.buffer.clear();
                if !self.more().await {
                    break;
                }
            },
            Framing::Chunked => loop {
                let line = self.line().await?;
                let size = std::str::from_utf8(&line).ok();
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                let size = size.ok_or_else(|| format!("chunk size {}", line.escape_ascii()))?;
                self.take(size, summing).await?;
                if !self.line().await?.is_empty() {
                    return Err("no line end after a chunk".to_owned());
                }
                if size == 0 {
                    break;
                }
            },
        }
        Ok(())
    }

    async fn take(&mut self, length: usize, summing: &mut Summing) -> Result<(), String> {
        let mut left = length;
        loop {
            let some = left.min(self.buffer.len());
            summing.add(&self.buffer[..some]);
            self.buffer.advance(some);
            left -= some;
            if left == 0 {
                return Ok(());
            }
            if !self.more().await {
                return Err(format!("a body that ends {left} of {length} bytes early"));
            }
        }
    }

    /// A line of at most some bytes: what frames chunks is no place for more.
    async fn line(&mut self) -> Result<BytesMut, String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return Ok(line);
            }
            if self.buffer.len() > 32 || !self.more().await {
                return Err(format!("no line in {}", self.buffer.escape_ascii()));
            }
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, written).await.expect("nothing is taken").is_ok()
    }

    /// Writes a message in pieces that have nothing to do with its form.
    pub async fn write_in_pieces(&mut self, bytes: &[u8], random: &mut Random) -> bool {
        let mut rest = bytes;
        for _ in 0..random.below(3) {
            let (piece, tail) = rest.split_at(random.between(0, rest.len()));
            if !piece.is_empty() && !self.write(piece).await {
                return false;
            }
            tokio::task::yield_now().await;
            rest = tail;
        }
        self.write(rest).await
    }
}

/// RFC 9112 §§2 to 5, with nothing that a recipient may be lenient about.
fn parse(section: &[u8]) -> Result<Head, String> {
    let mut lines = Vec::new();
    let mut rest = section;
    while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    let bad = |line: &[u8]| format!("a line that is none: {}", line.escape_ascii());
    let is_bad = |b: &u8| (b.is_ascii_control() && *b != b'\t') || *b == 0x7f;
    if let Some(line) = lines.iter().find(|line| line.iter().any(is_bad)) {
        return Err(bad(line));
    }
    let (start, lines) = lines.split_first().ok_or("an empty head")?;
    let fields = lines.iter().map(|line| {
        let colon = line.iter().position(|b| *b == b':').ok_or_else(|| bad(line))?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        if name.is_empty() || !name.iter().all(is_tchar) {
            return Err(bad(line));
        }
        Ok((String::from_utf8(name.to_vec()).unwrap(), value.trim_ascii().to_vec()))
    });
    Ok(Head { start: start.to_vec(), fields: fields.collect::<Result<_, _>>()? })
}

/// A message as it goes on the wire. Blanks around values, and all that frames chunks, vary: these
/// have at least `grain` bytes.
pub fn written(
    start: &[u8],
    fields: &Fields,
    (framing, grain): (Framing, usize),
    body: &[u8],
    random: &mut Random,
) -> (Vec<u8>, Vec<u8>) {
    let mut head = [start, b"\r\n"].concat();
    for (name, value) in fields {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(random.pick(&[": ", ": ", ": ", ":", ":\t", ":  \t "]).as_bytes());
        head.extend_from_slice(value);
        head.extend_from_slice(
            random.pick(&["\r\n", "\r\n", "\r\n", " \r\n", "\t \r\n"]).as_bytes(),
        );
    }
    head.extend_from_slice(b"\r\n");
    let framed = match framing {
        Framing::Chunked => chunked(body, grain, random),
        Framing::None => Vec::new(),
        Framing::Length(_) | Framing::Close => body.to_vec(),
    };
    (head, framed)
}

/// RFC 9112 §7.1: sizes in either case with zeros before them, and extensions that nobody knows.
fn chunked(body: &[u8], grain: usize, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / 8 + 64);
    let largest = *random.pick(&[7, 100, 1_000, 4_096, 70_000]);
    let largest = largest.max(grain).max(body.len() / 500);
    let mut rest = body;
    loop {
        let (chunk, tail) = rest.split_at(random.between(grain, largest).min(rest.len()));
        let size = match random.below(4) {
            0 => format!("{:X}", chunk.len()),
            1 => format!("{:06x}", chunk.len()),
            _ => format!("{:x}", chunk.len()),
        };
        out.extend_from_slice(size.as_bytes());
        if random.chance(5) {
            out.extend_from_slice(random.pick(&[";a=b", ";x", ";q=\"a\""]).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if chunk.is_empty() {
            out.extend_from_slice(b"\r\n");
            return out;
        }
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = tail;
    }
}
