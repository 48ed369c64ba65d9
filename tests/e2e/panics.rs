//! A panic in the middle of a request: what its client sees, and everybody else, and the log.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cambio::app::App;
use cambio::exchange::cut_off::{Ancestor, CutOff};
use cambio::exchange::family::{End, Family};
use cambio::exchange::mint::Kept;
use cambio::exchange::opaque::OpaqueId;
use cambio::exchange::subject::Once;
use cambio::exchange::token_id::FamilyId;
use cambio::store::{Hit, Store, StoreError};
use cambio::telemetry::log;
use cambio::telemetry::metrics::Metrics;
use cambio::time::Timestamp;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::refresh_support::{Client, Estate, UPSTREAMS, claims, furnish, refresh_token};
use crate::scan::{Kind, SAID, secrets_in};
use crate::support::{Cambio, Response, folder, get, load};

/// The process that panics is one of its own: how a panic is told is a matter of the whole process.
const CHILD: &str = "CAMBIO_TEST_PANICS";
const CANARY: &str = "canary-of-a-request";

/// A store that falls over whatever it is given, with that in its words.
#[derive(Debug)]
struct Falls;

#[async_trait]
impl Store for Falls {
    async fn issue(&self, kept: &Kept) -> Result<(), StoreError> {
        let family = kept.family.as_ref().unwrap();
        panic!("{CANARY} {} {}", family.grant.subject, family.grant.client_id)
    }

    async fn family(&self, id: FamilyId) -> Result<Option<Family>, StoreError> {
        // As an index into a text does that is not where a character begins.
        let text = format!("{CANARY} {id} é");
        Ok(text[..text.len() - 1].is_empty().then(|| unreachable!()))
    }

    async fn rotate(&self, _: &Kept) -> Result<bool, StoreError> {
        Err(StoreError::Failed)
    }

    async fn end_family(&self, _: FamilyId, _: End) -> Result<(), StoreError> {
        Err(StoreError::Failed)
    }

    async fn opaque_claims(&self, _: &OpaqueId) -> Result<Option<Vec<u8>>, StoreError> {
        Err(StoreError::Failed)
    }

    async fn revoke_access_token(&self, _: &str, _: Timestamp) -> Result<(), StoreError> {
        Err(StoreError::Failed)
    }

    async fn is_access_token_revoked(&self, _: &str) -> Result<bool, StoreError> {
        Err(StoreError::Failed)
    }

    async fn remember_once(&self, _: &Once) -> Result<bool, StoreError> {
        Err(StoreError::Failed)
    }

    async fn cut_off(&self, _: &CutOff, _: Timestamp) -> Result<Hit, StoreError> {
        Err(StoreError::Failed)
    }

    async fn cut_off_of(&self, _: &[Ancestor]) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}

#[track_caller]
fn failed(response: &Response) {
    let shown = (response.status, &response.json()["error"]);
    assert_eq!(shown, (500, &json!("server_error")));
    assert!(response.header("cambio-decision").is_some());
    assert!(!response.text().contains(CANARY));
}

/// What happens in the process that panics.
async fn fall() {
    log::init().unwrap();
    let mut estate = Estate::start().await;
    // The same requests, where nothing falls over.
    let living = refresh_token(&estate.exchange(Client::Portal).await);
    let living = refresh_token(&estate.refresh(Client::Portal, &living).await);

    let folder = folder();
    furnish(folder.path(), &estate.issuer, &estate.once);
    let config = load(folder.path(), &estate.upstream.url(), &estate.lines);
    let started = App::start_on(config, Arc::new(Metrics::new()), Arc::new(Falls)).await;
    estate.cambio = Cambio { running: started.unwrap(), folder };
    let before = estate.upstream.requests().len();

    let mut connection = estate.connect().await;
    failed(&connection.request(Client::Portal.exchange(&estate.token(), &[])).await);
    failed(&connection.request(Client::Portal.refresh(&living, &[])).await);
    // Nothing of a request of ours went on, and its connection is as good as before.
    assert_eq!(estate.upstream.requests().len(), before);
    let stateless = connection.request(Client::Stateless.exchange(&estate.token(), &[])).await;
    assert_eq!(claims(&stateless)["sub"], "p:alice");
    assert_eq!(connection.request(get("/anything", "")).await.body, UPSTREAMS);
    // One about a token, after the upstream has authenticated the caller.
    failed(&connection.request(Client::Portal.revoke(&living)).await);
    let metrics = estate.metrics().await;
    let series = r#"cambio_exchanges_total{issuer="unknown",outcome="failed",reason="internal"}"#;
    assert_eq!(metrics.get(series).map(String::as_str), Some("2"), "{metrics:#?}");

    // A panic that says nothing but what stands in the code is told whole.
    let literal = tokio::spawn(async { panic!("a text of the code") });
    assert!(literal.await.unwrap_err().is_panic());
    assert!(estate.cambio.running.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_its_own_request_and_quotes_nothing_of_it() {
    if std::env::var_os(CHILD).is_some() {
        return fall().await;
    }
    let name = "panics::a_panic_ends_its_own_request_and_quotes_nothing_of_it";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads", "1"])
        .env(CHILD, "1")
        .env("CAMBIO_LOG", "trace")
        .env_remove("CAMBIO_LOG_FORMAT")
        // It is searched here, and says nothing but events.
        .env_remove(SAID)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(60), child).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}{said}");
    assert!(report.contains("1 passed"), "{report}");
    let events = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let panics: Vec<_> = events
        .filter(|event| event["message"] == "a task panicked: what it was doing has failed")
        .map(|event| event["panic"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(panics.len(), 4, "{said}");
    for (panic, text) in
        panics.iter().zip(["text withheld", "text withheld", "text withheld", "a text of the code"])
    {
        let place = panic.strip_suffix(&format!(": {text}")).unwrap_or_else(|| panic!("{panic}"));
        assert!(place.starts_with("tests/e2e/panics.rs:"), "{panic}");
    }
    // The stand-in's `jti` has the name in it, and may be told.
    let said = said.replace("-alice\"", "\"");
    for secret in [CANARY, "alice", "cambio_rt_"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    for line in said.lines() {
        assert!(!secrets_in(line).contains(&Kind::Jwt), "{line}");
    }
}
