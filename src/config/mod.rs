//! The configuration: raw YAML → every fault with its place → [`Config`], whose settings hold
//! together.

mod builder;
mod check;
mod deserializer;
mod document;
mod fault;
pub mod profile;
mod raw;
mod scalar;
mod schema;
mod shape;
mod suggestion;
pub mod well_known;

pub use document::MAX_BYTES;
pub use fault::{Fault, Severity};
pub use schema::schema;

use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use self::check::Check;
use self::document::Document;
use self::fault::{Findings, Mark};
use crate::clock;
use crate::exchange::client::Format;
use crate::exchange::policy::Policy;
use crate::exchange::subject::TrustedIssuer;
use crate::exchange::throttle::GuessLimits;
use crate::jwt::key_set::KeySet;
use crate::jwt::sign::SigningKeys;
use crate::oauth::grant_type;
use crate::time::Timestamp;

/// A configuration that holds together.
#[derive(Debug)]
pub struct Config {
    /// Never empty.
    pub listen: Vec<Listener>,
    pub admin: Admin,
    pub upstream: Upstream,
    /// Our keys and grants are merged into the upstream's own documents.
    pub overlay: bool,
    /// With overlay: where the upstream's keys are fetched from, where that is not behind
    /// `endpoints.jwks`.
    pub upstream_jwks: Option<Endpoint>,
    pub endpoints: Endpoints,
    pub policy: Arc<Policy>,
    /// In the order of the file.
    pub trusted_token_issuers: Vec<IssuerKeys>,
    pub fetched_keys: FetchedKeys,
    /// Never empty.
    pub signing_keys: Arc<SigningKeys>,
    /// The public halves of the signing keys.
    pub own_keys: Arc<KeySet>,
    pub store: StoreSettings,
    /// The file says where; it is no default.
    pub has_named_store: bool,
    pub limits: Limits,
    /// The file itself and every file that it names: what is watched for changes.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Whether the store is opened: it is asked for by name, or there is something to keep, or
    /// somebody asks what is kept.
    pub fn needs_store(&self) -> bool {
        self.has_named_store
            || self.endpoints.introspection.is_some()
            || self.endpoints.revocation.is_some()
            || self.trusted_token_issuers.iter().any(|keys| keys.issuer.once)
            || self.policy.applications().any(|application| {
                application.gets_refresh_tokens()
                    || application.allows(grant_type::TOKEN_EXCHANGE)
                        && application.access_token.format == Format::Opaque
            })
    }

    /// The longest life of a token that is verified by our keys.
    pub fn longest_token(&self) -> Duration {
        let signed = self.policy.applications().filter(|application| {
            application.allows(grant_type::TOKEN_EXCHANGE)
                && application.access_token.format == Format::Jwt
        });
        signed.map(|application| application.access_token.lifetime).max().unwrap_or_default()
    }
}

/// Where refresh tokens, revocations and tokens that come once are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreSettings {
    /// In a folder of this process alone.
    Embedded { folder: PathBuf },
    /// In a Redis or Valkey, which several processes may share.
    Redis(RedisSettings),
}

/// A Redis or Valkey and how it is reached.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://` or `rediss://`, host and port, and for a single one the database as path. No
    /// credentials. Never empty.
    pub urls: Vec<Url>,
    pub topology: RedisTopology,
    /// ACL user. Without it, the default one.
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// Instead of the system's roots.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    pub connect_timeout: Duration,
    /// Of each command.
    pub command_timeout: Duration,
    /// What every key begins with.
    pub prefix: String,
}

impl PartialEq for RedisSettings {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            urls,
            topology,
            username,
            password,
            ca,
            connect_timeout,
            command_timeout,
            prefix,
        } = self;
        let secret = |secret: &Option<SecretString>| {
            secret.as_ref().map(|secret| secret.expose_secret().to_owned())
        };
        *urls == other.urls
            && *topology == other.topology
            && *username == other.username
            && secret(password) == secret(&other.password)
            && *ca == other.ca
            && *connect_timeout == other.connect_timeout
            && *command_timeout == other.command_timeout
            && *prefix == other.prefix
    }
}

/// How the servers behind the URLs stand to one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTopology {
    Single,
    /// The URLs are of some of its nodes.
    Cluster,
    /// The URLs are of sentinels, who know this master.
    Sentinel {
        master: String,
    },
}

/// Where clients connect.
#[derive(Debug)]
pub struct Listener {
    pub address: SocketAddr,
    pub tls: Option<ListenerTls>,
}

/// A certificate chain and its key, held to each other at load.
#[derive(Debug)]
pub struct ListenerTls {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// The listener for operators.
#[derive(Clone, Debug)]
pub struct Admin {
    pub address: SocketAddr,
    /// How many issuers, and how many clients, have a metric label of their own.
    pub metric_labels_max: usize,
    /// What operators must show to change anything. Without it, only those on this machine may.
    pub token: Option<SecretString>,
}

/// The identity provider.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Scheme, host and port; no path, query or fragment.
    pub url: Url,
    /// Instead of the system's roots.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    pub connect_timeout: Duration,
    /// Of each read.
    pub read_timeout: Duration,
}

