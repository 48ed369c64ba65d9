//! Documents in whatever coding and framing the upstream sends them, as clients get them.

use std::io::Write as _;

use super::documents_support::{Idp, JWKS, METADATA, THEIR_KEY, ask, json, keys, overlay};
use super::support::{Cambio, Connection, Recorded, get, response};

/// As the upstream has the body on the wire.
type Coding = fn(&[u8]) -> Vec<u8>;

fn identity(body: &[u8]) -> Vec<u8> {
    body.to_vec()
}

pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// RFC 9110 §8.4.1.2: in the zlib format.
pub fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

pub fn brotli(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 5, 20).write_all(body).unwrap();
    out
}

pub fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 3).unwrap()
}

const CODINGS: [(&str, Coding); 6] = [
    ("", identity),
    ("identity", identity),
    ("gzip", gzip),
    ("deflate", deflate),
    ("br", brotli),
    ("zstd", zstd),
];

/// In chunks of seven bytes, with an extension and a trailer.
fn chunked(fields: &str, body: &[u8]) -> Vec<u8> {
    let mut out =
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(7) {
        out.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
    out
}

#[tokio::test]
async fn in_every_coding_and_framing_it_is_the_same_document() {
    let theirs = format!("{{\"keys\":[{THEIR_KEY}]}}");
    let metadata = r#"{"issuer":"https://idp.example/oauth2/token"}"#;
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    for (path, document) in [(JWKS, theirs), (METADATA, metadata.to_owned())] {
        let mut seen = Vec::new();
        for (coding, encode) in CODINGS {
            for is_chunked in [false, true] {
                let body = encode(document.as_bytes());
                idp.answers(move |_| {
                    let mut fields = String::from(
                        "Content-Type: application/jwk-set+json\r\nVary: Accept-Encoding\r\n\
                         Cache-Control: no-store\r\nETag: W/\"theirs\"\r\nDigest: sha-256=x\r\n\
                         Last-Modified: Tue, 01 Dec 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n",
                    );
                    if !coding.is_empty() {
                        fields += &format!("Content-Encoding: {coding}\r\n");
                    }
                    if is_chunked {
                        return chunked(&fields, &body);
                    }
                    let length = format!("Content-Length: {}\r\n\r\n", body.len());
                    [format!("HTTP/1.1 200 OK\r\n{fields}{length}").as_bytes(), &body].concat()
                });
                // Whatever this client may get, it may get it uncoded.
                let accept = "Accept-Encoding: gzip, br\r\nRange: bytes=0-3\r\n";
                let whole = ask(&cambio, get(path, accept)).await;
                let context = format!("{path} {coding} {is_chunked}");
                assert_eq!(whole.status, 200, "{context}");
                let length = whole.body.len().to_string();
                assert_eq!(whole.all("content-length"), [&*length], "{context}");
                assert_eq!(whole.header("vary"), Some("Accept-Encoding"));
                assert_eq!(whole.header("cache-control"), Some("no-store"));
                assert_eq!(whole.header("content-type"), Some("application/jwk-set+json"));
                // What was said of other bytes is not said of these.
                for gone in
                    ["content-encoding", "digest", "last-modified", "accept-ranges", "x-trailer"]
                {
                    assert_eq!(whole.header(gone), None, "{context}: {gone}");
                }
                assert_eq!(whole.header("transfer-encoding"), None, "{context}");
                let etag = whole.header("etag").unwrap().to_owned();
                assert!(etag.starts_with('"'), "{context}: {etag}");
                seen.push((whole.body.clone(), etag));
            }
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "{path}");
    }
    let asked = idp.upstream.last();
    for coding in ["gzip", "deflate", "br", "zstd"] {
        assert!(asked.header("accept-encoding").unwrap().contains(coding), "{coding}");
    }
    assert_eq!(asked.header("range"), None);
}

#[tokio::test]
async fn a_client_that_has_the_document_is_told_so_and_head_has_no_body() {
    let body = gzip(format!("{{\"keys\":[{THEIR_KEY}]}}").as_bytes());
    let idp = Idp::start(move |_| {
        let fields =
            [("Content-Encoding", "gzip"), ("Cache-Control", "max-age=0"), ("Vary", "Origin")];
        response("200 OK", &fields, &body)
    })
    .await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let mut connection = cambio.connect().await;
    let whole = connection.request(get(JWKS, "")).await;
    let etag = whole.header("etag").unwrap().to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"a\" ,W/\"b\",{etag}"), "*".into()] {
        for method in ["GET", "HEAD"] {
            let request = format!(
                "{method} {JWKS} HTTP/1.1\r\nHost: idp.example\r\nIf-None-Match: {known}\r\n\r\n"
            );
            let same = connection.request(request).await;
            assert_eq!(same.status, 304, "{method} {known}");
            // RFC 9110 §15.4.5: what a 200 would have said.
            assert_eq!(same.header("etag"), Some(&*etag));
            assert_eq!(same.header("cache-control"), Some("max-age=0"));
            assert_eq!(same.header("vary"), Some("Origin"));
            assert_eq!(same.header("content-encoding"), None);
        }
    }
    for other in ["\"a\"", "W/\"b\"", "", "\"*\""] {
        let fields = format!("If-None-Match: {other}\r\n");
        assert_eq!(connection.request(get(JWKS, &fields)).await.status, 200, "{other}");
    }
    // A condition on a time is none, as no time is told.
    let fields = "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n";
    assert_eq!(connection.request(get(JWKS, fields)).await.body, whole.body);
    let head = format!("HEAD {JWKS} HTTP/1.1\r\nHost: idp.example\r\n\r\n");
    let head = connection.request(head).await;
    assert_eq!(head.header("content-length"), Some(&*whole.body.len().to_string()));
    // Whoever reads on finds the next answer, and no body.
    assert_eq!(connection.request(get(JWKS, "")).await.body, whole.body);
}

