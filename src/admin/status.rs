//! How the process is, as operators and orchestrators are told. Nothing in it is secret.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::config::Listener;
use crate::jwt::past_keys::MissedKey;
use crate::jwt::sign::{SigningKey, SigningKeys};
use crate::keys::IssuerStatus;
use crate::overlay::finding::Finding;
use crate::time::Timestamp;

/// Of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `/status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub uptime_seconds: u64,
    /// Whether every listener accepts.
    pub listening: bool,
    /// From SIGTERM on.
    pub draining: bool,
    pub configuration: Configuration,
    /// `null` until the first one.
    pub last_reload: Option<Reload>,
    pub listeners: Vec<ListenerStatus>,
    pub signing_keys: Vec<SigningKeyStatus>,
    /// Keys that a configuration has lost while tokens may live that they have signed.
    pub missed_signing_keys: Vec<MissedKeyStatus>,
    /// What is wrong with the upstream's documents; `null` without overlay.
    pub overlay: Option<OverlayStatus>,
    pub trusted_token_issuers: Vec<IssuerStatus>,
    /// `null` where the configuration needs none.
    pub store: Option<StoreStatus>,
    /// The upstream's endpoints at which its clients are authenticated, in the order in which they are
    /// asked. Empty where none is configured.
    pub client_authentication: Vec<ClientAuthenticationStatus>,
}

/// Whether an endpoint of the upstream is good for authenticating its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientAuthenticationStatus {
    /// `introspection` or `revocation`.
    pub endpoint: &'static str,
    pub path: String,
    /// What became of a random secret when it was tried last: `refused`; `accepted`, so that the
    /// endpoint proves nothing and is not used; `no_endpoint`; or `unknown`.
    pub wrong_secret: &'static str,
    /// Whether an application rests on it.
    #[serde(skip)]
    pub is_needed: bool,
}

/// How the store is: never where, since an address may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// `embedded` or `redis`.
    pub kind: &'static str,
    /// Whether it answered when it was last asked.
    pub ok: bool,
    /// Since it last answered; `null` where it never did.
    pub age_seconds: Option<u64>,
    /// What was wrong when it was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The configuration that serves.
#[derive(Clone, Debug, Serialize)]
pub struct Configuration {
    /// 1 for the first, one more for each that was applied.
    pub generation: u64,
    #[serde(serialize_with = "rfc3339")]
    pub loaded_at: Timestamp,
}

/// The last attempt to reload.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Reload {
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    pub applied: bool,
}

/// Where clients connect.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerStatus {
    pub address: SocketAddr,
    pub tls: bool,
}

impl ListenerStatus {
    pub fn all(listeners: &[Listener]) -> Vec<Self> {
        let status = |one: &Listener| Self { address: one.address, tls: one.tls.is_some() };
        listeners.iter().map(status).collect()
    }
}

/// One of our keys.
#[derive(Clone, Debug, Serialize)]
pub struct SigningKeyStatus {
    pub kid: String,
    pub algorithm: &'static str,
    /// Whether it is the one that signs.
    pub active: bool,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub not_before: Option<Timestamp>,
}

impl SigningKeyStatus {
    pub fn all(keys: &SigningKeys, now: Timestamp) -> Vec<Self> {
        let active = keys.active(now).map(std::ptr::from_ref);
        let status = |key: &SigningKey| {
            let at = std::ptr::from_ref(key);
            Self {
                kid: key.kid().to_owned(),
                algorithm: key.algorithm().as_str(),
                active: active == Some(at),
                not_before: key.not_before(),
            }
        };
        keys.iter().map(status).collect()
    }
}

/// A key of ours that is no longer published.
#[derive(Clone, Debug, Serialize)]
pub struct MissedKeyStatus {
    pub kid: String,
    /// Until then relying parties may be shown tokens that they can't verify.
    #[serde(serialize_with = "rfc3339")]
    pub tokens_until: Timestamp,
}

