//! The real binary: signals, files that change, and an upgrade without a refused connection.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cambio::dev::issuer::StandInIssuer;
use cambio::dev::loopback::Reservation;
use cambio::jwt::algorithm::Algorithm;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::leap::until;
use super::support::{Connection, PATIENCE, Upstream, folder, get, post, write};

const OTHER_TOKEN_PATH: &str = "authorization_server:\n  issuer: https://idp.example/oauth2/token\n  \
                                endpoints: { token: [/other/token], jwks: /oauth2/jwks }\n";
const EXCHANGE: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x";

/// A running process and what it says.
pub struct Process {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cambio"));
    command.args(arguments).env("XDG_RUNTIME_DIR", folder).kill_on_drop(true);
    for name in ["CAMBIO_LOG", "CAMBIO_LOG_FORMAT", "CAMBIO_CONFIG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

pub fn serve(folder: &Path, config: &Path, more: &[&str]) -> Child {
    let arguments = [&["serve", "--config", config.to_str().unwrap()], more].concat();
    command(folder, &arguments).spawn().unwrap()
}

/// A process that listens, and to which nobody listens.
pub async fn unheard(folder: &Path, config: &Path) -> (Child, SocketAddr) {
    let (child, address, _) = Process::start(folder, config).await.unheard();
    (child, address)
}

impl Process {
    /// Listens to what it says no more. With where clients and where operators connect.
    pub fn unheard(self) -> (Child, SocketAddr, SocketAddr) {
        let Self { child, mut said, address, admin } = self;
        // A pipe that nobody reads would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        (child, address, admin)
    }

    pub async fn start(folder: &Path, config: &Path) -> Self {
        Self::of(serve(folder, config, &[])).await
    }

    pub async fn of(mut child: Child) -> Self {
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let nowhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut process = Self { child, said, address: nowhere, admin: nowhere };
        let address = |line: &Value| line["address"].as_str().unwrap().parse().unwrap();
        process.address = address(&process.hears("listening").await);
        process.admin = address(&process.hears("listening for operators").await);
        process
    }

    /// Waits until the process says so.
    pub async fn hears(&mut self, message: &str) -> Value {
        let mut seen = String::new();
        loop {
            let line = timeout(PATIENCE, self.said.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("never said: {message}\n{seen}"));
            let line = line.unwrap().unwrap_or_else(|| panic!("ended: {message}\n{seen}"));
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            if parsed["message"] == message {
                return parsed;
            }
            seen += &line;
            seen.push('\n');
        }
    }

    pub async fn signal(&self, name: &str) {
        let process = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status().await.unwrap();
        assert!(sent.success());
    }

    pub async fn ended(&mut self) -> ExitStatus {
        // Its last words must not block it.
        let words = async { while let Ok(Some(_)) = self.said.next_line().await {} };
        let (status, ()) = timeout(PATIENCE, async { tokio::join!(self.child.wait(), words) })
            .await
            .expect("it runs on");
        status.unwrap()
    }

    async fn request(&self, bytes: impl AsRef<[u8]>) -> u16 {
        Connection::open(self.address).await.request(bytes).await.status
    }

    pub async fn operator(&self, path: &str) -> (u16, String) {
        let response = Connection::open(self.admin).await.request(get(path, "")).await;
        (response.status, response.text().to_owned())
    }
}

struct Setting {
    folder: TempDir,
    upstream: Upstream,
    config: PathBuf,
}

impl Setting {
    async fn new() -> Self {
        let folder = folder();
        let upstream = Upstream::start().await;
        let config = write(folder.path(), &upstream.url(), "");
        Self { folder, upstream, config }
    }

    fn rewrite(&self, more: &str) {
        write(self.folder.path(), &self.upstream.url(), more);
    }
}

#[tokio::test]
async fn a_bad_configuration_is_told_whole_and_exits_78() {
    let setting = Setting::new().await;
    setting.rewrite("applications: [{ client_id: a, nonsense: 1 }]\nunheard_of: true\n");
    let arguments = ["serve", "--config", setting.config.to_str().unwrap()];
    let output = command(setting.folder.path(), &arguments).output().await.unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nonsense") && said.contains("unheard_of"), "{said}");
}

#[tokio::test]
async fn an_address_that_is_taken_exits_1() {
    let setting = Setting::new().await;
    let taken = setting.upstream.address;
    let arguments = ["serve", "--config", setting.config.to_str().unwrap()];
    let listen = format!("listen: [{{ address: \"{taken}\" }}]\n");
    setting.rewrite(&listen);
    let for_clients = std::fs::read_to_string(&setting.config).unwrap();
    let for_operators = (for_clients.replace(&listen, "listen: [{ address: 127.0.0.1:0 }]\n"))
        .replace("admin: { address: 127.0.0.1:0 }", &format!("admin: {{ address: \"{taken}\" }}"));
    for text in [for_clients, for_operators] {
        std::fs::write(&setting.config, text).unwrap();
        let began = std::time::Instant::now();
        let output = command(setting.folder.path(), &arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains(&taken.to_string()));
        // Nobody is there to give the address up: it is not waited for.
        assert!(began.elapsed() < std::time::Duration::from_secs(8));
    }
}

#[tokio::test]
async fn a_warning_at_the_start_is_a_line_of_the_log() {
    let setting = Setting::new().await;
    setting
        .rewrite("authorization_server: { issuer: \"https://a\", endpoints: { token: [/t] } }\n");
    let mut child = serve(setting.folder.path(), &setting.config, &[]);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = timeout(PATIENCE, said.next_line()).await.unwrap().unwrap().unwrap();
    let said: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(said["level"], "WARN");
    assert!(said["warning"].as_str().unwrap().contains("cambio.yaml:"), "{said}");
}

#[tokio::test]
async fn the_log_says_why_the_upstream_cannot_be_had() {
    let overlay = "authorization_server:\n  issuer: https://idp.example\n  overlay: true\n  \
                   endpoints: { token: [/oauth2/token], jwks: /oauth2/jwks }\n";
    let setting = Setting::new().await;
    setting.rewrite(overlay);
    let mut process = Process::start(setting.folder.path(), &setting.config).await;
    assert_eq!(process.request(get("/oauth2/jwks", "")).await, 502);
    let said = process.hears("the upstream's document cannot be had").await;
    assert_eq!(said["why"], "what came with 200 is no such document");

    // Nobody listens there any more.
    let held = Reservation::make().unwrap();
    let gone = held.address();
    write(setting.folder.path(), &format!("http://{gone}"), "");
    process.signal("HUP").await;
    process.hears("the new configuration serves").await;
    assert_eq!(process.request(get("/x", "")).await, 502);
    let said = process.hears("the upstream did not answer as it should").await;
    assert!(said["why"].as_str().unwrap().contains(&gone.to_string()), "{said}");
}

#[tokio::test]
async fn sighup_reloads_and_a_bad_file_changes_nothing_but_a_metric_and_the_log() {
    let setting = Setting::new().await;
    let mut process = Process::start(setting.folder.path(), &setting.config).await;
    assert_eq!(process.request(post("/oauth2/token", "", EXCHANGE)).await, 401);
    setting.rewrite(OTHER_TOKEN_PATH);
    process.signal("HUP").await;
    process.hears("the new configuration serves").await;
    assert_eq!(process.request(post("/other/token", "", EXCHANGE)).await, 401);
    assert_eq!(process.request(post("/oauth2/token", "", "a=b")).await, 200);
    std::fs::write(&setting.config, "listen: nowhere\nunheard_of: true\n").unwrap();
    process.signal("HUP").await;
    let first = process.hears("configuration").await;
    let second = process.hears("configuration").await;
    let faults = format!("{first}{second}");
    assert!(faults.contains("cambio.yaml:1:") || faults.contains("cambio.yaml:2:"), "{faults}");
    process.hears("the old configuration keeps serving").await;
    assert_eq!(process.request(post("/other/token", "", EXCHANGE)).await, 401);
    let (_, metrics) = process.operator("/metrics").await;
    assert!(metrics.contains("cambio_config_reloads_total{outcome=\"refused\"} 1"), "{metrics}");
    assert!(metrics.contains("cambio_config_reloads_total{outcome=\"applied\"} 1"), "{metrics}");
    assert!(metrics.contains("cambio_config_last_reload_successful 0"), "{metrics}");
    assert_eq!(process.operator("/readyz").await.0, 200);
    process.signal("TERM").await;
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_makes_a_new_issuer_usable_and_drops_no_request() {
    const OURS: &str = "https://idp.example/oauth2/token";
    let application = "applications:\n  - client_id: phone\n    type: mobile\n    \
                       allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n";
    let issuer = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
    let setting = Setting::new().await;
    setting.rewrite(application);
    let mut process = Process::start(setting.folder.path(), &setting.config).await;
    let claims = issuer.claims("alice", OURS, cambio::clock::now().as_secs());
    let token = issuer.mint(Algorithm::ES256, &claims).unwrap();
    let exchange = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token", &token)
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .append_pair("client_id", "phone")
        .finish();
    assert_eq!(process.request(post("/oauth2/token", "", &exchange)).await, 400);

    let address = process.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(connection.request(get("/a", "")).await.text(), "ok");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let served_more = async || {
        let before = served.load(Ordering::Relaxed);
        until(|| served.load(Ordering::Relaxed) >= before + 20).await;
    };
    served_more().await;
    setting.rewrite(&format!(
        "{application}trusted_token_issuers: [{{ name: partner, issuer: \"{}\", jwks_endpoint: \"{}\" }}]\n",
        issuer.issuer(),
        issuer.jwks_url(),
    ));
    process.signal("HUP").await;
    process.hears("the new configuration serves").await;
    assert_eq!(process.request(post("/oauth2/token", "", &exchange)).await, 200);
    served_more().await;
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        // It has panicked if a single request went wrong.
        timeout(PATIENCE, client).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_noticed() {
    let setting = Setting::new().await;
    let mut process = Process::start(setting.folder.path(), &setting.config).await;
    let kept = std::fs::read_to_string(&setting.config).unwrap();
    setting.rewrite(OTHER_TOKEN_PATH);
    let written = std::fs::read_to_string(&setting.config).unwrap();
    std::fs::write(&setting.config, kept).unwrap();
    let beside = setting.folder.path().join("new.yaml");
    std::fs::write(&beside, written).unwrap();
    std::fs::rename(&beside, &setting.config).unwrap();
    process.hears("the configuration has changed: reloading").await;
    process.hears("the new configuration serves").await;
    assert_eq!(process.request(post("/other/token", "", EXCHANGE)).await, 401);
    // So is a file that it names.
    let pem = cambio::jwt::sign::generate_pem(Algorithm::ES256).unwrap();
    let jwks = |process: &Process| {
        let address = process.address;
        async move { Connection::open(address).await.request(get("/oauth2/jwks", "")).await.body }
    };
    let before = jwks(&process).await;
    super::support::write_private(&setting.folder.path().join("signing.pem"), &pem);
    process.hears("the new configuration serves").await;
    assert_ne!(jwks(&process).await, before);
}

#[tokio::test]
async fn sigterm_makes_it_unready_and_lets_what_is_in_flight_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = folder();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = write(folder.path(), &url, "");
    let mut process = Process::start(folder.path(), &config).await;
    assert_eq!(process.operator("/readyz").await.0, 200);
    let mut busy = Connection::open(process.address).await;
    busy.send(get("/slow", "")).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    process.signal("TERM").await;
    process.hears("stopping: no more connections are accepted").await;
    let (status, shown) = process.operator("/readyz").await;
    assert_eq!(status, 503, "{shown}");
    tokio::io::AsyncWriteExt::write_all(
        &mut stream,
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate",
    )
    .await
    .unwrap();
    assert_eq!(busy.receive().await.unwrap().text(), "late");
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_refuses_no_connection() {
    let setting = Setting::new().await;
    let mut old = Process::start(setting.folder.path(), &setting.config).await;
    let address = old.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let request = post("/oauth2/token", "Connection: close\r\n", "a=b");
                    let response = Connection::open(address).await.request(request).await;
                    assert_eq!(response.status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let new = serve(setting.folder.path(), &setting.config, &["--upgrade"]);
    old.signal("QUIT").await;
    old.hears("the listening sockets have changed hands").await;
    let mut new = Process::of(new).await;
    assert_eq!(new.address, address);
    assert_eq!(old.ended().await.code(), Some(0));
    let at_the_change = served.load(Ordering::Relaxed);
    while served.load(Ordering::Relaxed) < at_the_change + 50 {
        assert!(clients.iter().all(|client| !client.is_finished()));
        tokio::task::yield_now().await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(new.operator("/readyz").await.0, 200);
    new.signal("TERM").await;
    assert_eq!(new.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_upgrade_without_a_successor_changes_nothing() {
    let setting = Setting::new().await;
    let mut process = Process::start(setting.folder.path(), &setting.config).await;
    // Anybody could have put a socket into a folder that is open to all.
    let meeting = setting.folder.path().join("cambio");
    std::fs::create_dir(&meeting).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&meeting, open).unwrap();
    process.signal("QUIT").await;
    process.hears("the upgrade failed; this process keeps serving").await;
    assert_eq!(process.request(get("/x", "")).await, 200);
}
