//! What passes through, and what is intercepted.

use super::support::{Cambio, Upstream, get, post};

#[tokio::test]
async fn everything_else_reaches_the_upstream() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let response = cambio.request(get("/hello?a=b", "X-Own: 1\r\n")).await;
    assert_eq!((response.status, response.text()), (200, "ok"));
    let seen = upstream.last();
    assert_eq!((seen.method(), seen.target()), ("GET", "/hello?a=b"));
    assert_eq!(seen.header("x-own"), Some("1"));
}

#[tokio::test]
async fn another_grant_is_replayed_to_the_byte_and_an_exchange_never_gets_there() {
    let upstream = Upstream::start().await;
    let cambio = Cambio::start(&upstream.url(), "").await;
    let body = "grant_type=client_credentials&scope=a%20b";
    let response =
        cambio.request(post("/oauth2/token", "Authorization: Basic eDp5\r\n", body)).await;
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!(upstream.last().body, body.as_bytes());
    assert_eq!(upstream.last().header("authorization"), Some("Basic eDp5"));
    let exchange = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x";
    let response = cambio.request(post("/oauth2/token", "", exchange)).await;
    assert_eq!(response.status, 401, "{response:?}");
    assert!(response.header("cambio-decision").is_some());
    assert_eq!(upstream.requests().len(), 1);
}