impl From<MissedKey> for MissedKeyStatus {
    fn from(missed: MissedKey) -> Self {
        Self { kid: missed.kid, tokens_until: missed.tokens_until }
    }
}

/// How the upstream's documents are, as clients get them that know us by our issuer.
#[derive(Clone, Debug, Serialize)]
pub struct OverlayStatus {
    pub findings: Vec<FindingStatus>,
}

/// Something that is wrong with one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingStatus {
    /// The path, or the URL where the keys are fetched elsewhere.
    pub place: String,
    pub finding: &'static str,
    /// `error` or `warning`.
    pub level: &'static str,
    pub text: String,
}

impl OverlayStatus {
    pub fn new(findings: Vec<(String, Finding)>) -> Self {
        let status = |(place, finding): (String, Finding)| FindingStatus {
            place,
            finding: finding.code(),
            level: if finding.is_error() { "error" } else { "warning" },
            text: finding.to_string(),
        };
        Self { findings: findings.into_iter().map(status).collect() }
    }
}

/// What `/readyz` shows: whether requests are to be sent here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<Check>,
    /// Trusted token issuers whose tokens can't be checked, or not much longer, `store` where that does
    /// not answer, and `client_authentication` where the upstream takes wrong secrets for right. Others are served, so it is no reason not to be ready.
    pub degraded: Vec<Arc<str>>,
}

/// One of the conditions that must all hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
}

impl Status {
    /// Ready means: listening, with a valid configuration and a key to sign with, and not about to
    /// stop. A status without a valid configuration can't be made, so that one always holds.
    pub fn readiness(&self) -> Readiness {
        let checks = [
            ("listening", self.listening),
            ("configuration", true),
            ("signing_key", self.signing_keys.iter().any(|key| key.active)),
            ("not_draining", !self.draining),
        ]
        .map(|(name, ok)| Check { name, ok });
        let issuers = self.trusted_token_issuers.iter().filter(|issuer| issuer.is_degraded());
        let store = self.store.as_ref().filter(|store| !store.ok);
        let open = self.client_authentication.iter();
        let open = open.filter(|one| one.is_needed && one.wrong_secret == "accepted").take(1);
        Readiness {
            ready: checks.iter().all(|check| check.ok),
            checks: checks.to_vec(),
            degraded: issuers
                .map(|issuer| Arc::clone(&issuer.name))
                .chain(store.map(|_| Arc::from("store")))
                .chain(open.map(|_| Arc::from("client_authentication")))
                .collect(),
        }
    }
}

/// RFC 3339. jiff's last second is a day before ours.
pub fn rfc3339_text(at: Timestamp) -> String {
    let at = i64::try_from(at.as_secs()).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339_text(*at))
}

