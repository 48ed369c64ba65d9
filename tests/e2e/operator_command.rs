//! `cambio revoke`, the real binary: by the server that runs, or by itself where none does.

use std::path::{Path, PathBuf};
use std::process::Output;

use cambio::dev::loopback::Reservation;
use serde_json::Value;
use tempfile::TempDir;

use crate::grants::{Grant, Partners, next_second};
use crate::process::{Process, command};
use crate::support::{folder, write, write_private};

/// Partners, a configuration, and an admin address that stays the same.
struct Estate {
    partners: Partners,
    folder: TempDir,
    config: PathBuf,
    admin: Reservation,
}

impl Estate {
    async fn new() -> Self {
        Self::with("").await
    }

    /// `token` stands in the section of the admin listener.
    async fn with(token: &str) -> Self {
        let (partners, folder) = (Partners::start().await, folder());
        let admin = Reservation::make().unwrap();
        let config = written(&partners, folder.path(), &admin.address().to_string(), token);
        Self { partners, folder, config, admin }
    }

    async fn serve(&self) -> Process {
        Process::start(self.folder.path(), &self.config).await
    }

    async fn grant(&self, process: &Process, subject: &'static str) -> Grant {
        self.partners.grant(process.address, "partner", subject, "kiosk").await
    }

    async fn revoke(&self, arguments: &[&str]) -> Output {
        revoke(self.folder.path(), &self.config, arguments).await
    }
}

fn written(partners: &Partners, folder: &Path, admin: &str, token: &str) -> PathBuf {
    let admin = format!("admin: {{ address: \"{admin}\"{token} }}\n");
    write(folder, &partners.url(), &(admin + &partners.lines()))
}

pub async fn revoke(folder: &Path, config: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["revoke", "--config", config.to_str().unwrap()], arguments].concat();
    let mut command = command(folder, &arguments);
    // A proxy of the environment is none of its business.
    command.env("http_proxy", "http://127.0.0.1:9").stdout(std::process::Stdio::piped());
    command.output().await.unwrap()
}

#[track_caller]
pub fn assert_done(output: &Output, families: u64, opaque: u64) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.starts_with("Revoked: what was granted "), "{said}");
    assert!(said.contains(&format!("refresh token families: {families}\n")), "{said}");
    assert!(said.contains(&format!("opaque access tokens:   {opaque}\n")), "{said}");
    assert!(said.contains("until their `exp`"), "{said}");
}