#[tokio::test]
async fn what_can_not_be_decoded_counts_as_down() {
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let good = cambio.request(get(JWKS, "")).await;
    let bad: [fn(&Recorded) -> Vec<u8>; 7] = [
        |_| response("200 OK", &[("Content-Encoding", "compress")], b"{\"keys\":[]}"),
        |_| response("200 OK", &[("Content-Encoding", "aes128gcm")], b"{\"keys\":[]}"),
        |_| response("200 OK", &[("Content-Encoding", "gzip")], b"{\"keys\":[]}"),
        |_| response("200 OK", &[("Content-Encoding", "br")], &gzip(b"{\"keys\":[]}")),
        // Cut off in the middle.
        |_| response("200 OK", &[("Content-Encoding", "gzip")], &gzip(b"{\"keys\":[]}")[..14]),
        // More than a megabyte, by what comes out of it.
        |_| response("200 OK", &[("Content-Encoding", "gzip")], &gzip(&large())),
        |_| response("200 OK", &[("Content-Encoding", "zstd")], &zstd(&large())),
    ];
    for (at, bad) in bad.into_iter().enumerate() {
        idp.answers(bad);
        let served = cambio.request(get(JWKS, "")).await;
        assert_eq!((served.status, &served.body), (200, &good.body), "{at}");
        let other = format!("GET {JWKS} HTTP/1.1\r\nHost: never-seen\r\n\r\n");
        assert_eq!(cambio.request(other).await.status, 502, "{at}");
    }
}

/// A key set of more than a megabyte.
fn large() -> Vec<u8> {
    format!("{{\"keys\":[]{}}}", " ".repeat(1024 * 1024)).into_bytes()
}

#[tokio::test]
async fn documents_are_merged_up_to_a_megabyte_whatever_is_in_them() {
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let deep = format!("{}{}", "[".repeat(300_000), "]".repeat(300_000));
    for theirs in [
        format!("{{\"keys\":[{THEIR_KEY}],\"x\":\"{}\"}}", "x".repeat(1_000_000)),
        format!("{{\"keys\":[{}]}}", vec![THEIR_KEY; 5000].join(",")),
        format!("{{\"x\":{deep},\"keys\":[]}}"),
        format!("{{\"keys\":[{deep}]}}"),
        r#"{"n":1e400,"m":-0.0E-999,"keys":[{"n":123456789012345678901234567890}]}"#.to_owned(),
        "\r\n\t {\r\n \"k\\u0065ys\" : [ ]\r\n }\r\n".to_owned(),
    ] {
        assert!(theirs.len() <= 1024 * 1024);
        let body = theirs.clone();
        idp.answers(move |_| json(&body));
        let merged = ask(&cambio, get(JWKS, "")).await;
        assert_eq!(merged.status, 200);
        // Ours is put in at one place, and nothing is taken away.
        let text = merged.text();
        let ours = text.find("{\"kty\":\"EC\",\"use\":\"sig\"").unwrap();
        let end = ours + text[ours..].find('}').unwrap() + 1;
        let begin = if theirs.starts_with(&text[..ours]) { ours } else { ours - 1 };
        assert_eq!([&text[..begin], &text[end..]].concat(), theirs);
    }
    let good = cambio.request(get(JWKS, "")).await;
    let bad: [&[u8]; 7] = [
        b"",
        b"\xef\xbb\xbf{\"keys\":[]}",
        b"{\"keys\":[],\"x\":\"\xff\"}",
        b"\xff\xfe{\0}\0",
        b"{\"keys\":[],\"x\":1,\"x\":2}",
        b"{\"keys\":[]",
        b"[{\"keys\":[]}]",
    ];
    for bad in bad {
        idp.answers(move |_| json(bad));
        let served = cambio.request(get(JWKS, "")).await;
        assert_eq!((served.status, &served.body), (200, &good.body), "{}", bad.escape_ascii());
    }
}

#[tokio::test]
async fn a_set_that_nobody_may_store_is_asked_for_once_at_a_time() {
    let idp =
        Idp::start(|_| response("200 OK", &[("Cache-Control", "no-store")], b"{\"keys\":[]}"))
            .await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    let mut clients: Vec<Connection> = Vec::new();
    for _ in 0..100 {
        clients.push(cambio.connect().await);
    }
    for _ in 0..3 {
        for client in &mut clients {
            client.send(get(JWKS, "")).await;
        }
        for client in &mut clients {
            let answer = client.receive().await.unwrap();
            assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
        }
    }
    // Of 300.
    assert!(idp.asked() <= 60, "{}", idp.asked());
    // Who asks later learns of a change at once.
    idp.answers(keys);
    assert!(ask(&cambio, get(JWKS, "")).await.text().contains(THEIR_KEY));
}

#[tokio::test]
async fn a_preflight_is_the_upstreams_to_answer() {
    let idp = Idp::start(|request| {
        if request.method() == "OPTIONS" {
            let fields = [("Access-Control-Allow-Origin", request.header("origin").unwrap())];
            return response("204 No Content", &fields, b"");
        }
        keys(request)
    })
    .await;
    let cambio = Cambio::start(&idp.upstream.url(), overlay()).await;
    for path in [JWKS, METADATA] {
        let preflight = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: idp.example\r\nOrigin: https://rp.example\r\n\
             Access-Control-Request-Method: GET\r\n\r\n"
        );
        let answer = cambio.request(preflight).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://rp.example"));
        let seen = idp.upstream.requests();
        let seen = seen.iter().rfind(|request| request.method() == "OPTIONS").unwrap();
        assert_eq!(seen.header("access-control-request-method"), Some("GET"));
    }
}
