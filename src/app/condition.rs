//! How a server is, and what operators may do to it: what its admin listener shows and does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::keeper::Keeper;
use super::revoke::revoke_here;
use crate::admin::order::{Order, RevokeError, Revoked};
use crate::admin::{
    Admin, ClientAuthenticationStatus, Configuration, ListenerStatus, MissedKeyStatus,
    OverlayStatus, Reload, SigningKeyStatus, Status, VERSION, rfc3339_text,
};
use crate::clock;
use crate::config::Config;
use crate::exchange::inquiry::Purpose;
use crate::jwt::past_keys::{MissedKey, PastKeys};
use crate::proxy::client_probe::{EndpointFinding, Finding};
use crate::proxy::generation::{Front, Generation};
use crate::proxy::token_endpoint::decision_id;
use crate::telemetry::metrics::Metrics;

/// What is shown of reloads.
#[derive(Clone, Debug)]
struct History {
    serving: Configuration,
    last_reload: Option<Reload>,
}

/// What the admin listener looks at.
pub(super) struct Condition {
    began: Instant,
    pub(super) front: Arc<ArcSwap<Front>>,
    pub(super) keeper: Arc<Keeper>,
    listeners: Vec<ListenerStatus>,
    is_draining: AtomicBool,
    history: Mutex<History>,
    past_keys: Mutex<PastKeys>,
}

impl Condition {
    pub(super) fn new(
        front: Arc<ArcSwap<Front>>,
        keeper: Arc<Keeper>,
        listeners: Vec<ListenerStatus>,
    ) -> Self {
        let now = clock::now();
        let past_keys = {
            let config = &front.load().generation.config;
            PastKeys::begin(&config.signing_keys, now, config.longest_token())
        };
        Self {
            began: Instant::now(),
            front,
            keeper,
            listeners,
            is_draining: AtomicBool::new(false),
            history: Mutex::new(History {
                serving: Configuration { generation: 1, loaded_at: now },
                last_reload: None,
            }),
            past_keys: Mutex::new(past_keys),
        }
    }

    /// Where clients connect, in the order of the configuration.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_reload(&self, applied: bool) {
        let mut history = self.history.lock();
        let at = clock::now();
        history.last_reload = Some(Reload { at, applied });
        if applied {
            let generation = history.serving.generation + 1;
            history.serving = Configuration { generation, loaded_at: at };
        }
    }

    /// Tells of keys that the next configuration loses too early. They are not published by
    /// themselves: whoever takes a key out may do so because it was stolen.
    pub(super) fn change_keys(&self, previous: &Config, next: &Config) {
        let now = clock::now();
        let since = self.history.lock().serving.loaded_at;
        let mut past = self.past_keys.lock();
        past.serve(&previous.signing_keys, since, now, previous.longest_token());
        for MissedKey { kid, tokens_until } in past.missed(&next.signing_keys, now) {
            let until = rfc3339_text(tokens_until);
            tracing::warn!(
                kid,
                until,
                "the signing key is no longer published, and tokens that it has signed may live until \
                 then: unless it was stolen, keep it at the end of signing_keys for as long"
            );
        }
    }

    fn status(&self) -> Status {
        let now = clock::now();
        let front = self.front.load();
        let generation = &front.generation;
        let history = self.history.lock().clone();
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        let missed = self.past_keys.lock().missed(&generation.config.signing_keys, now);
        Status {
            version: VERSION,
            uptime_seconds: self.began.elapsed().as_secs(),
            listening: !is_draining,
            draining: is_draining,
            configuration: history.serving,
            last_reload: history.last_reload,
            listeners: self.listeners.clone(),
            signing_keys: SigningKeyStatus::all(&generation.config.signing_keys, now),
            missed_signing_keys: missed.into_iter().map(MissedKeyStatus::from).collect(),
            overlay: (generation.config.overlay)
                .then(|| OverlayStatus::new(generation.documents.findings())),
            trusted_token_issuers: generation.keys.status(),
            store: self.keeper.status(&generation.config),
            client_authentication: client_authentication(generation),
        }
    }

    /// What the admin listener has of it.
    pub(super) fn shown(of: &Arc<Self>, metrics: Arc<Metrics>) -> Admin {
        let (looked_at, asked, told) = (Arc::clone(of), Arc::clone(of), Arc::clone(of));
        Admin {
            metrics,
            status: Box::new(move || looked_at.status()),
            token: Box::new(move || asked.front.load().generation.config.admin.token.clone()),
            revoke: Box::new(move |order| {
                let told = Arc::clone(&told);
                Box::pin(async move { told.revoke(order).await })
            }),
        }
    }

    pub(super) fn watch_store(of: &Arc<Self>) {
        let (keeper, condition) = (Arc::downgrade(&of.keeper), Arc::downgrade(of));
        let is_needed = move || {
            condition.upgrade().is_some_and(|one| one.front.load().generation.config.needs_store())
        };
        tokio::spawn(Keeper::watch(keeper, is_needed));
    }

    /// Carries an operator's revocation out. Once begun it goes on, whoever waits for it or not.
    async fn revoke(&self, order: Order) -> Revoked {
        let (front, keeper) = (self.front.load_full(), Arc::clone(&self.keeper));
        let working = tokio::spawn(async move {
            let _in_use = keeper.slot().begin();
            revoke_here(&front.generation.config, keeper.slot(), &order).await
        });
        working.await.unwrap_or_else(|_| Revoked {
            decision: decision_id(),
            result: Err(RevokeError::StoreUnavailable),
        })
    }
}

fn client_authentication(generation: &Generation) -> Vec<ClientAuthenticationStatus> {
    let Some(inquiries) = &generation.inquiries else { return Vec::new() };
    let is_needed = generation.config.policy.asks_upstream();
    let findings = inquiries.probe.known_findings().into_iter();
    let status = |EndpointFinding { purpose, path, finding }| ClientAuthenticationStatus {
        endpoint: match purpose {
            Purpose::Introspection => "introspection",
            Purpose::Revocation => "revocation",
        },
        path,
        wrong_secret: match finding {
            Finding::Unknown => "unknown",
            Finding::RefusesWrongSecrets => "refused",
            Finding::AcceptsWrongSecrets => "accepted",
            Finding::Missing => "no_endpoint",
        },
        is_needed,
    };
    findings.map(status).collect()
}
