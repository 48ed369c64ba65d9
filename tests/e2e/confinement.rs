//! What the process leaves behind and what it needs: no core, no rights, nothing to write to but
//! its state.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use serde_json::Value;
use tokio::process::Command;

use crate::process::Process;
use crate::support::{Connection, Upstream, folder, post, response, write};

const BINARY: &str = env!("CARGO_BIN_EXE_cambio");
/// Nobody, wherever there is one.
const NOBODY: u32 = 65534;

/// Prints past the harness, which keeps what passing tests print to itself.
fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// Has a shell run `script`, of which `"$0" "$@"` is `cambio serve`. `before` are words before the
/// shell's own.
fn in_shell(before: &[&str], script: &str, binary: &Path, folder: &Path) -> Command {
    let words = [before, &["sh", "-c", script]].concat();
    let mut shell = Command::new(words[0]);
    shell.args(&words[1..]).arg(binary).args(["serve", "--config", "cambio.yaml"]);
    shell.current_dir(folder).env("XDG_RUNTIME_DIR", folder.join("state"));
    for name in ["CAMBIO_LOG", "CAMBIO_LOG_FORMAT", "CAMBIO_CONFIG"] {
        shell.env_remove(name);
    }
    shell.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    shell
}

fn told_in(file: &str, process: u32, name: &str) -> String {
    let all = fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    let line = all.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {all}")).to_owned()
}

fn holds_core(folder: &Path) -> bool {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with("core"))
}

/// As much as may be.
const MAY_DUMP: &str = "ulimit -S -c \"$(ulimit -H -c)\" && ";

#[tokio::test]
async fn a_process_that_dies_of_a_fault_leaves_no_core() {
    let upstream = Upstream::start().await;
    let folder = folder();
    write(folder.path(), &upstream.url(), "");
    // Somebody else would leave one, under the same limits.
    let other = tempfile::tempdir().unwrap();
    let script = format!("{MAY_DUMP} kill -s ABRT $$");
    let died = Command::new("sh").args(["-c", &script]).current_dir(other.path()).status().await;
    if !died.unwrap().core_dumped() {
        tell("NOT COMPARED with a process that leaves a core: this system lets none do so");
    }
    for (name, number) in [("ABRT", 6), ("FPE", 8)] {
        let script = format!("{MAY_DUMP} exec \"$0\" \"$@\"");
        let child = in_shell(&[], &script, Path::new(BINARY), folder.path()).spawn().unwrap();
        let process = child.id().unwrap();
        let mut cambio = Process::of(child).await;
        let limit = told_in("limits", process, "Max core file size");
        let columns: Vec<_> = limit.split_whitespace().collect();
        assert_eq!(columns[4..6], ["0", "0"], "{limit}");
        // What it holds is root's, whoever runs it.
        assert_eq!(fs::metadata(format!("/proc/{process}/environ")).unwrap().uid(), 0);
        cambio.signal(name).await;
        let status = cambio.ended().await;
        assert_eq!((status.signal(), status.core_dumped()), (Some(number), false), "{name}");
        assert!(!holds_core(folder.path()), "{name}");
    }
}

/// Nothing can be written to but the state, as far as the system lets that be said.
const READ_ONLY: &str = r#"
    mount --bind state state && mount -o remount,bind,ro "$(stat -c %m .)" &&
    ! touch here 2>/dev/null && touch state/there &&
"#;
/// Without any right that root has, and without a way to get one.
const AS_NOBODY: &str = r#"
    exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all \
        --bounding-set=-all "$0" "$@"
"#;

const LINES: &str = r#"
store: { embedded: { path: state } }
applications:
  - client_id: phone
    type: mobile
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange", refresh_token]
    audiences: [https://api.example.com]
"#;

/// One granted exchange and a refresh of what it gave.
async fn exchanges(process: &Process, issuer: &StandInIssuer) {
    let now = cambio::clock::now().as_secs();
    let claims = issuer.claims("alice", "https://idp.example/oauth2/token", now);
    let token = issuer.mint(Algorithm::ES256, &claims).unwrap();
    let ask = async |parameters: &[(&str, &str)]| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let body = form.append_pair("client_id", "phone").extend_pairs(parameters).finish();
        let request = post("/oauth2/token", "", &body);
        let answer = Connection::open(process.address).await.request(request).await;
        assert_eq!(answer.status, 200);
        answer.json()
    };
    let granted: Value = ask(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", &token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ])
    .await;
    let refresh_token = granted["refresh_token"].as_str().unwrap();
    ask(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await;
}

/// The binary, where another user can reach it.
fn reachable(folder: &Path) {
    let binary = folder.join("cambio");
    if fs::hard_link(BINARY, &binary).is_err() {
        fs::copy(BINARY, &binary).unwrap();
    }
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_and_is_replaced_as_another_user_on_a_read_only_file_system() {
    if rustix::process::geteuid().as_raw() != 0 {
        tell("NOT RUN as another user: only root can start a process as one");
        return;
    }
    let issuer = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
    let upstream = Upstream::answering(|_| response("200 OK", &[], b"ok")).await;
    let folder = folder();
    let lines = format!(
        "{LINES}trusted_token_issuers: [{{ name: partner, issuer: \"{}\", jwks_endpoint: \"{}\" }}]\n",
        issuer.issuer(),
        issuer.jwks_url(),
    );
    let config = write(folder.path(), &upstream.url(), &lines);
    reachable(folder.path());
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o755);
    mode(&config, 0o444);
    for path in [&state, &folder.path().join("signing.pem")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    mode(&folder.path().join("signing.pem"), 0o400);
    mode(&state, 0o700);

    let can_mount = Command::new("unshare").args(["--mount", "true"]).status().await;
    let is_read_only = can_mount.is_ok_and(|status| status.success());
    let script = if is_read_only {
        format!("{READ_ONLY} {AS_NOBODY}")
    } else {
        tell("NOT READ-ONLY: no mounts of its own are to be had here; only the folder is closed");
        AS_NOBODY.to_owned()
    };
    let before: &[&str] = if is_read_only { &["unshare", "--mount"] } else { &[] };
    let binary = folder.path().join("cambio");
    let start = |more: &[&str]| {
        in_shell(before, &script, &binary, folder.path()).args(more).spawn().unwrap()
    };
    let child = start(&[]);
    let process = child.id().unwrap();
    let mut old = Process::of(child).await;
    assert_eq!(told_in("status", process, "Uid:"), "Uid:\t65534\t65534\t65534\t65534");
    assert_eq!(told_in("status", process, "Groups:").trim_end(), "Groups:");
    assert_eq!(told_in("status", process, "NoNewPrivs:"), "NoNewPrivs:\t1");
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(told_in("status", process, set), format!("{set}\t0000000000000000"));
    }
    // Nobody's other processes can't look into it.
    assert_eq!(fs::metadata(format!("/proc/{process}/environ")).unwrap().uid(), 0);
    exchanges(&old, &issuer).await;

    let new = start(&["--upgrade"]);
    old.signal("QUIT").await;
    old.hears("the listening sockets have changed hands").await;
    let mut new = Process::of(new).await;
    assert_eq!(old.ended().await.code(), Some(0));
    exchanges(&new, &issuer).await;
    new.signal("TERM").await;
    assert_eq!(new.ended().await.code(), Some(0));
    // Nothing is left in the folder that was not there before.
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["cambio", "cambio.yaml", "signing.pem", "state"]);
}
