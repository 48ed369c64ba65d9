//! The store in the life of a process: opened when it is needed, shown, and handed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cambio::store::embedded::Embedded;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::grants::{Grant, Partners, form};
use crate::leap::until;
use crate::process::{Process, serve};
use crate::support::{Cambio, Connection, PATIENCE, Response, folder, get, load, post, write};

/// Nothing in it is kept.
const STATELESS: &str = "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  \
                         endpoints: { token: [/oauth2/token], jwks: /oauth2/jwks }\n";

async fn shown(cambio: &Cambio, path: &str) -> Value {
    let admin = cambio.running.admin_address();
    Connection::open(admin).await.request(get(path, "")).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_opened_once_something_needs_it_and_closed_at_the_end() {
    let partners = Partners::start().await;
    let url = partners.url();
    let cambio = Cambio::start(&url, STATELESS).await;
    let state = cambio.folder.path().join("state");
    assert!(!state.exists());
    assert_eq!(shown(&cambio, "/status").await["store"], Value::Null);

    cambio.reload(&url, &format!("{STATELESS}{}", partners.lines())).await;
    let mut grant = partners.grant(cambio.address(), "partner", "alice", "portal").await;
    let status = shown(&cambio, "/status").await;
    let store = &status["store"];
    assert_eq!((&store["kind"], &store["ok"]), (&json!("embedded"), &json!(true)), "{status}");
    assert!(store["age_seconds"].as_u64().unwrap() < 20, "{status}");
    assert!(!status.to_string().contains(state.to_str().unwrap()), "{status}");
    assert_eq!(shown(&cambio, "/readyz").await["degraded"], json!([]));
    assert!(Embedded::open(&state, Duration::ZERO).await.is_err());

    // It stays open where nothing needs it for a while.
    cambio.reload(&url, STATELESS).await;
    assert_eq!(shown(&cambio, "/status").await["store"], Value::Null);
    cambio.reload(&url, &partners.lines()).await;
    assert_eq!(grant.refresh(cambio.address()).await, Ok(()));

    let Cambio { running, folder: _folder } = cambio;
    assert!(running.stop().await);
    Embedded::open(&state, Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_cannot_have_its_store_is_refused() {
    let partners = Partners::start().await;
    let url = partners.url();
    let cambio = Cambio::start(&url, STATELESS).await;
    let lines = partners.lines();
    let held = cambio.folder.path().join("held");
    let holder = Embedded::open(&held, Duration::ZERO).await.unwrap();
    let wanted = format!("{STATELESS}{lines}store: {{ embedded: {{ path: held }} }}\n");
    let refused = cambio.running.reload(load(cambio.folder.path(), &url, &wanted)).await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("another process holds it") && why.contains("held"), "{why}");
    let status = shown(&cambio, "/status").await;
    assert_eq!(status["configuration"]["generation"], 1);
    assert_eq!(
        (&status["last_reload"]["applied"], &status["store"]),
        (&json!(false), &Value::Null)
    );
    // The old configuration has no client.
    let fields = form(&[("grant_type", "refresh_token"), ("refresh_token", "cambio_rt_x")]);
    let refresh = post("/oauth2/token", "", &(fields + "&client_id=portal"));
    assert_eq!(cambio.request(&refresh).await.status, 401);

    cambio::store::Store::close(&holder).await;
    cambio.reload(&url, &wanted).await;
    partners.grant(cambio.address(), "partner", "alice", "portal").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_store_takes_effect_after_a_restart() {
    let partners = Partners::start().await;
    let folder = folder();
    let url = partners.url();
    let lines = partners.lines();
    let config = write(folder.path(), &url, &lines);
    let mut process = Process::start(folder.path(), &config).await;
    let mut grant = partners.grant(process.address, "partner", "alice", "portal").await;
    let elsewhere = format!("{lines}store: {{ embedded: {{ path: elsewhere }} }}\n");
    for _ in 0..2 {
        write(folder.path(), &url, &elsewhere);
        process.signal("HUP").await;
        let said = process.hears("a change of this setting takes effect after a restart").await;
        assert_eq!(said["setting"], "store");
        process.hears("the new configuration serves").await;
        assert_eq!(grant.refresh(process.address).await, Ok(()));
        // Nor does it where nothing needed a store in between.
        write(folder.path(), &url, STATELESS);
        process.signal("HUP").await;
        process.hears("the new configuration serves").await;
    }
    // Issuers' keys may lie there by then.
    let database = folder.path().join("elsewhere/cambio.redb");
    assert!(!database.exists());
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
    write(folder.path(), &url, &elsewhere);
    let process = Process::start(folder.path(), &config).await;
    assert_eq!(grant.refresh(process.address).await, Err((400, "invalid_grant".to_owned())));
    assert!(database.exists());
}

/// A client that refreshes until it is told to stop, and always with the last token that it was
/// given. It may be told to come back, and closed on without an answer; whatever was answered holds.
async fn refreshes(
    mut grant: Grant,
    address: std::net::SocketAddr,
    keeps_alive: bool,
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
) {
    let fields = if keeps_alive { "" } else { "Connection: close\r\n" };
    let mut connection: Option<Connection> = None;
    while !is_over.load(Ordering::Relaxed) {
        let body = form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &grant.refresh_token),
            ("client_id", grant.client),
        ]);
        let mut open = match connection.take() {
            Some(open) => open,
            // It panics where a connection is refused.
            None => Connection::open(address).await,
        };
        let sent = open.stream.write_all(&post("/oauth2/token", fields, &body)).await;
        let answer = if sent.is_ok() { open.receive().await } else { None };
        let Some(answer) = answer else { continue };
        match answer.status {
            200 => {
                grant.refresh_token = answer.json()["refresh_token"].as_str().unwrap().to_owned();
                served.fetch_add(1, Ordering::Relaxed);
            }
            503 => assert_given_up(&answer),
            status => panic!("{status} {}", answer.text()),
        }
        connection = (answer.header("connection") != Some("close")).then_some(open);
    }
}

