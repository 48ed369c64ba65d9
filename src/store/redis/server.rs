//! How the servers are reached: one by its address, a cluster by some of its nodes, a master by the
//! sentinels who know it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::cluster::ClusterClientBuilder;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, RedisConnectionInfo, RedisResult, TlsCertificates, from_redis_value,
};
use rustls_pki_types::CertificateDer;
use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use url::Url;

use super::connection::{Connection, Question};
use super::gate::{self, Admitted};
use super::keys::Keys;
use super::obstacle::Obstacle;
use crate::config::{RedisSettings, RedisTopology};

/// After so long without a sign of life the system is to ask whether the other end is still there.
const SILENCE: Duration = Duration::from_secs(15);

/// The servers that are configured.
pub(super) struct Server {
    settings: RedisSettings,
    keys: Keys,
    /// Which of the URLs was of use last.
    preferred: AtomicUsize,
    was_admitted: AtomicBool,
}

/// A server's name and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    is_tls: bool,
    host: String,
    port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

/// A connection, and to whom.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    pub(super) connection: Connection,
    pub(super) address: Address,
    pub(super) masters: Masters,
}

/// Which slots of a cluster are whose: first, last, host and port. Empty where there is no cluster.
pub(super) type Masters = Vec<(u16, u16, String, u16)>;

/// Why there is no connection, and to whom.
#[derive(Debug)]
pub(super) struct Unconnected {
    pub(super) obstacle: Obstacle,
    pub(super) address: Address,
}

