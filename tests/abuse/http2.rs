//! What HTTP/2 lets a client do that costs a server more than the client: the server's memory stays
//! bounded, and others are served meanwhile.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, LISTEN};
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, request,
};
use super::load::{
    ATTACKER, Figures, HEALTHY, Peak, Server, Times, Tokens, alone, configure, seconds, times,
};
use super::support::{Upstream, response};

const LARGE: usize = 1024 * 1024;
/// What memory may grow by, whatever is done to it.
const BOUND: u64 = 64 * 1024 * 1024;
/// And while 2000 requests are open, each with a connection of its own to the upstream.
const BOUND_OPEN: u64 = 80 * 1024 * 1024;

/// What is done over and over on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abuse {
    /// CVE-2023-44487.
    RapidReset,
    /// CVE-2025-8671: the server is made to reset.
    MadeYouReset,
    /// CVE-2024-27316 and its kin.
    ContinuationFlood,
    /// CVE-2019-9518.
    EmptyDataFlood,
    /// CVE-2019-9512.
    PingFlood,
    /// CVE-2019-9515.
    SettingsFlood,
    PriorityFlood,
    /// A few bytes that stand for many (RFC 7541 §7.3).
    HpackBomb,
    /// CVE-2019-9517: large answers are asked for, and not read.
    NothingRead,
    /// CVE-2019-9511: …or with no window for them.
    NoWindow,
    /// Requests whose bodies never end.
    LeftOpen,
}

impl Abuse {
    /// As many connections as do it at a time.
    const fn connections(self) -> usize {
        match self {
            Self::NothingRead | Self::NoWindow => 1,
            Self::LeftOpen => 20,
            _ => 8,
        }
    }

    /// Whether it is done once, and the connection then held.
    const fn is_held(self) -> bool {
        matches!(self, Self::NothingRead | Self::NoWindow | Self::LeftOpen)
    }

    /// What is sent at the beginning of a connection.
    fn opening(self) -> Vec<u8> {
        let get = block(&request(b"GET", b"/large", &[]));
        let post = block(&request(b"POST", b"/oauth2/token", &[]));
        let streams = (0..100).map(|nth| nth * 2 + 1);
        match self {
            Self::ContinuationFlood => frame(HEADERS, 0, 1, &post),
            Self::EmptyDataFlood => frame(HEADERS, END_HEADERS, 1, &post),
            Self::NothingRead | Self::NoWindow => {
                let open = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
                let get = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
                [open, streams.flat_map(get).collect()].concat()
            }
            Self::LeftOpen => {
                let post = block(&request(b"POST", b"/upload", &[]));
                let some = [b'x'; 128];
                let post = |stream| {
                    [frame(HEADERS, END_HEADERS, stream, &post), frame(DATA, 0, stream, &some)]
                };
                streams.flat_map(post).flatten().collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is sent the `nth` time, and how many frames that is.
    fn round(self, nth: u32) -> (Vec<u8>, u64) {
        const BATCH: u32 = 50;
        let streams = (nth * BATCH..(nth + 1) * BATCH).map(|nth| nth * 2 + 1);
        let all = u64::from(BATCH);
        match self {
            Self::RapidReset => {
                let get = block(&request(b"GET", b"/x", &[]));
                let both = |stream| {
                    let get = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
                    [get, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())]
                };
                (streams.flat_map(both).flatten().collect(), all)
            }
            Self::MadeYouReset => {
                let post = block(&request(b"POST", b"/x", &[]));
                let both = |stream| {
                    // RFC 9113 §6.9: an increment of zero is an error of the stream.
                    let post = frame(HEADERS, END_HEADERS, stream, &post);
                    [post, frame(WINDOW_UPDATE, 0, stream, &[0; 4])]
                };
                (streams.flat_map(both).flatten().collect(), all)
            }
            Self::ContinuationFlood => (frame(CONTINUATION, 0, 1, b"").repeat(50), all),
            Self::EmptyDataFlood => (frame(DATA, 0, 1, b"").repeat(50), all),
            Self::PingFlood => (frame(PING, 0, 0, &[7; 8]).repeat(50), all),
            Self::SettingsFlood => (frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(50), all),
            Self::PriorityFlood => (frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]).repeat(50), all),
            Self::HpackBomb => {
                let large = "y".repeat(4000);
                let mut bomb = block(&request(b"GET", b"/x", &[]));
                // Into the dynamic table (RFC 7541 §6.2.1), and then 8000 times out of it.
                bomb.extend_from_slice(&[0x40, 1, b'x', 127, 0xa1, 0x1e]);
                bomb.extend_from_slice(large.as_bytes());
                bomb.extend(std::iter::repeat_n(0xbe, 8000));
                (frame(HEADERS, END_HEADERS | END_STREAM, nth * 2 + 1, &bomb), 1)
            }
            Self::NothingRead | Self::NoWindow | Self::LeftOpen => (Vec::new(), 0),
        }
    }
}

