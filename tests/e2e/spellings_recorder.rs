//! An upstream that misses no byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

type Pieces = Arc<Mutex<Vec<Vec<u8>>>>;

/// An upstream that keeps every byte at once, and answers every request.
pub struct Recorder {
    pub address: SocketAddr,
    bytes: Pieces,
    bodies: Pieces,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (bytes, bodies) = (Pieces::default(), Pieces::default());
        let (all, whole) = (Arc::clone(&bytes), Arc::clone(&bodies));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (all, whole) = (Arc::clone(&all), Arc::clone(&whole));
                let nth = all.lock().unwrap().len();
                all.lock().unwrap().push(Vec::new());
                tokio::spawn(async move {
                    let (mut seen, mut some) = (Vec::new(), [0; 16 * 1024]);
                    while let Ok(read @ 1..) = stream.read(&mut some).await {
                        all.lock().unwrap()[nth].extend_from_slice(&some[..read]);
                        seen.extend_from_slice(&some[..read]);
                        while let Some((body, used)) = whole_request(&seen) {
                            seen.drain(..used);
                            whole.lock().unwrap().push(body);
                            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                            if stream.write_all(ok).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { address, bytes, bodies }
    }

    pub fn all(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().concat()
    }

    pub fn requests(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }

    pub fn last_body(&self) -> Vec<u8> {
        self.bodies.lock().unwrap().last().cloned().unwrap()
    }
}

/// The body of a request at the front of `bytes`, and how long the request is.
fn whole_request(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    if field("transfer-encoding").is_none() {
        let length: usize = field("content-length").map_or(0, |length| length.parse().unwrap());
        return Some((bytes.get(end..end + length)?.to_vec(), end + length));
    }
    let (mut body, mut at) = (Vec::new(), end);
    loop {
        let line = at + memchr::memmem::find(bytes.get(at..)?, b"\r\n")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&bytes[at..line]).unwrap(), 16).unwrap();
        let after = line + 2 + size + 2;
        body.extend_from_slice(bytes.get(line + 2..line + 2 + size)?);
        bytes.get(..after)?;
        at = after;
        if size == 0 {
            return Some((body, at));
        }
    }
}