/// Paths, each beginning with `/`, none with a query, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Never empty.
    pub token: Vec<String>,
    pub jwks: Option<String>,
    pub metadata: Vec<String>,
    pub introspection: Option<String>,
    pub revocation: Option<String>,
}

/// Bounds on what clients may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time, over all listeners.
    pub connections: usize,
    /// Of these, how many one address may have, if that is bounded.
    pub connections_per_address: Option<usize>,
    /// Exchanges and refreshes at a time. As many may wait for their secret to be checked, and for
    /// the keys of each issuer.
    pub requests: usize,
    /// Requests that wait for the upstream, at a time.
    pub forwarded_requests: usize,
    /// From the first byte of a header, or from connecting, to its end.
    pub header_timeout: Duration,
    /// For the body of a request that is buffered, as a whole.
    pub body_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
    pub failed_authentications: GuessLimits,
}

/// A trusted token issuer and where its keys come from.
#[derive(Clone, Debug)]
pub struct IssuerKeys {
    pub issuer: Arc<TrustedIssuer>,
    pub source: KeySource,
}

/// Where the keys of a trusted token issuer come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A JWKS that is fetched.
    Endpoint(Endpoint),
    /// `jwks_uri` from the issuer's metadata, whose `issuer` must equal the configured one.
    Discovery(Discovery),
    /// Certificates or a JWKS file.
    Fixed(FixedKeys),
}

/// How long keys may serve, at least and at most, while their issuer can't be reached.
pub const MAX_STALE: RangeInclusive<Duration> = Duration::from_mins(5)..=Duration::from_hours(168);

/// What becomes of keys once they are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedKeys {
    /// How long they serve while their issuer can't be reached, since it last confirmed them.
    pub max_stale: Duration,
    /// The folder in which they are kept for a restart. `None`: nowhere.
    pub cache: Option<PathBuf>,
}

/// A URL that is fetched, and how. Equal endpoints may share what was fetched.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub url: Url,
    /// Instead of the system's roots.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// Sent as `Authorization: Bearer`. Re-read from the file when the file changes.
    pub bearer_token: Option<SecretString>,
}

/// Discovery by the issuer's metadata (OpenID Connect Discovery §4, RFC 8414 §3).
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The metadata documents to try, in order.
    pub metadata: Vec<Url>,
    /// What the document's `issuer` must equal.
    pub issuer: String,
    /// Origins besides the issuer's own on which `jwks_uri` may lie.
    pub origins: Vec<Url>,
    pub ca: Option<Vec<CertificateDer<'static>>>,
}

/// Keys that stand in the configuration.
#[derive(Clone, Debug)]
pub struct FixedKeys {
    pub keys: Arc<KeySet>,
    /// The earliest end of a certificate's validity.
    pub not_after: Option<Timestamp>,
}

/// What a configuration is read in the light of.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Its own path. What it names is relative to the folder of that.
    pub file: &'a Path,
    /// Looks an environment variable up.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Certificates may have expired by then.
    pub now: Timestamp,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A configuration and the warnings about it; or else every fault, with the warnings among them.
pub type Loaded = Result<(Config, Vec<Fault>), Vec<Fault>>;

/// Reads a configuration file and all that it names. Nothing is fetched.
pub fn load(path: &Path) -> Loaded {
    match read(path) {
        Ok(text) => load_text(&text, path, &|name| std::env::var(name).ok()),
        Err(error) => {
            let findings = Findings::new(path);
            let message = format!("the file can't be read: {}", error.kind());
            findings.add(Severity::Fault, Mark::START, String::new(), message);
            Err(findings.into_sorted())
        }
    }
}

/// As [`load`], of a text that was read already.
pub fn load_text(
    text: impl AsRef<[u8]>,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Loaded {
    parse(text, &Surroundings { file: path, environment, now: clock::now() })
}

/// As [`load_text`], at a time that is told.
pub fn parse(text: impl AsRef<[u8]>, surroundings: &Surroundings<'_>) -> Loaded {
    let findings = Findings::new(surroundings.file);
    let config = Document::parse(text.as_ref(), &findings).and_then(|document| {
        let raw = deserializer::read(&document, &findings)?;
        Check::new(&document, &findings, surroundings).run(&raw)
    });
    let is_faulty = findings.has_fault();
    match config {
        Some(config) if !is_faulty => Ok((config, findings.into_sorted())),
        Some(_) | None => Err(findings.into_sorted()),
    }
}

/// The text of a file, as far as [`parse`] wants it.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}