/// A process behind TLS.
struct Scene {
    server: Server,
    authority: Authority,
    tokens: Tokens,
    _upstream: Upstream,
}

impl Scene {
    async fn start() -> Self {
        let upstream = Upstream::answering(|request| match request.target() {
            "/large" => response("200 OK", &[], &vec![b'l'; LARGE]),
            _ => response("200 OK", &[], b"ok"),
        })
        .await;
        super::support::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write_leaf(folder.path());
        let tokens = Tokens::new(folder.path());
        let config = configure(folder.path(), &upstream.url(), LISTEN, "");
        let server = Server::start(folder, &config);
        Self { server, authority, tokens, _upstream: upstream }
    }

    async fn connect(&self, from: std::net::IpAddr, alpn: &[u8]) -> Option<TlsStream<TcpStream>> {
        let stream = super::load::connect(self.server.address, from).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        self.authority.connector(&[alpn]).connect(name, stream).await.ok()
    }

    async fn healthy(&self) -> Times {
        let mut healthy = self.connect(HEALTHY, b"http/1.1").await.unwrap();
        times(&mut healthy, &self.tokens).await
    }
}

/// Does it on one connection after the other, until it is told to stop.
async fn abuse(
    scene: Arc<Scene>,
    abuse: Abuse,
    sent: Arc<AtomicU64>,
    mut stop: watch::Receiver<bool>,
) {
    let again = async {
        loop {
            once(&scene, abuse, &sent).await;
        }
    };
    tokio::select! {
        () = again => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Does it on one connection, for as long as that is served.
async fn once(scene: &Scene, abuse: Abuse, sent: &AtomicU64) {
    let Some(stream) = scene.connect(ATTACKER, b"h2").await else { return };
    let window = if abuse == Abuse::NoWindow { 0 } else { 0x7fff_ffff };
    let Ok(client) = Frames::open(stream, window).await else { return };
    let (mut from, to) = tokio::io::split(client.stream);
    let mut to = Frames::over(to);
    // Answers are read and forgotten, or not at all.
    let reading = async {
        let mut some = vec![0; 16_384];
        if abuse == Abuse::NothingRead {
            std::future::pending::<()>().await;
        }
        while from.read(&mut some).await.is_ok_and(|read| read > 0) {}
    };
    let sending = async {
        if to.send(abuse.opening()).await.is_err() {
            return;
        }
        sent.fetch_add(1, Ordering::Relaxed);
        if abuse.is_held() {
            std::future::pending::<()>().await;
        }
        for nth in 0.. {
            let (round, count) = abuse.round(nth);
            if to.send(round).await.is_err() {
                break;
            }
            sent.fetch_add(count, Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = reading => {}
        () = sending => {}
    }
}

/// Attackers have machines of their own: here they get what the others leave of this one, and are
/// interrupted as soon as those go on (sched(7), `SCHED_IDLE`).
fn elsewhere() -> Runtime {
    let give_way = || {
        let thread = std::fs::read_link("/proc/thread-self").unwrap();
        let mut chrt = std::process::Command::new("chrt");
        chrt.args(["--idle", "--pid", "0"]).arg(thread.file_name().unwrap());
        let gives_way = chrt.output().is_ok_and(|output| output.status.success());
        assert!(gives_way || seconds().is_none(), "figures need it");
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).on_thread_start(give_way).enable_all().build().unwrap()
}

/// Keeps the machine as busy as attackers do, and attacks nobody: what they cost beside that is what
/// is measured.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn begin(elsewhere: &Runtime) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let has_ended = Arc::clone(&has_ended);
            elsewhere.spawn(async move {
                while !has_ended.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
            });
        }
        Self(has_ended)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Attackers at work.
struct Attack {
    stop: watch::Sender<bool>,
    attackers: Vec<JoinHandle<()>>,
    sent: Arc<AtomicU64>,
}

impl Attack {
    async fn begin(scene: &Arc<Scene>, kind: Abuse, elsewhere: &Runtime) -> Self {
        let sent = Arc::new(AtomicU64::new(0));
        let (stop, stopping) = watch::channel(false);
        let attacker = |_| {
            elsewhere.spawn(abuse(Arc::clone(scene), kind, Arc::clone(&sent), stopping.clone()))
        };
        let attackers = (0..kind.connections()).map(attacker).collect();
        while sent.load(Ordering::Relaxed) < kind.connections() as u64 {
            tokio::task::yield_now().await;
        }
        Self { stop, attackers, sent }
    }

    /// How much was sent.
    async fn end(self) -> u64 {
        self.stop.send(true).unwrap();
        for attacker in self.attackers {
            attacker.await.unwrap();
        }
        self.sent.load(Ordering::Relaxed)
    }
}

async fn withstands(kind: Abuse) {
    let _alone = alone().await;
    let scene = Arc::new(Scene::start().await);
    scene.healthy().await;
    let idle = scene.server.memory();
    let peak = Peak::of(&scene.server);
    let elsewhere = elsewhere();
    let (mut usual, mut during, mut sent) = (Times::default(), Times::default(), 0);
    // By turns, as a machine is not equally busy all the time.
    let rounds = if seconds().is_some() { 3 } else { 1 };
    for _ in 0..rounds {
        let busy = Busy::begin(&elsewhere);
        usual.add(scene.healthy().await);
        drop(busy);
        let attack = Attack::begin(&scene, kind, &elsewhere).await;
        during.add(scene.healthy().await);
        sent += attack.end().await;
    }
    // And it is as good as before.
    let busy = Busy::begin(&elsewhere);
    usual.add(scene.healthy().await);
    drop(busy);
    elsewhere.shutdown_background();
    let figures = Figures { usual, during, idle, peak: peak.end() };
    let told = format!("{kind:?}: {sent} frames or connections; {figures}");
    writeln!(std::io::stderr(), "{told}").unwrap();
    figures.hold(if kind == Abuse::LeftOpen { BOUND_OPEN } else { BOUND }, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_reset_at_once() {
    withstands(Abuse::RapidReset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_the_server_is_made_to_reset() {
    withstands(Abuse::MadeYouReset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_sections_that_go_on_for_ever() {
    withstands(Abuse::ContinuationFlood).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_empty_frames() {
    withstands(Abuse::EmptyDataFlood).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings() {
    withstands(Abuse::PingFlood).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings() {
    withstands(Abuse::SettingsFlood).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priorities() {
    withstands(Abuse::PriorityFlood).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_sections_that_swell() {
    withstands(Abuse::HpackBomb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read() {
    withstands(Abuse::NothingRead).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_given_no_window() {
    withstands(Abuse::NoWindow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_end() {
    withstands(Abuse::LeftOpen).await;
}
