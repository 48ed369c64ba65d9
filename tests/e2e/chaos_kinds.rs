//! The ways in which an issuer misbehaves, and what is to become of each.

use std::io::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::interval;

/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(100);
static CHUNK: [u8; 64 * 1024] = [b' '; 64 * 1024];
const HUGE: usize = 512 << 20;

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hangs,
    Resets,
    DripsHeader,
    DripsBody,
    Status500,
    Status404,
    NoContent,
    Html,
    GzipBomb,
    GzipBombUnannounced,
    GzipOfGzip,
    HalfAGibibyte,
    TenThousandKeys,
    RedirectLoop,
    RedirectToMetadata,
    OddContentType,
    KeysTwice,
    CutBody,
    ChunksWithoutEnd,
    HeaderFlood,
    InterimFlood,
    DropsAfterHeader,
    AnothersKeys,
    UnaskedNotModified,
    PrivateKeys,
    SymmetricKeys,
    EmptySet,
    ChangingSet,
    SameNameOtherKey,
    ClockFarOff,
    NotHttp,
    TrailingGarbage,
    DeepJson,
    WideJson,
    SlowHandshake,
    CertificateExpired,
    CertificateOfAnother,
    CertificateSelfSigned,
}

/// What is to become of an issuer's known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The fetch fails for this reason; the known key serves on.
    Failure(&'static str),
    /// Nothing is wrong with the set.
    Serves,
    /// The issuer has taken its key back, which is its right.
    Withdrawn,
}

use Expected::{Failure, Serves, Withdrawn};

const LATE: &str = "no answer in time";
const BROKEN: &str = "the connection broke";
const NO_SET: &str = "the document is not a JWK Set: a JSON object with an array `keys`";
const NO_KEY: &str = "the set has no key that could verify a token";
const TOO_LARGE: &str = "the document is larger than 524288 bytes";
const REDIRECT: &str = "the answer is a redirect, which is not followed";
const ENCODED: &str = "the answer has a content coding, which was not asked for";
const UNTRUSTED: &str =
    "the TLS handshake failed: the certificate is not one to trust, or not for this host";

pub const ALL: [(Kind, Expected); 38] = [
    (Kind::Hangs, Failure(LATE)),
    (Kind::Resets, Failure(BROKEN)),
    (Kind::DripsHeader, Failure(LATE)),
    (Kind::DripsBody, Failure(LATE)),
    (Kind::Status500, Failure("the answer has status 500")),
    (Kind::Status404, Failure("the answer has status 404")),
    (Kind::NoContent, Failure("the answer has status 204")),
    (Kind::Html, Failure(NO_SET)),
    (Kind::GzipBomb, Failure(ENCODED)),
    (Kind::GzipBombUnannounced, Failure(NO_SET)),
    (Kind::GzipOfGzip, Failure(ENCODED)),
    (Kind::HalfAGibibyte, Failure(TOO_LARGE)),
    (Kind::TenThousandKeys, Failure("the set has more than 100 keys")),
    (Kind::RedirectLoop, Failure(REDIRECT)),
    (Kind::RedirectToMetadata, Failure(REDIRECT)),
    (Kind::OddContentType, Serves),
    (Kind::KeysTwice, Failure(NO_SET)),
    (Kind::CutBody, Failure(BROKEN)),
    (Kind::ChunksWithoutEnd, Failure(LATE)),
    (Kind::HeaderFlood, Failure(BROKEN)),
    (Kind::InterimFlood, Failure(TOO_LARGE)),
    (Kind::DropsAfterHeader, Failure(BROKEN)),
    (Kind::AnothersKeys, Withdrawn),
    (Kind::UnaskedNotModified, Failure("the answer has status 304")),
    (Kind::PrivateKeys, Failure("the set has private keys only: its issuer gives them away")),
    (Kind::SymmetricKeys, Failure("the set has private keys only: its issuer gives them away")),
    (Kind::EmptySet, Failure(NO_KEY)),
    (Kind::ChangingSet, Withdrawn),
    (Kind::SameNameOtherKey, Withdrawn),
    (Kind::ClockFarOff, Serves),
    (Kind::NotHttp, Failure(BROKEN)),
    (Kind::TrailingGarbage, Failure(NO_SET)),
    (Kind::DeepJson, Failure(NO_SET)),
    (Kind::WideJson, Failure(NO_SET)),
    (Kind::SlowHandshake, Failure(LATE)),
    (Kind::CertificateExpired, Failure(UNTRUSTED)),
    (Kind::CertificateOfAnother, Failure(UNTRUSTED)),
    (Kind::CertificateSelfSigned, Failure(UNTRUSTED)),
];

impl Kind {
    /// As an issuer is named for it.
    pub fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }

    /// Whether what is wrong is wrong before any HTTP is spoken.
    pub const fn is_in_tls(self) -> bool {
        matches!(
            self,
            Self::SlowHandshake
                | Self::CertificateExpired
                | Self::CertificateOfAnother
                | Self::CertificateSelfSigned
        )
    }
}

/// Sets as JSON: the issuer's own, one of a key that it never published while it was well, and
/// that of another issuer.
pub struct Sets {
    pub own: String,
    pub evil: String,
    pub anothers: String,
}

