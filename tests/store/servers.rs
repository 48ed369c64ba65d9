//! Real servers, each a process of its own on free ports, gone when the test is. Of Redis, or of
//! what `CAMBIO_REDIS_SERVER` names.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use redis::{Client, FromRedisValue, RedisResult};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use url::Url;

/// How long anything may take that is to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server that can't outlive this process: it is killed when the standard input ends.
const KEEPER: &str = r#"
    "$@" >>log 2>&1 </dev/null &
    echo $!
    exec >&-
    read -r _
    kill -KILL $! 2>/dev/null
    wait
"#;

/// A process that is killed when it is dropped.
struct Process {
    keeper: Child,
    /// Its end is the end of the process.
    life: Option<ChildStdin>,
    pid: u32,
}

impl Process {
    fn start(folder: &Path, command: &[&str]) -> Self {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let life = keeper.stdin.take();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Self { keeper, life, pid: pid.trim().parse().unwrap() }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.pid.to_string()]).status().unwrap();
        assert!(status.success(), "kill {name} {}", self.pid);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.life.take());
        let _ = self.keeper.wait();
    }
}

/// Lets time pass until `holds`.
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it never came to be: {what}");
        park_timeout(Duration::from_millis(5));
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A certificate authority, with a certificate for 127.0.0.1.
pub struct Authority {
    pub certificate: CertificateDer<'static>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Of another name than the leaf's, or OpenSSL takes that for self-signed.
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority {number}"));
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, pem) in
            [("ca", issuer.pem()), ("certificate", leaf.pem()), ("key", key.serialize_pem())]
        {
            fs::write(folder.path().join(name), pem).unwrap();
        }
        Self { certificate: issuer.der().clone(), folder }
    }

    /// Lines of a server's configuration.
    pub fn lines(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "tls-port %T\ntls-auth-clients no\ntls-cert-file {folder}/certificate\n\
             tls-key-file {folder}/key\ntls-ca-cert-file {folder}/ca\n"
        )
    }
}

/// A server of Redis, or a sentinel.
pub struct Server {
    /// Without TLS. For whoever tests, too.
    pub port: u16,
    pub tls_port: u16,
    bus_port: u16,
    is_sentinel: bool,
    process: Option<Process>,
    folder: TempDir,
}

impl Server {
    /// `lines` are of its configuration. In them `%P`, `%T` and `%B` stand for its ports: without
    /// TLS, with it, and for other servers.
    pub fn start(lines: &str) -> Self {
        Self::start_at(lines, free_port(), false)
    }

    pub fn start_at(lines: &str, port: u16, is_sentinel: bool) -> Self {
        let mut port = port;
        for _ in 0..10 {
            let mut server = Self {
                port,
                tls_port: free_port(),
                bus_port: free_port(),
                is_sentinel,
                process: None,
                folder: tempfile::tempdir().unwrap(),
            };
            let lines = format!("bind 127.0.0.1\nport %P\n{lines}\n")
                .replace("%P", &server.port.to_string())
                .replace("%T", &server.tls_port.to_string())
                .replace("%B", &server.bus_port.to_string());
            let lines = if is_sentinel { lines } else { format!("save \"\"\n{lines}") };
            fs::write(server.folder.path().join("conf"), lines).unwrap();
            if server.run() {
                return server;
            }
            port = free_port();
        }
        panic!("no port stayed free");
    }

