//! The listener for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cambio::admin::{
    Admin, Configuration, ListenerStatus, SigningKeyStatus, Status, StoreStatus, VERSION, serve,
};
use cambio::dev::loopback::Reservation;
use cambio::keys::{IssuerStatus, KeyState};
use cambio::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::leap::{leap, settle, timed};
use crate::setting::{NOW, config};

struct Listening {
    /// Nobody else gets the port, not even once nobody listens here any more.
    reserved: Reservation,
    draining: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

fn status(draining: bool) -> Status {
    let config = config(Vec::new());
    Status {
        version: VERSION,
        uptime_seconds: 5,
        listening: true,
        draining,
        configuration: Configuration { generation: 1, loaded_at: NOW },
        last_reload: None,
        listeners: ListenerStatus::all(&config.listen),
        signing_keys: SigningKeyStatus::all(&config.signing_keys, NOW),
        missed_signing_keys: Vec::new(),
        overlay: None,
        trusted_token_issuers: vec![IssuerStatus {
            name: "partner".into(),
            source: "endpoint",
            state: KeyState::Unavailable,
            keys: 0,
            keys_from: None,
            age_seconds: None,
            last_error: Some("no connection".to_owned()),
            next_fetch_in_seconds: Some(1),
        }],
        store: Some(StoreStatus {
            kind: "embedded",
            ok: true,
            age_seconds: Some(3),
            last_error: None,
        }),
        client_authentication: Vec::new(),
    }
}

async fn listening() -> Listening {
    let reserved = Reservation::make().unwrap();
    let listener = TcpListener::bind(reserved.address()).await.unwrap();
    let draining = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&draining);
    let admin = Admin {
        metrics: Arc::new(Metrics::new()),
        status: Box::new(move || status(flag.load(Ordering::Relaxed))),
        token: Box::new(|| None),
        revoke: Box::new(|_| panic!("nothing is revoked here")),
    };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve(listener, Arc::new(admin), stopped));
    Listening { reserved, draining, stop, serving }
}

impl Listening {
    async fn ask(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.reserved.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read(stream).await
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    async fn get_json(&self, path: &str) -> (u16, Value) {
        let (status, head, body) = self.get(path).await;
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
        (status, serde_json::from_str(&body).unwrap())
    }
}

/// Status, header and body of the answer, whose connection then ends.
async fn read(mut stream: TcpStream) -> (u16, String, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, format!("{head}\r\n"), body.to_owned())
}

#[tokio::test]
async fn metrics_are_in_the_text_format() {
    let (status, head, body) = listening().await.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(body.contains("# TYPE cambio_build_info gauge\n"), "{body}");
    assert!(body.contains("cambio_config_last_reload_successful 1\n"));
}

#[tokio::test]
async fn it_lives() {
    let (status, head, body) = listening().await.get("/livez?verbose").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    assert!(head.contains("cache-control: no-store\r\n"), "{head}");
}

#[tokio::test]
async fn it_is_ready_with_a_dead_partner_and_not_in_a_drain() {
    let listening = listening().await;
    let (status, ready) = listening.get_json("/readyz").await;
    assert_eq!(status, 200);
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["degraded"], json!(["partner"]));

    listening.draining.store(true, Ordering::Relaxed);
    let (status, ready) = listening.get_json("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(ready["ready"], false);
    let failed: Vec<_> =
        ready["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    assert_eq!(failed, [&json!({ "name": "not_draining", "ok": false })]);
    assert_eq!(listening.get("/livez").await.0, 200);
}

#[tokio::test]
async fn the_status_is_complete() {
    let (status, shown) = listening().await.get_json("/status").await;
    assert_eq!(status, 200);
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(shown["uptime_seconds"], 5);
    assert_eq!(
        shown["configuration"],
        json!({ "generation": 1, "loaded_at": "2027-01-15T08:00:00Z" })
    );
    assert_eq!(shown["listeners"], json!([{ "address": "127.0.0.1:0", "tls": false }]));
    assert_eq!(
        shown["signing_keys"],
        json!([{ "kid": "ours", "algorithm": "ES256", "active": true, "not_before": null }])
    );
    assert_eq!(
        shown["trusted_token_issuers"],
        json!([{
            "name": "partner", "source": "endpoint", "state": "unavailable", "keys": 0,
            "last_error": "no connection", "next_fetch_in_seconds": 1,
        }])
    );
    assert_eq!(shown["store"], json!({ "kind": "embedded", "ok": true, "age_seconds": 3 }));
}

#[tokio::test]
async fn a_head_has_no_body_and_other_methods_and_paths_are_refused() {
    let listening = listening().await;
    let (status, head, body) = listening.ask("HEAD /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-length: 3\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let request = format!("{method} /status HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let (status, head, _) = listening.ask(&request).await;
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: GET, HEAD\r\n"), "{head}");
    }
    for path in ["/", "/metrics/", "//metrics", "/config", "/STATUS", "/debug/pprof", "/%6detrics"]
    {
        assert_eq!(listening.get(path).await.0, 404, "{path}");
    }
    let (status, ..) = listening.ask("\0\0\0\0\r\n\r\n").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn whoever_is_slow_is_cut_off_and_others_wait_their_turn() {
    let listening = listening().await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(listening.reserved.address()).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    let mut waiting = TcpStream::connect(listening.reserved.address()).await.unwrap();
    waiting.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    settle().await;
    let mut byte = [0];
    assert!(waiting.try_read(&mut byte).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    leap(Duration::from_secs(5)).await;
    let ((status, ..), took) = timed(read(waiting)).await;
    assert_eq!(status, 200);
    assert!(took < Duration::from_secs(5), "{took:?}");
    for mut stream in slow {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn it_ends_when_it_is_told_and_not_before() {
    let listening = listening().await;
    listening.draining.store(true, Ordering::Relaxed);
    assert_eq!(listening.get("/metrics").await.0, 200);
    assert!(!listening.serving.is_finished());
    listening.stop.send(true).unwrap();
    listening.serving.await.unwrap();
    assert!(TcpStream::connect(listening.reserved.address()).await.is_err());
}