impl Server {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        Self {
            settings: settings.clone(),
            keys: Keys::new(&settings.prefix),
            preferred: AtomicUsize::new(0),
            was_admitted: AtomicBool::new(false),
        }
    }

    pub(super) const fn command_timeout(&self) -> Duration {
        self.settings.command_timeout
    }

    /// Whether a connection that gave no answer may still be of use to others.
    pub(super) fn has_several(&self) -> bool {
        self.settings.topology == RedisTopology::Cluster
    }

    /// How the servers may be named to anybody: by the first.
    pub(super) fn address(&self) -> Address {
        let first = self.settings.urls.first().map(|url| self.address_of(url));
        first.unwrap_or(Address { is_tls: false, host: String::new(), port: 0 })
    }

    fn address_of(&self, url: &Url) -> Address {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let default = match self.settings.topology {
            RedisTopology::Single | RedisTopology::Cluster => 6379,
            RedisTopology::Sentinel { .. } => 26379,
        };
        Address { is_tls: url.scheme() == "rediss", host, port: url.port().unwrap_or(default) }
    }

    /// Makes a connection over which the store may be used. One URL after the other is tried. `None`
    /// where it would be one to the masters that are known.
    pub(super) async fn connect(
        &self,
        known: Option<&Masters>,
    ) -> Result<Option<Connected>, Unconnected> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.settings.urls.len();
        let mut failed = None::<Unconnected>;
        let urls = self.settings.urls.iter().enumerate().cycle().skip(first % count.max(1));
        for (at, url) in urls.take(count) {
            let address = self.address_of(url);
            match self.connect_by(url, address, known).await {
                Ok(connected) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                // What does not go away by itself tells more.
                Err(new) if new.obstacle.is_final || failed.is_none() => failed = Some(new),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| Unconnected {
            obstacle: Obstacle::lasting("no server is named"),
            address: self.address(),
        }))
    }

    async fn connect_by(
        &self,
        url: &Url,
        address: Address,
        known: Option<&Masters>,
    ) -> Result<Option<Connected>, Unconnected> {
        let fail = |address: &Address| {
            let address = address.clone();
            move |obstacle| Unconnected { obstacle, address }
        };
        let (address, database) = match &self.settings.topology {
            RedisTopology::Single => (address, url.path().trim_matches('/').parse().unwrap_or(0)),
            RedisTopology::Cluster => (address, 0),
            RedisTopology::Sentinel { master } => {
                (self.master(&address, master).await.map_err(fail(&address))?, 0)
            }
        };
        let info = self.info(&address, database, true);
        let mut connection = self.one(info).await.map_err(fail(&address))?;
        if !self.was_admitted.load(Ordering::Relaxed) {
            for fault in gate::advice(&mut connection, self.command_timeout()).await {
                tracing::warn!(%address, fault, "the store may forget");
            }
        }
        let mut masters = Masters::new();
        if self.has_several() {
            masters = self.masters(&mut connection).await.map_err(fail(&address))?;
            if known == Some(&masters) {
                return Ok(None);
            }
            connection = self.cluster().await.map_err(fail(&address))?;
        }
        self.admit(&mut connection, &address).await.map_err(fail(&address))?;
        Ok(Some(Connected { connection, address, masters }))
    }

    async fn admit(&self, connection: &mut Connection, address: &Address) -> Result<(), Obstacle> {
        let is_first = !self.was_admitted.load(Ordering::Relaxed);
        match gate::admit(connection, &self.keys, self.command_timeout()).await {
            Ok(Admitted { is_new, clock_off }) => {
                if is_new && !is_first {
                    tracing::error!(%address, "the store has lost all that it kept");
                }
                if let Some(off) = clock_off {
                    let seconds = off.as_secs();
                    tracing::warn!(%address, seconds, "the store's clock and ours are apart");
                }
                self.was_admitted.store(true, Ordering::Relaxed);
                Ok(())
            }
            // A part of a cluster may be down while all others can be used.
            Err(obstacle) if self.has_several() && !is_first && !obstacle.is_final => Ok(()),
            Err(obstacle) => Err(obstacle),
        }
    }

    /// Asks a sentinel for the master.
    async fn master(&self, sentinel: &Address, name: &str) -> Result<Address, Obstacle> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let mut answer = None;
        // Sentinels often have no credentials, and refuse those that they do not want.
        for with_credentials in [false, true] {
            let mut connection = self.one(self.info(sentinel, 0, with_credentials)).await?;
            let asked = connection.ask(Question::Command(&question));
            match timeout(self.command_timeout(), asked).await {
                Err(_) => return Err(Obstacle::timed_out()),
                Ok(Err(error)) if !with_credentials && error.code() == Some("NOAUTH") => {}
                Ok(Err(error)) => return Err(Obstacle::of(&error, "SENTINEL")),
                Ok(Ok(value)) => {
                    answer = from_redis_value::<Option<(String, u16)>>(value).ok();
                    break;
                }
            }
        }
        let answer = answer.ok_or_else(|| Obstacle::lasting("it is no sentinel"))?;
        let (host, port) =
            answer.ok_or_else(|| Obstacle::lasting("the sentinel knows no master of this name"))?;
        Ok(Address { is_tls: sentinel.is_tls, host, port })
    }

    /// Whether the sentinels say that this is not the master.
    pub(super) async fn is_elsewhere(&self, address: &Address) -> bool {
        let RedisTopology::Sentinel { master } = &self.settings.topology else { return false };
        let at = self.preferred.load(Ordering::Relaxed);
        let Some(url) = self.settings.urls.get(at) else { return false };
        let known = self.master(&self.address_of(url), master).await;
        known.is_ok_and(|known| known != *address)
    }

    pub(super) fn has_sentinels(&self) -> bool {
        matches!(self.settings.topology, RedisTopology::Sentinel { .. })
    }

    async fn one(&self, info: RedisResult<ConnectionInfo>) -> Result<Connection, Obstacle> {
        // Whoever asks watches the time.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(None);
        let connect = async {
            let client = match (info?, &self.settings.ca) {
                (info, Some(ca)) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
                    Client::build_with_tls(info, certificates(ca))?
                }
                (info, _) => Client::open(info)?,
            };
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        connect.await.map(Connection::One).map_err(|error| Obstacle::of(&error, "AUTH"))
    }

    /// Who the masters are of the cluster that a node is of.
    async fn masters(&self, node: &mut Connection) -> Result<Masters, Obstacle> {
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        let answer = timeout(self.command_timeout(), node.ask(Question::Command(&slots))).await;
        let answer = answer.map_err(|_| Obstacle::timed_out())?;
        let answer = answer.map_err(|error| Obstacle::of(&error, "CLUSTER SLOTS"))?;
        let ranges = answer.into_sequence().unwrap_or_default().into_iter();
        let mut masters: Masters = ranges
            .filter_map(|range| {
                let mut parts = range.into_sequence().ok()?.into_iter();
                let (first, last, master) = (parts.next()?, parts.next()?, parts.next()?);
                let mut master = master.into_sequence().ok()?.into_iter();
                Some((
                    from_redis_value(first).ok()?,
                    from_redis_value(last).ok()?,
                    from_redis_value(master.next()?).unwrap_or_default(),
                    from_redis_value(master.next()?).ok()?,
                ))
            })
            .collect();
        masters.sort();
        Ok(masters)
    }

    /// A connection to all of a cluster, one of whose nodes has shown that it lets us in.
    async fn cluster(&self) -> Result<Connection, Obstacle> {
        let limit = self.settings.connect_timeout + self.command_timeout();
        let connect = async {
            let urls = self.settings.urls.iter();
            let nodes = urls.map(|url| self.info(&self.address_of(url), 0, true));
            let mut builder = ClusterClientBuilder::new(nodes.collect::<RedisResult<Vec<_>>>()?)
                .connection_timeout(self.settings.connect_timeout)
                .response_timeout(self.command_timeout())
                .overall_response_timeout(None)
                .use_protocol(ProtocolVersion::RESP2)
                .tcp_settings(self.tcp())
                .min_retry_wait(20)
                .max_retry_wait(200);
            if let (Some(ca), true) = (&self.settings.ca, self.address().is_tls) {
                builder = builder.certs(certificates(ca));
            }
            builder.build()?.get_async_connection().await
        };
        // Each of its nodes is connected to, and asked.
        match timeout(limit * 2, connect).await {
            Err(_) => Err(Obstacle::timed_out()),
            Ok(Err(error)) => Err(Obstacle::of(&error, "CLUSTER SLOTS")),
            Ok(Ok(cluster)) => Ok(Connection::Cluster(cluster)),
        }
    }

    fn info(
        &self,
        address: &Address,
        database: i64,
        with_credentials: bool,
    ) -> RedisResult<ConnectionInfo> {
        let Address { is_tls, host, port } = address.clone();
        let addr = if is_tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut redis = RedisConnectionInfo::default()
            .set_db(database)
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        if let (Some(username), true) = (&self.settings.username, with_credentials) {
            redis = redis.set_username(username);
        }
        if let (Some(password), true) = (&self.settings.password, with_credentials) {
            redis = redis.set_password(password.expose_secret());
        }
        let info = addr.into_connection_info()?;
        Ok(info.set_redis_settings(redis).set_tcp_settings(self.tcp()))
    }

    /// Tells the system to find out about servers that vanish without a word.
    fn tcp(&self) -> TcpSettings {
        let settings = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE));
        #[cfg(target_os = "linux")]
        let settings = settings.set_user_timeout(SILENCE.max(self.command_timeout()));
        settings
    }
}

fn certificates(ca: &[CertificateDer<'static>]) -> TlsCertificates {
    let mut pem = String::new();
    for certificate in ca {
        let base64 = STANDARD.encode(certificate);
        let _ = writeln!(pem, "-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----");
    }
    TlsCertificates { client_tls: None, root_cert: Some(pem.into_bytes()) }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address()).finish_non_exhaustive()
    }
}
