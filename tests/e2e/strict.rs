//! An upstream that reads what reaches it without any leniency, and remembers every byte.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::support::response;

/// A request in the one form that leaves no room for another reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Strict {
    pub method: String,
    pub target: String,
    /// Name and value of each field, as they came.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub enum Read {
    Whole(Strict, usize),
    /// So far nothing is wrong. `true` where the header section is whole.
    Partial(bool),
    Bad(&'static str),
}

/// RFC 9112 without any of its leniencies, and with HTTP/1.1 only.
pub fn read_strictly(bytes: &[u8]) -> Read {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Read::Partial(false);
    };
    // Values may hold any byte from 0x80 on (RFC 9110 §5.5).
    let head: String = bytes[..end].iter().copied().map(char::from).collect();
    let mut lines = head.split("\r\n");
    let parts: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Read::Bad("request line") };
    let is_token = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    if !is_token(method) || !(target.starts_with('/') || target == "*") {
        return Read::Bad("method or target");
    }
    let (mut length, mut is_chunked, mut hosts) = (None, false, 0);
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Read::Bad("no colon") };
        if !is_token(name) || value.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return Read::Bad("field");
        }
        let value = value.trim_matches([' ', '\t']);
        fields.push((name.to_owned(), value.to_owned()));
        match &*name.to_ascii_lowercase() {
            "host" => hosts += 1,
            "content-length" if length.is_none() && value.bytes().all(|b| b.is_ascii_digit()) => {
                length = value.parse::<usize>().ok();
            }
            "transfer-encoding" if !is_chunked && value.eq_ignore_ascii_case("chunked") => {
                is_chunked = true;
            }
            "content-length" | "transfer-encoding" => return Read::Bad("framing"),
            _ => {}
        }
    }
    if (length.is_some() && is_chunked) || hosts > 1 {
        return Read::Bad("framing or hosts");
    }
    let rest = &bytes[end + 4..];
    let strict = |body: &[u8]| Strict {
        method: method.to_owned(),
        target: target.to_owned(),
        fields: fields.clone(),
        body: body.to_vec(),
    };
    if !is_chunked {
        let length = length.unwrap_or(0);
        return match rest.get(..length) {
            Some(body) => Read::Whole(strict(body), end + 4 + length),
            None => Read::Partial(true),
        };
    }
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = rest[at..].windows(2).position(|window| window == b"\r\n") else {
            return Read::Partial(true);
        };
        let digits = &rest[at..at + line];
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Read::Bad("chunk size");
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        at += line + 2;
        let Some(chunk) = rest.get(at..at + size + 2) else { return Read::Partial(true) };
        if !chunk.ends_with(b"\r\n") {
            return Read::Bad("end of chunk");
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Read::Whole(strict(&body), end + 4 + at);
        }
    }
}

impl Strict {
    /// The values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let own = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.as_str()).collect()
    }
}

/// All that arrived on one connection of an upstream that answers each request as soon as it is
/// whole.
#[derive(Debug, Default)]
struct Arrived {
    requests: Vec<Strict>,
    rest: Vec<u8>,
}

/// Remembers every byte, and answers with the request's target.
pub struct Recorder {
    pub address: std::net::SocketAddr,
    arrived: Arc<Mutex<Vec<Arc<Mutex<Arrived>>>>>,
}

impl Recorder {
    /// Whether connections can be used again, or are closed after each answer.
    pub async fn start(is_kept: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let all: Arc<Mutex<Vec<Arc<Mutex<Arrived>>>>> = Arc::default();
        let arrived = Arc::clone(&all);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let own: Arc<Mutex<Arrived>> = Arc::default();
                all.lock().unwrap().push(Arc::clone(&own));
                tokio::spawn(async move {
                    let mut some = vec![0; 65536];
                    while let Ok(count @ 1..) = stream.read(&mut some).await {
                        let mut answers = Vec::new();
                        {
                            let mut own = own.lock().unwrap();
                            own.rest.extend_from_slice(&some[..count]);
                            while let Read::Whole(request, length) = read_strictly(&own.rest) {
                                // Whoever asked can tell that the answer is its own.
                                let fields: &[_] =
                                    if is_kept { &[] } else { &[("Connection", "close")] };
                                answers.push(response("200 OK", fields, request.target.as_bytes()));
                                own.requests.push(request);
                                own.rest.drain(..length);
                            }
                        }
                        for answer in answers {
                            let _ = stream.write_all(&answer).await;
                            if !is_kept {
                                let _ = stream.shutdown().await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, arrived }
    }

    /// What has arrived since this was last asked for.
    pub fn take(&self) -> Vec<Strict> {
        let all = self.arrived.lock().unwrap();
        all.iter().flat_map(|one| std::mem::take(&mut one.lock().unwrap().requests)).collect()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }

    /// What is no whole request on any connection.
    pub fn rests(&self) -> Vec<String> {
        let all = self.arrived.lock().unwrap();
        let rests = all.iter().map(|one| one.lock().unwrap().rest.escape_ascii().to_string());
        rests.filter(|rest| !rest.is_empty()).collect()
    }

    /// What can't be a request, nor the beginning of one whose body was cut off.
    pub fn faults(&self) -> Vec<String> {
        let all = self.arrived.lock().unwrap();
        let rests = all.iter().map(|one| one.lock().unwrap().rest.clone());
        rests
            .filter(|rest| !rest.is_empty() && read_strictly(rest) != Read::Partial(true))
            .map(|rest| format!("{:?}: {}", read_strictly(&rest), rest.escape_ascii()))
            .collect()
    }
}