fn assert_given_up(answer: &Response) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_under_refreshes_loses_none() {
    let partners = Partners::start().await;
    let folder = folder();
    let config = write(folder.path(), &partners.url(), &partners.lines());
    let mut old = Process::start(folder.path(), &config).await;
    let address = old.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for (client, keeps_alive) in
        [("portal", false), ("portal", true), ("kiosk", false), ("kiosk", true)]
    {
        let grant = partners.grant(address, "partner", "alice", client).await;
        let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
        clients.push(tokio::spawn(refreshes(grant, address, keeps_alive, is_over, served)));
    }
    let serve_more = async |count: usize| {
        let before = served.load(Ordering::Relaxed);
        until(|| {
            assert!(clients.iter().all(|client| !client.is_finished()));
            served.load(Ordering::Relaxed) >= before + count
        })
        .await;
    };
    serve_more(20).await;
    let new = serve(folder.path(), &config, &["--upgrade"]);
    old.signal("QUIT").await;
    old.hears("the listening sockets have changed hands").await;
    old.hears("the store is given up").await;
    let mut new = Process::of(new).await;
    assert_eq!(new.address, address);
    assert_eq!(old.ended().await.code(), Some(0));
    serve_more(50).await;
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        // It has panicked if it was ever refused.
        timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    let (_, metrics) = new.operator("/metrics").await;
    assert!(metrics.contains("cambio_refresh_reuse_detected_total 0\n"), "{metrics}");
    new.signal("TERM").await;
    assert_eq!(new.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_the_store_was_given_up_is_told_to_come_back() {
    let partners = Partners::start().await;
    let folder = folder();
    let config = write(folder.path(), &partners.url(), &partners.lines());
    let mut old = Process::start(folder.path(), &config).await;
    let mut grant = partners.grant(old.address, "partner", "alice", "portal").await;
    let body = form(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", &grant.refresh_token),
        ("client_id", grant.client),
    ]);
    let request = post("/oauth2/token", "", &body);
    let (begin, rest) = request.split_at(request.len() - 1);
    let mut slow = Connection::open(old.address).await;
    slow.send(begin).await;
    let new = serve(folder.path(), &config, &["--upgrade"]);
    old.signal("QUIT").await;
    old.hears("the store is given up").await;
    let mut new = Process::of(new).await;
    slow.send(rest).await;
    assert_given_up(&slow.receive().await.unwrap());
    assert!(slow.is_closed().await);
    assert_eq!(old.ended().await.code(), Some(0));
    // The token was not spent.
    assert_eq!(grant.refresh(new.address).await, Ok(()));
    new.signal("TERM").await;
    assert_eq!(new.ended().await.code(), Some(0));
}
