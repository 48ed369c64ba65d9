//! Who may ask for a revocation, and in what form: each refusal beside what passes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cambio::admin::order::{Kind, Order, Report, RevokeError, Revoked, Target};
use cambio::admin::{Admin, serve};
use cambio::telemetry::metrics::Metrics;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::leap::{leap, settle, until};
use crate::support::{Connection, Response};

const BODY: &str = r#"{"subject":"alice"}"#;
const JSON: &str = "Content-Type: application/json\r\n";
const LOCAL: &str = "Host: 127.0.0.1\r\n";

/// An admin listener with a stand-in behind it that remembers its orders.
struct Listening {
    address: std::net::SocketAddr,
    orders: Arc<Mutex<Vec<Order>>>,
    /// What the next order waits for.
    hold: Arc<Mutex<Option<Arc<Notify>>>>,
    _stop: watch::Sender<bool>,
}

fn report() -> Report {
    Report {
        ancestor: Kind::Subject,
        iss: None,
        client_id: None,
        name: None,
        before: "2026-01-01T00:00:00Z".to_owned(),
        families: 1,
        opaque_access_tokens: 2,
    }
}

async fn listening(token: Option<&'static str>, result: Result<Report, RevokeError>) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let orders = Arc::new(Mutex::new(Vec::new()));
    let hold = Arc::new(Mutex::new(None::<Arc<Notify>>));
    let (seen, next) = (Arc::clone(&orders), Arc::clone(&hold));
    let admin = Admin {
        metrics: Arc::new(Metrics::new()),
        status: Box::new(|| panic!("nobody asks for it here")),
        token: Box::new(move || token.map(SecretString::from)),
        revoke: Box::new(move |order| {
            seen.lock().unwrap().push(order);
            let (wait, result) = (next.lock().unwrap().take(), result.clone());
            Box::pin(async move {
                if let Some(wait) = wait {
                    wait.notified().await;
                }
                Revoked { decision: "a-decision".to_owned(), result }
            })
        }),
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, Arc::new(admin), stopped));
    Listening { address, orders, hold, _stop: stop }
}