#[expect(clippy::ref_option, reason = "serde passes references")]
fn rfc3339_or_null<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        None => serializer.serialize_none(),
        Some(at) => rfc3339(at, serializer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::algorithm::Algorithm;
    use crate::jwt::sign::generate_pem;
    use crate::keys::KeyState;

    fn signing_keys(not_before: &[Option<u64>]) -> SigningKeys {
        let key = |not_before: &Option<u64>| {
            let pem = generate_pem(Algorithm::ES256).unwrap();
            let not_before = not_before.map(Timestamp::from_secs);
            SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, None, not_before).unwrap()
        };
        SigningKeys::new(not_before.iter().map(key).collect())
    }

    fn status() -> Status {
        Status {
            version: VERSION,
            uptime_seconds: 1,
            listening: true,
            draining: false,
            configuration: Configuration {
                generation: 1,
                loaded_at: Timestamp::from_secs(1_767_225_600),
            },
            last_reload: None,
            listeners: Vec::new(),
            signing_keys: SigningKeyStatus::all(&signing_keys(&[None]), Timestamp::from_secs(0)),
            missed_signing_keys: Vec::new(),
            overlay: None,
            trusted_token_issuers: Vec::new(),
            store: None,
            client_authentication: Vec::new(),
        }
    }

    type Break = fn(&mut Status);

    #[test]
    fn each_condition_alone_makes_it_unready() {
        assert!(status().readiness().ready);
        let cases: [(&str, Break); 3] = [
            ("listening", |status| status.listening = false),
            ("signing_key", |status| status.signing_keys.clear()),
            ("not_draining", |status| status.draining = true),
        ];
        for (name, break_it) in cases {
            let mut status = status();
            break_it(&mut status);
            let readiness = status.readiness();
            assert!(!readiness.ready, "{name}");
            let failed: Vec<_> = readiness.checks.iter().filter(|check| !check.ok).collect();
            assert_eq!(failed, [&Check { name, ok: false }]);
        }
    }

    #[test]
    fn an_issuer_without_keys_degrades_and_no_more() {
        let issuer = |name: &str, state| IssuerStatus {
            name: name.into(),
            source: "endpoint",
            state,
            keys: 0,
            keys_from: None,
            age_seconds: None,
            last_error: None,
            next_fetch_in_seconds: None,
        };
        let mut status = status();
        status.trusted_token_issuers = vec![
            issuer("a", KeyState::Fresh),
            issuer("b", KeyState::Unavailable),
            issuer("c", KeyState::Disabled),
            issuer("d", KeyState::Stale),
        ];
        let readiness = status.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.degraded.iter().map(|name| &**name).collect::<Vec<_>>(), ["b", "d"]);
    }

    #[test]
    fn a_store_that_does_not_answer_degrades_and_no_more() {
        let store = |ok| StoreStatus {
            kind: "redis",
            ok,
            age_seconds: Some(7),
            last_error: (!ok).then(|| "no connection".to_owned()),
        };
        let mut status = status();
        status.store = Some(store(true));
        assert_eq!(status.readiness().degraded, Vec::<Arc<str>>::new());
        status.store = Some(store(false));
        let readiness = status.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.degraded, [Arc::from("store")]);
    }

    #[test]
    fn an_upstream_that_takes_any_secret_degrades_and_no_more() {
        let endpoint = |wrong_secret, is_needed| ClientAuthenticationStatus {
            endpoint: "introspection",
            path: "/introspect".to_owned(),
            wrong_secret,
            is_needed,
        };
        let degraded = |wrong_secret, is_needed| {
            let mut status = status();
            status.client_authentication = vec![endpoint(wrong_secret, is_needed); 2];
            let readiness = status.readiness();
            assert!(readiness.ready);
            readiness.degraded
        };
        assert_eq!(degraded("accepted", true), [Arc::from("client_authentication")]);
        for (wrong_secret, is_needed) in
            [("refused", true), ("unknown", true), ("no_endpoint", true), ("accepted", false)]
        {
            assert_eq!(degraded(wrong_secret, is_needed), Vec::<Arc<str>>::new());
        }
    }

    #[test]
    fn the_key_that_signs_is_the_active_one() {
        let keys = signing_keys(&[Some(200), None]);
        let active = |at| {
            let all = SigningKeyStatus::all(&keys, Timestamp::from_secs(at));
            all.iter().map(|key| key.active).collect::<Vec<_>>()
        };
        assert_eq!(active(199), [false, true]);
        assert_eq!(active(200), [true, false]);
    }

    #[test]
    fn times_are_rfc_3339() {
        let mut status = status();
        status.signing_keys[0].not_before = Some(Timestamp::from_secs(4_102_444_800));
        let shown = serde_json::to_value(status).unwrap();
        assert_eq!(shown["configuration"]["loaded_at"], "2026-01-01T00:00:00Z");
        assert_eq!(shown["signing_keys"][0]["not_before"], "2100-01-01T00:00:00Z");
        assert!(rfc3339_text(Timestamp::MAX).starts_with("9999-"));
        assert_eq!(shown["last_reload"], serde_json::Value::Null);
    }
}