pub fn answer(fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// 20 MiB of blanks, which is next to nothing.
static BOMB: LazyLock<Bytes> = LazyLock::new(|| {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..320 {
        encoder.write_all(&CHUNK).unwrap();
    }
    encoder.finish().unwrap().into()
});

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The members of a set, as JSON.
fn members(set: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(set).unwrap();
    set["keys"].as_array().unwrap().clone()
}

/// The set with something more in each of its keys.
fn with(set: &str, more: &Value) -> String {
    let mut keys = members(set);
    for key in &mut keys {
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    json!({ "keys": keys }).to_string()
}

/// Answers a request as that kind does, until whoever asked is gone.
pub async fn misbehave(
    kind: Kind,
    stream: &mut (impl AsyncWrite + Unpin),
    sets: &Sets,
) -> std::io::Result<()> {
    let Sets { own, evil, anothers } = sets;
    let whole = match kind {
        Kind::Hangs => std::future::pending().await,
        Kind::Resets | Kind::SlowHandshake => return Ok(()),
        Kind::DripsHeader | Kind::DripsBody => {
            let bytes = answer("", evil.as_bytes());
            let at_once = if kind == Kind::DripsBody { bytes.len() - evil.len() } else { 0 };
            stream.write_all(&bytes[..at_once]).await?;
            let mut drops = interval(DRIP);
            for byte in &bytes[at_once..] {
                drops.tick().await;
                stream.write_all(&[*byte]).await?;
            }
            return Ok(());
        }
        Kind::Status500 => b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
        Kind::Status404 => b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        Kind::NoContent => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        Kind::Html => answer("Content-Type: text/html\r\n", b"<html>Sign in, please</html>"),
        Kind::GzipBomb => answer("Content-Encoding: gzip\r\n", &BOMB),
        Kind::GzipBombUnannounced => answer("Content-Type: application/json\r\n", &BOMB),
        Kind::GzipOfGzip => answer("Content-Encoding: gzip, gzip\r\n", &gzip(&BOMB)),
        Kind::HalfAGibibyte => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE}\r\n\r\n{{");
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..HUGE / CHUNK.len() {
                stream.write_all(&CHUNK).await?;
            }
            return Ok(());
        }
        Kind::TenThousandKeys => {
            let keys = vec![json!({ "kty": "EC" }); 10_000];
            answer("", json!({ "keys": keys }).to_string().as_bytes())
        }
        Kind::RedirectLoop => {
            b"HTTP/1.1 302 Round\r\nLocation: /jwks\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        Kind::RedirectToMetadata => b"HTTP/1.1 307 There\r\nLocation: \
            http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
        Kind::OddContentType => answer("Content-Type: image/png\r\n", own.as_bytes()),
        Kind::KeysTwice => {
            let twice = format!("{}, {}", &own[..own.len() - 1], &evil[1..]);
            answer("", twice.as_bytes())
        }
        Kind::CutBody => {
            let bytes = answer("", format!("{evil}     ").as_bytes());
            bytes[..bytes.len() - 5].to_vec()
        }
        Kind::ChunksWithoutEnd => {
            let chunk = format!("{:x}\r\n{evil}\r\n", evil.len());
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}{chunk}").as_bytes()).await?;
            std::future::pending().await
        }
        Kind::HeaderFlood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream.write_all(&b"X-More: more and more and more\r\n".repeat(1000)).await?;
            }
        }
        Kind::InterimFlood => loop {
            stream
                .write_all(&b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(1000))
                .await?;
        },
        Kind::DropsAfterHeader => answer("", evil.as_bytes())[..answer("", b"").len()].to_vec(),
        Kind::AnothersKeys => answer("", anothers.as_bytes()),
        Kind::UnaskedNotModified => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec(),
        Kind::PrivateKeys => answer("", with(evil, &json!({ "d": "AQAB" })).as_bytes()),
        Kind::SymmetricKeys => {
            answer("", with(evil, &json!({ "kty": "oct", "k": "c2VjcmV0" })).as_bytes())
        }
        Kind::EmptySet => answer("", b"{\"keys\":[]}"),
        Kind::ChangingSet | Kind::SameNameOtherKey => {
            let key = crate::setting::key(match kind {
                Kind::SameNameOtherKey => "known",
                _ => "another-each-time",
            });
            answer("", crate::setting::jwks(&[&key]).as_bytes())
        }
        Kind::ClockFarOff => answer(
            "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Age: 4294967295\r\nCache-Control: max-age=99999999999999999999\r\n\
             Last-Modified: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
            own.as_bytes(),
        ),
        Kind::NotHttp => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        Kind::TrailingGarbage => answer("", format!("{evil}{evil}").as_bytes()),
        Kind::DeepJson => {
            let deep = format!("{{\"keys\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
            answer("", deep.as_bytes())
        }
        Kind::WideJson => {
            let wide = format!("{{\"keys\":[],\"more\":[{}0]}}", "[],".repeat(170_000));
            answer("", wide.as_bytes())
        }
        Kind::CertificateExpired | Kind::CertificateOfAnother | Kind::CertificateSelfSigned => {
            answer("", evil.as_bytes())
        }
    };
    stream.write_all(&whole).await?;
    stream.shutdown().await
}