    /// Starts it, or starts it again. `false` where somebody else has one of its ports.
    pub fn run(&mut self) -> bool {
        let log = self.folder.path().join("log");
        let _ = fs::remove_file(&log);
        let log = || fs::read_to_string(&log).unwrap_or_default();
        let program = std::env::var("CAMBIO_REDIS_SERVER");
        let mut command = vec![program.as_deref().unwrap_or("redis-server"), "conf"];
        command.extend(self.is_sentinel.then_some("--sentinel"));
        let process = Process::start(self.folder.path(), &command);
        let pid = format!("process_id:{}\r\n", process.pid);
        self.process = Some(process);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let info = self.try_command::<String>(&["INFO", "server"]);
            if info.is_ok_and(|info| info.contains(&pid)) {
                return true;
            }
            if log().contains("Address already in use") {
                return false;
            }
            assert!(!log().contains("FATAL CONFIG"), "{}", log());
            park_timeout(Duration::from_millis(5));
        }
        panic!("it does not start: {}", log());
    }

    /// As a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// `-STOP` and `-CONT`.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    pub fn url(&self) -> Url {
        format!("redis://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub fn tls_url(&self) -> Url {
        format!("rediss://127.0.0.1:{}", self.tls_port).parse().unwrap()
    }

    /// Asks as the default user.
    pub fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection)
    }

    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap()
    }

    /// A field of what it says of itself; empty where it says nothing.
    pub fn info(&self, section: &str, field: &str) -> String {
        let info: String = self.try_command(&["INFO", section]).unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }
}

/// A cluster whose first servers are masters, and the others replicas of those in order.
pub fn cluster(masters: u16, replicas: u16, lines: &str) -> Vec<Server> {
    let lines = format!(
        "cluster-enabled yes\ncluster-port %B\ncluster-node-timeout 1500\n\
         cluster-replica-validity-factor 0\n{lines}"
    );
    let servers: Vec<_> = (0..masters + replicas).map(|_| Server::start(&lines)).collect();
    let is_tls = lines.contains("tls-cluster yes");
    for (at, server) in servers.iter().take(usize::from(masters)).enumerate() {
        let at = u32::try_from(at).unwrap();
        let first = 16384 * at / u32::from(masters);
        let last = 16384 * (at + 1) / u32::from(masters) - 1;
        server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
    }
    for server in &servers[1..] {
        let port = if is_tls { server.tls_port } else { server.port };
        let (port, bus) = (port.to_string(), server.bus_port.to_string());
        servers[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }
    let count = servers.len().to_string();
    let is_up = |server: &Server| {
        let info: String = server.command(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok") && info.contains(&format!("known_nodes:{count}\r\n"))
    };
    wait("a cluster", || servers.iter().all(is_up));
    for (replica, master) in servers.iter().skip(usize::from(masters)).zip(&servers) {
        let id: String = master.command(&["CLUSTER", "MYID"]);
        replica.command::<()>(&["CLUSTER", "REPLICATE", &id]);
    }
    for replica in servers.iter().skip(usize::from(masters)) {
        wait("a replica", || replica.info("replication", "master_link_status") == "up");
    }
    servers
}

/// A master, a replica, and three sentinels who know them as `ours`.
pub struct Watched {
    pub master: Server,
    pub replica: Server,
    pub sentinels: Vec<Server>,
}

impl Watched {
    /// `lines` are of the servers, `of_sentinels` of those.
    pub fn start(lines: &str, of_sentinels: &str) -> Self {
        let master = Server::start(&format!("repl-diskless-sync-delay 0\n{lines}"));
        let replica = Server::start(&format!("replicaof 127.0.0.1 {}\n{lines}", master.port));
        wait("a replica", || replica.info("replication", "master_link_status") == "up");
        let lines = format!(
            "sentinel monitor ours 127.0.0.1 {} 2\nsentinel down-after-milliseconds ours 1000\n\
             sentinel failover-timeout ours 5000\n{of_sentinels}\n",
            master.port
        );
        let sentinels: Vec<_> =
            (0..3).map(|_| Server::start_at(&lines, free_port(), true)).collect();
        let watched = Self { master, replica, sentinels };
        wait("sentinels who know one another", || {
            let all = watched.sentinels.iter();
            let known = |sentinel: &Server| sentinel.info("sentinel", "master0");
            all.map(known).all(|line| line.contains("slaves=1,sentinels=3"))
        });
        watched
    }

    pub fn urls(&self) -> Vec<Url> {
        self.sentinels.iter().map(Server::url).collect()
    }
}