impl Listening {
    async fn ask(&self, method: &str, fields: &str, body: &str) -> Response {
        let length = body.len();
        let request =
            format!("{method} /revoke HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
        Connection::open(self.address).await.request(request).await
    }

    async fn post(&self, fields: &str, body: &str) -> Response {
        self.ask("POST", fields, body).await
    }

    fn orders(&self) -> usize {
        self.orders.lock().unwrap().len()
    }

    /// It passes, and is the only one that does.
    async fn passes(&self, fields: &str) {
        let before = self.orders();
        let response = self.post(fields, BODY).await;
        assert_eq!(response.status, 200, "{fields}\n{}", response.text());
        assert_eq!(self.orders(), before + 1);
    }

    async fn refuses(&self, fields: &str, body: &str, status: u16, error: &str) -> Response {
        let before = self.orders();
        let response = self.post(fields, body).await;
        let shown = response.json();
        assert_eq!((response.status, &shown["error"]), (status, &json!(error)), "{fields}{body}");
        assert!(!shown["error_description"].as_str().unwrap().is_empty());
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(self.orders(), before, "{fields}{body}");
        response
    }
}

#[tokio::test]
async fn an_order_is_carried_out_and_its_report_shown() {
    let listening = listening(None, Ok(report())).await;
    let response = listening
        .post(&format!("{LOCAL}{JSON}"), r#"{"client":"portal","before":"2026-01-01T00:00:00Z"}"#)
        .await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("cambio-decision"), Some("a-decision"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(
        response.json(),
        json!({
            "ancestor": "subject", "before": "2026-01-01T00:00:00Z", "families": 1,
            "opaque_access_tokens": 2,
        })
    );
    let order = listening.orders.lock().unwrap().pop().unwrap();
    assert_eq!(order.target, Target::Client("portal".to_owned()));
    assert_eq!(order.before.map(cambio::time::Timestamp::as_secs), Some(1_767_225_600));
}

#[tokio::test]
async fn without_a_token_a_name_in_host_is_refused() {
    let listening = listening(None, Ok(report())).await;
    for host in ["127.0.0.1", "localhost:9464", "[::1]", "192.0.2.7:1"] {
        listening.passes(&format!("Host: {host}\r\n{JSON}")).await;
    }
    for host in ["evil.example", "localhost.evil.example:9464", "127.0.0.1.evil.example"] {
        let fields = format!("Host: {host}\r\n{JSON}");
        listening.refuses(&fields, BODY, 403, "access_denied").await;
    }
}

#[tokio::test]
async fn web_pages_are_refused_with_a_token_and_without() {
    let open = listening(None, Ok(report())).await;
    open.passes(&format!("{LOCAL}{JSON}")).await;
    let guarded = listening(Some("s3cret"), Ok(report())).await;
    let token = "Authorization: Bearer s3cret\r\n";
    guarded.passes(&format!("{LOCAL}{JSON}{token}")).await;
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        let fields = format!("{LOCAL}{JSON}Origin: {origin}\r\n");
        open.refuses(&fields, BODY, 403, "access_denied").await;
        guarded.refuses(&format!("{fields}{token}"), BODY, 403, "access_denied").await;
    }
    // Nor do they get a permission to send JSON.
    let fields = format!("{LOCAL}Origin: https://evil.example\r\n");
    let preflight = open.ask("OPTIONS", &fields, "").await;
    assert_eq!((preflight.status, preflight.header("allow")), (405, Some("POST")));
    assert_eq!(preflight.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn with_a_token_it_must_be_shown() {
    let listening = listening(Some("s3cret"), Ok(report())).await;
    // Whatever the host is called.
    listening
        .passes(&format!("Host: cambio.example\r\n{JSON}Authorization: Bearer s3cret\r\n"))
        .await;
    for value in ["", "Authorization: Bearer s3cre\r\n", "Authorization: Basic s3cret\r\n"] {
        let fields = format!("{LOCAL}{JSON}{value}");
        let response = listening.refuses(&fields, BODY, 401, "invalid_token").await;
        assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"admin\""));
    }
    // A body that is none does not tell more than that.
    listening.refuses(&format!("{LOCAL}{JSON}"), "{", 401, "invalid_token").await;
}

#[tokio::test]
async fn only_json_of_the_known_form_is_an_order() {
    let listening = listening(None, Ok(report())).await;
    for content_type in ["application/json", "application/json; charset=utf-8"] {
        listening.passes(&format!("{LOCAL}Content-Type: {content_type}\r\n")).await;
    }
    for content_type in
        ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"]
    {
        let fields = format!("{LOCAL}{content_type}");
        listening.refuses(&fields, BODY, 415, "invalid_request").await;
    }
    let fields = format!("{LOCAL}{JSON}");
    for body in [
        "",
        "{}",
        r#"{"subject":"a","client":"b"}"#,
        r#"{"subject":"a","everything":true}"#,
        r#"{"subject":""}"#,
        r#"{"subject":"a","before":"tomorrow"}"#,
    ] {
        listening.refuses(&fields, body, 400, "invalid_request").await;
    }
    // 8 KiB, blanks and all.
    let padded = |length: usize| BODY.to_owned() + &" ".repeat(length - BODY.len());
    let before = listening.orders();
    assert_eq!(listening.post(&fields, &padded(8192)).await.status, 200);
    assert_eq!(listening.orders(), before + 1);
    for length in [8193, 200_000] {
        listening.refuses(&fields, &padded(length), 413, "invalid_request").await;
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let listening = listening(None, Ok(report())).await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
        let response = {
            let request = format!("{method} /revoke HTTP/1.1\r\n{LOCAL}{JSON}\r\n");
            Connection::open(listening.address).await.request(request).await
        };
        assert_eq!((response.status, response.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(listening.orders(), 0);
    for path in ["/revoke/", "//revoke", "/REVOKE", "/revok%65"] {
        let request = format!("POST {path} HTTP/1.1\r\n{LOCAL}{JSON}Content-Length: 0\r\n\r\n");
        let response = Connection::open(listening.address).await.request(request).await;
        assert_eq!(response.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_was_not_done_is_said() {
    for (error, status, code) in [
        (RevokeError::Future, 400, "invalid_time"),
        (RevokeError::UnknownIssuer, 400, "unknown_issuer"),
        (RevokeError::AmbiguousClient, 400, "ambiguous_client"),
        (RevokeError::NothingKept, 409, "nothing_kept"),
        (RevokeError::StoreUnavailable, 503, "store_unavailable"),
    ] {
        let listening = listening(None, Err(error)).await;
        let response = listening.post(&format!("{LOCAL}{JSON}"), BODY).await;
        let shown: Value = response.json();
        assert_eq!((response.status, &shown["error"]), (status, &json!(code)));
        assert_eq!(shown["error_description"], error.to_string());
        assert_eq!(response.header("cambio-decision"), Some("a-decision"));
        assert_eq!(response.header("retry-after"), (status == 503).then_some("1"));
    }
}

#[tokio::test]
async fn a_long_revocation_is_waited_for_and_a_slow_sender_is_not() {
    let listening = listening(None, Ok(report())).await;
    let held = Arc::new(Notify::new());
    *listening.hold.lock().unwrap() = Some(Arc::clone(&held));
    let mut waiting = Connection::open(listening.address).await;
    let length = BODY.len();
    let request =
        format!("POST /revoke HTTP/1.1\r\n{LOCAL}{JSON}Content-Length: {length}\r\n\r\n{BODY}");
    waiting.send(&request).await;
    until(|| listening.orders() == 1).await;
    leap(Duration::from_secs(16)).await;
    settle().await;
    leap(Duration::from_secs(40)).await;
    settle().await;
    held.notify_one();
    assert_eq!(waiting.receive().await.unwrap().status, 200);

    let mut slow = Connection::open(listening.address).await;
    slow.send(&request[..request.len() - 1]).await;
    settle().await;
    leap(Duration::from_secs(6)).await;
    assert_eq!(slow.receive().await.unwrap().status, 408);
    assert_eq!(listening.orders(), 1);
}
