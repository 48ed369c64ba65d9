//! TLS on both sides: HTTP/1.1 and HTTP/2 towards clients, verified towards the upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

pub use super::authority::{Authority, LISTEN};
use super::leap::{leap, settle, until};
use super::support::{Cambio, Connection, PATIENCE, Upstream, folder, get, load, post};

const EXCHANGE: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x";

pub async fn connect(
    cambio: &Cambio,
    authority: &Authority,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_to(cambio.address(), authority, alpn).await
}

pub async fn connect_to(
    address: SocketAddr,
    authority: &Authority,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    authority.connector(alpn).connect(name, stream).await
}

pub async fn start(upstream: &str, more: &str) -> (Cambio, Authority) {
    let folder = folder();
    let authority = Authority::new();
    authority.write_leaf(folder.path());
    let more = format!("{LISTEN}{more}");
    let config = load(folder.path(), upstream, &more);
    let metrics = Arc::new(cambio::telemetry::metrics::Metrics::new());
    let running = cambio::app::App::start(config, metrics).await.unwrap();
    (Cambio { running, folder }, authority)
}

#[tokio::test]
async fn http_1_over_tls() {
    let upstream = Upstream::start().await;
    let (cambio, authority) = start(&upstream.url(), "").await;
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let stream = connect(&cambio, &authority, alpn).await.unwrap();
        let mut connection = Connection::over(stream);
        assert_eq!(connection.request(get("/x", "")).await.text(), "ok");
        assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
        assert_eq!(connection.request(post("/oauth2/token", "", EXCHANGE)).await.status, 401);
        assert_eq!(connection.request(post("/oauth2/token", "", "a=b")).await.status, 200);
    }
}

pub type Http2 = h2::client::SendRequest<Bytes>;

pub async fn http_2(cambio: &Cambio, authority: &Authority) -> Http2 {
    let stream = connect(cambio, authority, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

pub async fn ask(
    client: &mut Http2,
    request: Request<()>,
    body: &[u8],
) -> Result<(http::response::Parts, Vec<u8>), h2::Error> {
    *client = client.clone().ready().await?;
    let (response, mut stream) = client.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true)?;
    }
    let response = tokio::time::timeout(PATIENCE, response).await.expect("no response")?;
    let (parts, mut body) = response.into_parts();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    Ok((parts, whole))
}

fn form(path: &str) -> http::request::Builder {
    let form = "application/x-www-form-urlencoded";
    Request::post(format!("https://idp.example{path}")).header("content-type", form)
}

