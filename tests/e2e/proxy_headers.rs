//! Header fields both ways, and requests that are refused for their form: each with its valid twin.

use super::documents_support::overlay;
use super::support::{Cambio, Upstream, get, response};

#[tokio::test]
async fn what_a_client_says_of_its_way_is_replaced_by_what_we_know() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let lies = "Forwarded: for=6.6.6.6;host=evil\r\nX-Forwarded-For: 6.6.6.6\r\n\
                X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Port: 1\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Host: evil\r\n\
                x_forwarded-user: root\r\nX-FORWARDED-URI: /admin\r\nX-Forwarded-Prefix: /p\r\n";
    for path in ["/x", "/oauth2/introspect", "/oauth2/token"] {
        cambio.request(get(path, lies)).await;
        let seen = upstream.last();
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"], "{path}");
        assert_eq!(seen.all("x-forwarded-host"), ["idp.example"]);
        assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
        assert_eq!(seen.all("forwarded"), ["for=127.0.0.1;host=\"idp.example\";proto=http"]);
        assert_eq!(seen.all("host"), ["idp.example"]);
        assert_eq!(seen.all("via"), ["1.1 cambio"]);
        for lie in ["6.6.6.6", "7.7.7.7", "evil", "root", "admin", "_", "Port", "Prefix"] {
            assert!(!seen.head.contains(lie), "{path} {lie}: {}", seen.head);
        }
    }
}

#[tokio::test]
async fn every_other_field_arrives_as_it_was_sent() {
    let upstream = Upstream::answering(|_| {
        response(
            "200 Fine",
            &[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/"), ("X-Odd", "")],
            b"x",
        )
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let fields = "Authorization: Basic eDp5\r\nCookie: a=b; c=d\r\nCookie: e=f\r\nDPoP: x.y.z\r\n\
                  X-Request-Id: 1\r\nX-Real-IP: 5.5.5.5\r\nAccept-Encoding: gzip, br\r\n\
                  Via: 1.0 edge\r\nX-Odd: ä\r\nRange: bytes=0-1\r\n";
    let response = cambio.request(get("/x", fields)).await;
    let seen = upstream.last();
    for line in fields.lines() {
        assert!(seen.head.contains(line), "{line}: {}", seen.head);
    }
    assert_eq!(seen.all("via"), ["1.0 edge", "1.1 cambio"]);
    assert!(seen.head.contains("DPoP:"), "the case of names is kept: {}", seen.head);
    assert_eq!(response.all("set-cookie"), ["a=1", "b=2; Path=/"]);
    assert_eq!(response.header("x-odd"), Some(""));
    assert_eq!(response.header("via"), Some("1.1 cambio"));
    assert_eq!(response.header("server"), None);
    assert!(response.head.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn hop_by_hop_fields_end_here_both_ways() {
    let upstream = Upstream::answering(|_| {
        let fields = [
            ("Connection", "keep-alive, X-Hop"),
            ("Keep-Alive", "timeout=5"),
            ("X-Hop", "1"),
            ("Proxy-Connection", "x"),
            ("Upgrade", "h2c"),
            ("Server", "idp/1"),
        ];
        response("200 OK", &fields, b"x")
    })
    .await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let fields = "Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=9\r\nX-Hop: 1\r\n\
                  TE: trailers\r\nProxy-Connection: x\r\nProxy-Authorization: Basic x\r\n";
    let response = cambio.request(get("/x", fields)).await;
    let seen = upstream.last();
    for name in ["keep-alive", "x-hop", "te", "proxy-connection", "proxy-authorization"] {
        assert_eq!(seen.header(name), None, "{name}");
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("upgrade"), None);
    assert_eq!(response.header("server"), Some("idp/1"));
}

#[tokio::test]
async fn requests_are_refused_for_their_form_and_their_valid_twins_are_served() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let valid: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"OPTIONS / HTTP/1.0\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Own\r\nX-Own: 1\r\n\r\n",
        b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in valid {
        let before = upstream.requests().len();
        let response = cambio.request(request).await;
        assert_eq!(response.status, 200, "{}", request.escape_ascii());
        assert_eq!(upstream.requests().len(), before + 1);
        // HTTP/1.0 knows no `Host`, and HTTP/1.1 must have it.
        let named = request.windows(6).any(|window| window == b"Host: ");
        let own = upstream.address.to_string();
        let host = if named { "a" } else { &own };
        assert_eq!(upstream.last().all("host"), [host], "{}", request.escape_ascii());
    }
    let served = upstream.requests().len();
    let refused: &[(u16, &[u8])] = &[
        // The target and who is meant.
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /x` HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /?\" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a\\b HTTP/1.1\r\nHost: a\r\n\r\n"),
        // Methods.
        (405, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        // Framing.
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc"),
        // Lines.
        (400, b"GET / HTTP/1.1\nHost: a\n\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        // Fields that decide, nominated away (RFC 9110 §7.6.1).
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Authorization\r\nAuthorization: x\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: cookie\r\nCookie: x\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Via\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: content-type\r\n\r\n"),
    ];
    for (status, request) in refused {
        let mut connection = cambio.connect().await;
        let smuggled = [*request, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let response = connection.request(smuggled).await;
        let name = request.escape_ascii();
        assert_eq!(response.status, *status, "{name}");
        assert!(connection.is_closed().await, "{name}");
        // It is our own answer, whoever found the fault.
        assert!(response.header("cambio-decision").is_some(), "{name}");
        assert_eq!(response.header("server"), None, "{name}");
    }
    let got: Vec<_> = upstream.requests().split_off(served);
    assert!(got.is_empty(), "{got:#?}");
}

/// Where its documents are merged with ours, the identity provider goes by the issuer's name.
#[tokio::test]
async fn a_request_that_names_no_host_gets_the_issuers_with_overlay() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), overlay()).await;
    for (request, host) in [
        ("OPTIONS / HTTP/1.0\r\n\r\n", "idp.example"),
        ("OPTIONS / HTTP/1.0\r\nHost: b:81\r\n\r\n", "b:81"),
    ] {
        assert_eq!(cambio.request(request).await.status, 200, "{request}");
        let seen = upstream.requests().into_iter().rfind(|seen| seen.target() == "/").unwrap();
        assert_eq!(seen.all("host"), [host]);
        assert_eq!(seen.all("x-forwarded-host").len(), usize::from(host == "b:81"));
    }
}

#[tokio::test]
async fn our_own_refusals_say_so_and_no_more() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let refused = cambio.request("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(refused.header("cambio-decision").is_some_and(|id| id.len() >= 16));
    assert!(refused.header("allow").unwrap().contains("GET"));
    assert_eq!(refused.header("server"), None);
    assert_eq!(refused.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(refused.header("connection"), Some("close"));
    let again = cambio.request("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_ne!(refused.header("cambio-decision"), again.header("cambio-decision"));
}

#[tokio::test]
async fn a_header_section_may_be_large_but_not_larger() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let request = |size: usize| {
        let rest = get("/x", "X: \r\n").len();
        get("/x", &format!("X: {}\r\n", "a".repeat(size - rest)))
    };
    assert_eq!(request(32 * 1024).len(), 32 * 1024);
    assert_eq!(cambio.request(request(32 * 1024)).await.status, 200);
    for size in [32 * 1024 + 1, 40_000, 200_000] {
        let mut connection = cambio.connect().await;
        let response = connection.request(request(size)).await;
        assert_eq!(response.status, 431, "{size}");
        assert!(connection.is_closed().await);
    }
    assert_eq!(upstream.requests().len(), 1);
}
