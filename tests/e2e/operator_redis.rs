//! Revocation by the operator where the store is a Redis: while it is down, and without a server of
//! ours.

use std::time::Instant;

use serde_json::{Value, json};

use crate::grants::Partners;
use crate::operator::revoke;
use crate::operator_command::{self, assert_done, assert_failed};
use crate::process::Process;
use crate::servers::Server;
use crate::support::{Cambio, Connection, PATIENCE, folder, get, write};

fn lines(partners: &Partners, server: &Server) -> String {
    format!("{}store: {{ redis: {{ url: \"{}\" }} }}\n", partners.lines(), server.url())
}

/// Asks until the store is said to be so.
async fn status_of_store(cambio: &Cambio, ok: bool) -> Value {
    let admin = cambio.running.admin_address();
    let began = Instant::now();
    loop {
        let status = Connection::open(admin).await.request(get("/status", "")).await.json();
        if status["store"]["ok"] == ok {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_revoked_while_the_store_is_down_and_operators_see_it() {
    let partners = Partners::start().await;
    let mut server = Server::start("");
    let cambio = Cambio::start(&partners.url(), &lines(&partners, &server)).await;
    let (address, admin) = (cambio.address(), cambio.running.admin_address());
    partners.grant(address, "partner", "alice", "portal").await;
    let status = status_of_store(&cambio, true).await;
    assert_eq!(status["store"]["kind"], "redis");
    assert!(!status.to_string().contains(&server.port.to_string()), "{status}");
    let body = r#"{"subject":"p:alice"}"#;
    assert_eq!(revoke(admin, "", body).await.json()["families"], 1);

    server.kill();
    let refused = revoke(admin, "", body).await;
    assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("store_unavailable")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let status = status_of_store(&cambio, false).await;
    assert!(status["store"]["last_error"].as_str().unwrap().starts_with("the store "), "{status}");
    assert!(!status.to_string().contains(&server.port.to_string()), "{status}");
    let ready = Connection::open(admin).await.request(get("/readyz", "")).await;
    assert_eq!((ready.status, &ready.json()["degraded"]), (200, &json!(["store"])));

    assert!(server.run());
    status_of_store(&cambio, true).await;
    let ready = Connection::open(admin).await.request(get("/readyz", "")).await;
    assert_eq!(ready.json()["degraded"], json!([]));
    assert_eq!(revoke(admin, "", body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_server_runs_the_command_tells_the_store_itself() {
    let partners = Partners::start().await;
    let mut server = Server::start("");
    let folder = folder();
    let config = write(folder.path(), &partners.url(), &lines(&partners, &server));
    // It listens for operators on a port that no command can know.
    let process = Process::start(folder.path(), &config).await;
    let mut alice = partners.grant(process.address, "partner", "alice", "kiosk").await;
    let mut bob = partners.grant(process.address, "partner", "bob", "kiosk").await;
    let output = operator_command::revoke(folder.path(), &config, &["--subject", "p:alice"]).await;
    assert_done(&output, 1, 1);
    let refused = Err((400, "invalid_grant".to_owned()));
    assert_eq!(alice.refresh(process.address).await, refused);
    assert_eq!(bob.refresh(process.address).await, Ok(()));
    server.kill();
    let output = operator_command::revoke(folder.path(), &config, &["--subject", "p:bob"]).await;
    assert_failed(&output, 1, "the store does not answer: it is unknown whether");
}