#[track_caller]
pub fn assert_failed(output: &Output, code: i32, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(said.contains(why), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

const REVOKED: (u16, &str) = (400, "invalid_grant");

async fn is_revoked(grant: &mut Grant, process: &Process) -> bool {
    match grant.refresh(process.address).await {
        Ok(()) => false,
        Err((status, error)) => {
            assert_eq!((status, error.as_str()), REVOKED);
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_that_runs_does_it() {
    let estate = Estate::new().await;
    let mut process = estate.serve().await;
    let mut alice = estate.grant(&process, "alice").await;
    let mut bob = estate.grant(&process, "bob").await;
    let output = estate.revoke(&["--subject", "p:alice"]).await;
    assert_done(&output, 1, 1);
    assert!(output.stderr.is_empty(), "{output:?}");
    let event = process.hears("cut_off").await;
    assert_eq!((&event["target"], &event["outcome"]), (&"audit".into(), &"granted".into()));
    assert_eq!((&event["ancestor"], &event["families"]), (&"subject".into(), &1.into()));
    assert_eq!(event["opaque_access_tokens"], 1);
    assert_eq!(event["sub_hash"], cambio::telemetry::audit::subject_hash("", "p:alice"));
    assert!(event["decision"].as_str().is_some_and(|id| id.len() == 16), "{event}");
    assert!(!event.to_string().contains("alice"), "{event}");
    assert!(is_revoked(&mut alice, &process).await);
    assert!(!is_revoked(&mut bob, &process).await);

    // Nothing of bob's is that old.
    let output = estate.revoke(&["--issuer", "partner", "--before", "2001-01-01T00:00:00Z"]).await;
    assert_done(&output, 0, 0);
    let event = process.hears("cut_off").await;
    assert_eq!(
        (&event["issuer"], &event["before"]),
        (&"partner".into(), &"2001-01-01T00:00:00Z".into())
    );
    assert!(!is_revoked(&mut bob, &process).await);
    assert_done(&estate.revoke(&["--client", "kiosk"]).await, 2, 4);
    let event = process.hears("cut_off").await;
    assert_eq!((&event["client"], &event["client_id"]), (&"Kiosk".into(), &"kiosk".into()));
    assert!(is_revoked(&mut bob, &process).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_none_runs_it_does_it_itself() {
    let estate = Estate::new().await;
    // There is nothing yet, and nothing comes of asking.
    assert_failed(&estate.revoke(&["--subject", "p:alice"]).await, 1, "nothing was kept there yet");
    assert!(!estate.folder.path().join("state").exists());
    let mut process = estate.serve().await;
    let mut alice = estate.grant(&process, "alice").await;
    let mut bob = estate.grant(&process, "bob").await;
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
    let output = estate.revoke(&["--subject", "p:alice"]).await;
    assert_done(&output, 1, 1);
    // The audit event is its own.
    let said = String::from_utf8(output.stderr).unwrap();
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = events.iter().find(|event| event["message"] == "cut_off").expect(&said);
    assert_eq!((&event["target"], &event["families"]), (&"audit".into(), &1.into()));
    let process = estate.serve().await;
    assert!(is_revoked(&mut alice, &process).await);
    assert!(!is_revoked(&mut bob, &process).await);
    next_second().await;
    let mut later = estate.grant(&process, "alice").await;
    assert!(!is_revoked(&mut later, &process).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_comes_from_the_configuration() {
    let estate = Estate::with(", token: { file: admin.token }").await;
    let token = estate.folder.path().join("admin.token");
    write_private(&token, "a-token-of-many-bytes\n");
    let process = estate.serve().await;
    let mut alice = estate.grant(&process, "alice").await;
    // The server learns of a change of its files a little later than the command.
    let other = estate.folder.path().join("other.token");
    write_private(&other, "another-token-of-many-bytes");
    let strange = std::fs::read_to_string(&estate.config).unwrap();
    let strange = strange.replace("admin.token", "other.token");
    let config = estate.folder.path().join("strange.yaml");
    std::fs::write(&config, strange).unwrap();
    let refused = revoke(estate.folder.path(), &config, &["--subject", "p:alice"]).await;
    assert_failed(&refused, 1, "with the configured `admin.token` is needed");
    assert!(!is_revoked(&mut alice, &process).await);
    assert_done(&estate.revoke(&["--subject", "p:alice"]).await, 1, 2);
    assert!(is_revoked(&mut alice, &process).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_another_process_holds_is_left_alone() {
    let estate = Estate::new().await;
    let process = estate.serve().await;
    let mut alice = estate.grant(&process, "alice").await;
    // The same store, and an admin address where nobody listens.
    let elsewhere = Reservation::make().unwrap();
    let text = std::fs::read_to_string(&estate.config).unwrap();
    let (here, there) = (estate.admin.address().to_string(), elsewhere.address().to_string());
    let config = estate.folder.path().join("strange.yaml");
    std::fs::write(&config, text.replace(&here, &there)).unwrap();
    let output = revoke(estate.folder.path(), &config, &["--subject", "p:alice"]).await;
    assert_failed(&output, 1, &format!("nobody listens at {there} (`admin.address`)"));
    assert_failed(&output, 1, "another process holds it");
    assert!(!is_revoked(&mut alice, &process).await);
    // Whoever listens there is somebody else.
    let stranger = estate.partners.upstream().to_string();
    std::fs::write(&config, text.replace(&here, &stranger)).unwrap();
    let output = revoke(estate.folder.path(), &config, &["--subject", "p:alice"]).await;
    assert_failed(&output, 1, &format!("what answers at {stranger}"));
    assert!(!is_revoked(&mut alice, &process).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_and_exits_as_it_should() {
    let estate = Estate::new().await;
    let process = estate.serve().await;
    assert_done(&estate.revoke(&["--client", "portal"]).await, 0, 0);
    for arguments in [
        &[][..],
        &["--before", "2026-01-01T00:00:00Z"],
        &["--subject", "a", "--client", "portal"],
        &["--subject", "a", "--issuer", "partner", "--client", "portal"],
        &["--subject", "a", "--subject", "b"],
        &["--subject", ""],
        &["--client", "portal", "--before", "yesterday"],
        &["--client", "portal", "--before", "1969-01-01T00:00:00Z"],
        &["portal"],
    ] {
        let output = estate.revoke(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {output:?}");
    }
    let output = estate.revoke(&["--issuer", "nobody"]).await;
    assert_failed(&output, 1, "no trusted token issuer of this name");
    let output = estate.revoke(&["--client", "portal", "--before", "9999-01-01T00:00:00Z"]).await;
    assert_failed(&output, 1, "`before` lies in the future");
    drop(process);
    std::fs::write(&estate.config, "listen: nowhere\n").unwrap();
    assert_failed(&estate.revoke(&["--client", "portal"]).await, 78, "cambio.yaml:1:");
    let missing = estate.folder.path().join("missing.yaml");
    let output = revoke(estate.folder.path(), &missing, &["--client", "portal"]).await;
    assert_failed(&output, 78, "missing.yaml");
}