#[tokio::test]
async fn http_2_over_tls() {
    let upstream = Upstream::start().await;
    let (cambio, authority) = start(&upstream.url(), "").await;
    let mut client = http_2(&cambio, &authority).await;
    let request = Request::get("https://idp.example/x?y").header("x-forwarded-for", "6.6.6.6");
    let (parts, body) = ask(&mut client, request.body(()).unwrap(), b"").await.unwrap();
    assert_eq!((parts.status.as_u16(), &body[..]), (200, &b"ok"[..]));
    assert_eq!(parts.headers["via"], "1.1 cambio");
    let seen = upstream.last();
    assert_eq!(seen.target(), "/x?y");
    assert_eq!(seen.all("host"), ["idp.example"]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-host"), ["idp.example"]);
    assert_eq!(seen.all("via"), ["2 cambio"]);
    // Interception is the same.
    let large = "a".repeat(65_536);
    for (path, body, status) in [
        ("/oauth2/token", EXCHANGE, 401),
        ("/oauth2//token", EXCHANGE, 401),
        ("/oauth2/token", "grant_type=client_credentials", 200),
        ("/oauth2/token", &large, 200),
        ("/oauth2/token", &format!("{large}a"), 413),
        ("/oauth2/introspect", &format!("{large}a"), 413),
    ] {
        let request = form(path).body(()).unwrap();
        let (parts, _) = ask(&mut client, request, body.as_bytes()).await.unwrap();
        assert_eq!(parts.status.as_u16(), status, "{path} {}", body.len());
        if status == 200 {
            assert_eq!(upstream.last().body, body.as_bytes());
        }
    }
    for request in upstream.requests() {
        assert!(!String::from_utf8_lossy(&request.raw).contains("token-exchange"));
    }
    let (parts, _) =
        ask(&mut client, Request::get("https://idp.example/oauth2/jwks").body(()).unwrap(), b"")
            .await
            .unwrap();
    assert_eq!(parts.status, 200);
    let trace = Request::builder().method("TRACE").uri("https://idp.example/").body(()).unwrap();
    assert_eq!(ask(&mut client, trace, b"").await.unwrap().0.status, 405);
}

/// Many clients take a reset for a failure, even one that follows a whole answer.
#[tokio::test]
async fn a_body_that_is_too_large_is_refused_on_http_2_without_a_reset() {
    let upstream = Upstream::start().await;
    let (cambio, authority) = start(&upstream.url(), "").await;
    let mut client = http_2(&cambio, &authority).await;
    for (path, length, announced) in [
        ("/oauth2/token", 65_537, true),
        ("/oauth2/token", 65_537, false),
        ("/oauth2/introspect", 300_000, true),
        ("/oauth2/revoke", 300_000, false),
    ] {
        let request = form(path);
        let request = if announced { request.header("content-length", length) } else { request };
        let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
        let mut left = length;
        while left > 0 {
            stream.reserve_capacity(left.min(16_384));
            let room =
                tokio::time::timeout(PATIENCE, std::future::poll_fn(|c| stream.poll_capacity(c)));
            let room = room.await.expect("no room").expect("reset").expect("reset");
            left -= room;
            stream.send_data(vec![b'a'; room].into(), left == 0).expect("reset");
        }
        let response =
            tokio::time::timeout(PATIENCE, response).await.expect("no response").unwrap();
        assert_eq!(response.status(), 413, "{path} {length} {announced}");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_body_that_stalls_on_http_2_is_timed_out() {
    let upstream = Upstream::start().await;
    let (cambio, authority) = start(&upstream.url(), "limits: { body_timeout: 200ms }\n").await;
    let mut client = http_2(&cambio, &authority).await;
    let (response, mut stream) =
        client.send_request(form("/oauth2/token").body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(b"grant_"), false).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.expect("no response").unwrap();
    assert_eq!(response.status(), 408);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn silent_tls_clients_do_not_stay() {
    const SILENCE: Duration = Duration::from_secs(10);
    let upstream = Upstream::start().await;
    let limits = "limits: { header_timeout: 10s, idle_timeout: 10s }\n";
    let (cambio, authority) = start(&upstream.url(), limits).await;
    // No handshake.
    let mut silent = cambio.connect().await;
    until(|| cambio.running.connections() == 1).await;
    leap(SILENCE).await;
    assert!(silent.is_closed().await);
    // No preface.
    let mut stream = connect(&cambio, &authority, &[b"h2"]).await.unwrap();
    settle().await;
    leap(SILENCE).await;
    let mut settings = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut settings)).await;
    assert!(closed.is_ok());
    // No request, and none after the first.
    for requests in 0..2 {
        let mut client = http_2(&cambio, &authority).await;
        for _ in 0..requests {
            let request = Request::get("https://idp.example/x").body(()).unwrap();
            assert_eq!(ask(&mut client, request, b"").await.unwrap().0.status, 200);
        }
        settle().await;
        leap(SILENCE).await;
        until(|| cambio.running.connections() == 0).await;
    }
    // Plain HTTP is no TLS.
    let mut plain = cambio.connect().await;
    plain.send(get("/x", "")).await;
    assert!(plain.receive().await.is_none_or(|response| response.status == 400));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_new_certificate_serves_after_a_reload() {
    let upstream = Upstream::start().await;
    let (cambio, old) = start(&upstream.url(), "").await;
    let kept = connect(&cambio, &old, &[]).await.unwrap();
    let mut kept = Connection::over(kept);
    assert_eq!(kept.request(get("/x", "")).await.status, 200);
    let new = Authority::new();
    new.write_leaf(cambio.folder.path());
    cambio.reload(&upstream.url(), LISTEN).await;
    let mut fresh = Connection::over(connect(&cambio, &new, &[]).await.unwrap());
    assert_eq!(fresh.request(get("/x", "")).await.status, 200);
    assert!(connect(&cambio, &old, &[]).await.is_err());
    assert_eq!(kept.request(get("/x", "")).await.status, 200);
}

/// An upstream that speaks TLS and answers one request for each connection.
async fn tls_upstream(authority: &Authority) -> u16 {
    let (certificate, key) = authority.issue();
    let chain: Vec<CertificateDer<'static>> =
        rustls_pki_types::pem::PemObject::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
    let key = rustls_pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
                let mut request = vec![0; 4096];
                let Ok(1..) = stream.read(&mut request).await else { return };
                let body = if request.starts_with(b"GET /oauth2/jwks") {
                    "{\"keys\":[]}".to_owned()
                } else {
                    name
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}

#[tokio::test]
async fn the_upstream_is_verified_by_its_own_authority_and_name() {
    super::support::install_crypto();
    let authority = Authority::new();
    let port = tls_upstream(&authority).await;
    let overlay = "authorization_server:\n  issuer: https://idp.example\n  overlay: true\n  \
                   endpoints: { token: [/oauth2/token], jwks: /oauth2/jwks, \
                   introspection: /oauth2/introspect }\n";
    for (host, trusted, expected) in [
        ("localhost", true, Some("localhost")),
        // An address is verified, too, but no name to ask for.
        ("127.0.0.1", true, Some("none")),
        ("localhost", false, None),
    ] {
        let folder = folder();
        let pem = if trusted { authority.issuer.pem() } else { Authority::new().issuer.pem() };
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        let more = format!(
            "upstream: {{ url: \"https://{host}:{port}\", ca: {{ file: ca.pem }}, \
             timeouts: {{ connect: 1s, read: 2s }} }}\n{overlay}"
        );
        let config = load(folder.path(), "", &more);
        let metrics = Arc::new(cambio::telemetry::metrics::Metrics::new());
        let running = cambio::app::App::start(config, metrics).await.unwrap();
        let cambio = Cambio { running, folder };
        let response = cambio.request(get("/x", "")).await;
        let document = cambio.request(get("/oauth2/jwks", "")).await;
        let inquiry = cambio.request(post("/oauth2/introspect", "", "token=cambio_at_x")).await;
        match expected {
            Some(name) => {
                assert_eq!((response.status, response.text()), (200, name), "{host}");
                assert_eq!((inquiry.status, inquiry.text()), (200, name), "{host}");
                assert_eq!(document.json()["keys"].as_array().unwrap().len(), 1);
            }
            None => {
                assert_eq!((response.status, document.status), (502, 502), "{host}");
                assert_eq!(inquiry.status, 503, "{host}");
            }
        }
    }
}

/// Of a token that looks like ours, the upstream is asked by a client of our own.
#[tokio::test]
async fn an_inquiry_on_http_2_goes_upstream_as_others_do() {
    let upstream = Upstream::start().await;
    let (cambio, authority) = start(&upstream.url(), "").await;
    let mut client = http_2(&cambio, &authority).await;
    for token in ["cambio_at_x", "theirs"] {
        let body = format!("token={token}&x=%7e");
        let request = form("/oauth2/introspect?a=b")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("authorization", "Basic YTpi")
            .header("x-forwarded-for", "6.6.6.6");
        let (parts, answer) =
            ask(&mut client, request.body(()).unwrap(), body.as_bytes()).await.unwrap();
        assert_eq!((parts.status.as_u16(), &answer[..]), (200, &b"ok"[..]), "{token}");
        assert_eq!(parts.headers["via"], "1.1 cambio");
        assert_eq!(parts.headers["content-length"], "2");
        let seen = upstream.last();
        assert_eq!(seen.body, body.as_bytes());
        assert_eq!((seen.method(), seen.target()), ("POST", "/oauth2/introspect?a=b"));
        for (name, values) in [
            ("host", &["idp.example"][..]),
            ("cookie", &["a=1; b=2"]),
            ("authorization", &["Basic YTpi"]),
            ("x-forwarded-for", &["127.0.0.1"]),
            ("x-forwarded-proto", &["https"]),
            ("via", &["2 cambio"]),
        ] {
            assert_eq!(seen.all(name), values, "{token} {name}");
        }
        let is_suspected = token != "theirs";
        assert_eq!(seen.header("accept-encoding"), is_suspected.then_some("identity"));
    }
}

#[tokio::test]
async fn http_2_becomes_http_1_that_can_be_read_in_one_way() {
    let upstream = Upstream::start().await;
    let (cambio, authority) = start(&upstream.url(), "").await;
    let mut client = http_2(&cambio, &authority).await;
    // RFC 9113 §8.2.3: browsers split their cookies, and servers of HTTP/1 read the first field.
    let request = Request::get("https://idp.example/x").header("cookie", "a=b");
    let request = request.header("cookie", "c=d").header("x-own", "1").header("x-own", "2");
    ask(&mut client, request.body(()).unwrap(), b"").await.unwrap();
    assert_eq!(upstream.last().all("cookie"), ["a=b; c=d"]);
    assert_eq!(upstream.last().all("x-own"), ["1", "2"]);
    assert_eq!(upstream.last().header("content-length"), None);
    // RFC 9110 §8.6: no data is a body of no length.
    for path in ["/x", "/oauth2/token"] {
        let request = Request::post(format!("https://idp.example{path}")).body(()).unwrap();
        assert_eq!(ask(&mut client, request, b"").await.unwrap().0.status, 200);
        assert_eq!(upstream.last().all("content-length"), ["0"], "{path}");
        assert_eq!(upstream.last().header("transfer-encoding"), None, "{path}");
    }
    let before = upstream.requests().len();
    let twice = Request::post("https://idp.example/x").header("content-length", "3");
    let twice = twice.header("content-length", "3").body(()).unwrap();
    assert_eq!(ask(&mut client, twice, b"abc").await.unwrap().0.status, 400);
    assert_eq!(upstream.requests().len(), before);
}

#[tokio::test]
async fn a_client_that_sends_nonsense_keeps_no_place() {
    // It never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let slow = format!("upstream: {{ url: \"{url}\", timeouts: {{ connect: 1s, read: 60s }} }}\n");
    let (cambio, authority) = start(&url, &slow).await;
    let mut client = http_2(&cambio, &authority).await;
    let mut held = Vec::new();
    for nonsense in 0..40 {
        // The first ones are none.
        let host = if nonsense < 3 { "idp.example" } else { "other.example" };
        let request = Request::post("https://idp.example/x").header("host", host).body(()).unwrap();
        let Ok(ready) = client.clone().ready().await else { break };
        client = ready;
        let Ok((response, stream)) = client.send_request(request, false) else { break };
        if nonsense < 3 {
            held.push((response, stream));
        } else {
            let answer = tokio::time::timeout(PATIENCE, response).await;
            if answer.expect("it neither answers nor closes").is_err() {
                break;
            }
        }
    }
    let gone = async {
        while cambio.running.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it keeps its place");
}
