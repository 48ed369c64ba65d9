//! Prometheus metrics, with labels from closed sets only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use tokio::time::Instant;

use super::labels::{METHODS, Names, STATUS_CLASSES, method_index, status_index};
use super::series::{Series, forget};
use crate::config::{Config, KeySource};
use crate::exchange::Record;
use crate::exchange::error::Refusal;
use crate::exchange::refresh::RefreshError;

/// The outcome of what was granted, and its reason.
pub(super) const GRANTED: &str = "granted";
pub(super) const NO_REASON: &str = "none";

/// How an attempt to fetch a JWKS ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    Ok,
    NotModified,
    Failed,
}

impl FetchOutcome {
    const ALL: [Self; 3] = [Self::Ok, Self::NotModified, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotModified => "not_modified",
            Self::Failed => "failed",
        }
    }
}

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOperation {
    Issue,
    Family,
    Rotate,
    EndFamily,
    OpaqueClaims,
    RevokeAccessToken,
    IsAccessTokenRevoked,
    RememberOnce,
    CutOff,
    CutOffOf,
    Ping,
}

impl StoreOperation {
    const ALL: [Self; 11] = [
        Self::Issue,
        Self::Family,
        Self::Rotate,
        Self::EndFamily,
        Self::OpaqueClaims,
        Self::RevokeAccessToken,
        Self::IsAccessTokenRevoked,
        Self::RememberOnce,
        Self::CutOff,
        Self::CutOffOf,
        Self::Ping,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Family => "family",
            Self::Rotate => "rotate",
            Self::EndFamily => "end_family",
            Self::OpaqueClaims => "opaque_claims",
            Self::RevokeAccessToken => "revoke_access_token",
            Self::IsAccessTokenRevoked => "is_access_token_revoked",
            Self::RememberOnce => "remember_once",
            Self::CutOff => "cut_off",
            Self::CutOffOf => "cut_off_of",
            Self::Ping => "ping",
        }
    }
}

/// Who answered a request about a token that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    Cambio,
    Upstream,
}

impl AnsweredBy {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cambio => "cambio",
            Self::Upstream => "upstream",
        }
    }
}

/// What a probe of a caller's credentials at the upstream found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Accepted,
    Rejected,
    Unclear,
}

impl ProbeOutcome {
    const ALL: [Self; 3] = [Self::Accepted, Self::Rejected, Self::Unclear];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Unclear => "unclear",
        }
    }
}

/// What is shown of one issuer's fetched keys. It is shown for as long as its owner keeps it.
#[derive(Debug)]
pub struct JwksGauge {
    issuer: Arc<str>,
    /// When the issuer last confirmed its keys, and how many there are.
    confirmed: Mutex<Option<(Instant, usize)>>,
}

impl JwksGauge {
    pub fn confirm(&self, at: Instant, keys: usize) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, keys));
    }
}

/// Whose labels there are, and what only the configuration says.
#[derive(Debug, Default)]
struct Configured {
    issuers: Names,
    clients: Names,
    /// Of each issuer with certificates, the earliest end of one, in Unix time.
    certificates: Vec<(Arc<str>, u64)>,
    granted: HashMap<String, IntCounter>,
    granted_by_client: HashMap<String, IntCounter>,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    series: Series,
    exchanges: IntCounterVec,
    exchanges_by_client: IntCounterVec,
    exchange_duration: Histogram,
    refreshes: IntCounterVec,
    refresh_reuse: IntCounter,
    introspections: IntCounterVec,
    revocations: IntCounterVec,
    client_probes: IntCounterVec,
    /// In the order of [`StoreOperation::ALL`].
    store_operations: Vec<Histogram>,
    /// By method, then by status class.
    upstream_requests: Vec<Vec<IntCounter>>,
    upstream_duration: Histogram,
    jwks: Jwks,
    config_applied: IntCounter,
    config_refused: IntCounter,
    config_last_reload_successful: IntGauge,
    certificate_not_after: IntGaugeVec,
    configured: ArcSwap<Configured>,
}

/// What is counted and shown of keys that are fetched.
#[derive(Debug)]
struct Jwks {
    fetches: IntCounterVec,
    age: GaugeVec,
    keys: IntGaugeVec,
    /// Held while the gauges that are computed at each scrape are.
    shown: Mutex<Vec<Weak<JwksGauge>>>,
}

impl Jwks {
    fn new(series: &Series) -> Self {
        Self {
            fetches: series.counters(
                "jwks_fetches_total",
                "Attempts to fetch a trusted token issuer's keys.",
                &["issuer", "outcome"],
            ),
            age: series.float_gauges(
                "jwks_age_seconds",
                "Since a trusted token issuer last confirmed its keys.",
                &["issuer"],
            ),
            keys: series.gauges(
                "jwks_keys",
                "Usable keys of a trusted token issuer that were fetched.",
                &["issuer"],
            ),
            shown: Mutex::default(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series without the name of an issuer or a client stand at 0 from here on.
    pub fn new() -> Self {
        let series = Series::new();
        let build = series.gauges("build_info", "The version that runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let upstream = series.counters(
            "upstream_requests_total",
            "Answers of the upstream, by method and class of status.",
            &["method", "status_class"],
        );
        let upstream_requests = METHODS.map(|method| {
            STATUS_CLASSES.map(|class| upstream.with_label_values(&[method, class])).to_vec()
        });
        let outcome = ["outcome"];
        let reloads = "Attempts to reload the configuration.";
        let reloads = series.counters("config_reloads_total", reloads, &outcome);
        let successful = "1 where the last attempt to load the configuration succeeded, else 0.";
        let successful = series
            .gauges("config_last_reload_successful", successful, &[])
            .with_label_values::<&str>(&[]);
        successful.set(1);
        let refreshes = "Refreshes of tokens minted here, by outcome and exact reason.";
        let refreshes = series.counters("refreshes_total", refreshes, &["outcome", "reason"]);
        refreshes.with_label_values(&[GRANTED, NO_REASON]);
        let reused = "Refresh tokens that were used again after they were spent.";
        let refresh_reuse = series
            .counters("refresh_reuse_detected_total", reused, &[])
            .with_label_values::<&str>(&[]);
        let answered_by = |name, help| {
            let answers = series.counters(name, help, &["answered_by"]);
            for by in [AnsweredBy::Cambio, AnsweredBy::Upstream] {
                answers.with_label_values(&[by.as_str()]);
            }
            answers
        };
        let probes = "Probes of a caller's credentials at the upstream.";
        let client_probes = series.counters("client_probes_total", probes, &outcome);
        for probed in ProbeOutcome::ALL {
            client_probes.with_label_values(&[probed.as_str()]);
        }
        let stored = "How long the store takes, by operation.";
        let stored = series.duration_vec("store_operation_seconds", stored, &["operation"]);
        Self {
            refreshes,
            refresh_reuse,
            introspections: answered_by(
                "introspections_total",
                "Introspections of tokens, by who answered.",
            ),
            revocations: answered_by(
                "revocations_total",
                "Revocations of tokens, by who answered.",
            ),
            client_probes,
            store_operations: StoreOperation::ALL
                .map(|operation| stored.with_label_values(&[operation.as_str()]))
                .to_vec(),
            exchanges: series.counters(
                "exchanges_total",
                "Exchanges by trusted token issuer, outcome and exact reason.",
                &["issuer", "outcome", "reason"],
            ),
            exchanges_by_client: series.counters(
                "exchanges_by_client_total",
                "Exchanges by application and outcome.",
                &["client", "outcome"],
            ),
            exchange_duration: series.durations(
                "exchange_duration_seconds",
                "From the end of an exchange's request to its answer.",
            ),
            upstream_requests: upstream_requests.to_vec(),
            upstream_duration: series.durations(
                "upstream_duration_seconds",
                "From a request's start upstream to the end of the answer.",
            ),
            jwks: Jwks::new(&series),
            config_applied: reloads.with_label_values(&["applied"]),
            config_refused: reloads.with_label_values(&["refused"]),
            config_last_reload_successful: successful,
            certificate_not_after: series.gauges(
                "certificate_not_after_timestamp_seconds",
                "The earliest end of validity among a trusted token issuer's certificates.",
                &["issuer"],
            ),
            configured: ArcSwap::default(),
            series,
        }
    }

    /// Takes over the names of a configuration that is about to serve: what was granted stands at
    /// 0 for each, and names that are gone are forgotten.
    pub fn configure(&self, config: &Config) {
        let most = config.admin.metric_labels_max;
        let issuers = config.trusted_token_issuers.iter().map(|keys| &keys.issuer.name);
        let issuers = Names::first(issuers, most);
        let clients = config.policy.applications().map(|application| &application.name);
        let clients = Names::first(clients, most);
        let certificates = config.trusted_token_issuers.iter().filter_map(|keys| {
            let KeySource::Fixed(fixed) = &keys.source else { return None };
            Some((Arc::clone(&keys.issuer.name), fixed.not_after?.as_secs()))
        });
        let granted = issuers.iter().map(|issuer| {
            let labels = [issuer, GRANTED, NO_REASON];
            (issuer.to_owned(), self.exchanges.with_label_values(&labels))
        });
        let granted_by_client = clients.iter().map(|client| {
            let counter = self.exchanges_by_client.with_label_values(&[client, GRANTED]);
            (client.to_owned(), counter)
        });
        for keys in &config.trusted_token_issuers {
            let own = issuers.label(Some(&keys.issuer.name)) == &*keys.issuer.name;
            let fetched = match keys.source {
                KeySource::Endpoint(_) | KeySource::Discovery(_) => keys.issuer.enabled,
                KeySource::Fixed(_) => false,
            };
            for outcome in FetchOutcome::ALL.iter().filter(|_| own && fetched) {
                self.jwks.fetches.with_label_values(&[&keys.issuer.name, outcome.as_str()]);
            }
        }
        let configured = Configured {
            certificates: certificates.collect(),
            granted: granted.collect(),
            granted_by_client: granted_by_client.collect(),
            issuers,
            clients,
        };
        forget(&self.exchanges, "issuer", &configured.issuers);
        forget(&self.jwks.fetches, "issuer", &configured.issuers);
        forget(&self.exchanges_by_client, "client", &configured.clients);
        self.configured.store(Arc::new(configured));
    }

    /// Counts one exchange, however it ended.
    pub fn exchange(&self, record: &Record, refusal: Option<Refusal>, took: Duration) {
        let configured = self.configured.load();
        let (issuer, client) = (record.issuer.as_deref(), record.client.as_deref());
        let (outcome, reason) = match refusal.map(Refusal::outcome) {
            None => (GRANTED, NO_REASON),
            Some(outcome) => (outcome.blame.as_str(), outcome.reason.as_str()),
        };
        let known = |known: &HashMap<String, IntCounter>, name: Option<&str>| {
            known.get(name.filter(|_| refusal.is_none())?).cloned()
        };
        known(&configured.granted, issuer)
            .unwrap_or_else(|| {
                let issuer = configured.issuers.label(issuer);
                self.exchanges.with_label_values(&[issuer, outcome, reason])
            })
            .inc();
        known(&configured.granted_by_client, client)
            .unwrap_or_else(|| {
                let client = configured.clients.label(client);
                self.exchanges_by_client.with_label_values(&[client, outcome])
            })
            .inc();
        self.exchange_duration.observe(took.as_secs_f64());
    }

    /// Counts one refresh.
    pub fn refresh(&self, refusal: Option<Refusal>) {
        let (outcome, reason) = match refusal.map(Refusal::outcome) {
            None => (GRANTED, NO_REASON),
            Some(outcome) => (outcome.blame.as_str(), outcome.reason.as_str()),
        };
        self.refreshes.with_label_values(&[outcome, reason]).inc();
        if refusal == Some(Refusal::Refresh(RefreshError::Reused)) {
            self.refresh_reuse.inc();
        }
    }

    /// Counts one introspection.
    pub fn introspection(&self, by: AnsweredBy) {
        self.introspections.with_label_values(&[by.as_str()]).inc();
    }

    /// Counts one revocation.
    pub fn revocation(&self, by: AnsweredBy) {
        self.revocations.with_label_values(&[by.as_str()]).inc();
    }

    /// Counts one probe of credentials.
    pub fn client_probe(&self, outcome: ProbeOutcome) {
        self.client_probes.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Measures one operation of the store.
    pub fn store_operation(&self, operation: StoreOperation, took: Duration) {
        let at = StoreOperation::ALL.iter().position(|one| *one == operation);
        if let Some(histogram) = at.and_then(|at| self.store_operations.get(at)) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Counts one answer of the upstream. `status` is `None` where it gave none.
    pub fn upstream(&self, method: &http::Method, status: Option<u16>, took: Duration) {
        let by_class = self.upstream_requests.get(method_index(method));
        if let Some(counter) = by_class.and_then(|classes| classes.get(status_index(status))) {
            counter.inc();
        }
        self.upstream_duration.observe(took.as_secs_f64());
    }

    /// Counts one attempt to reload the configuration.
    pub fn config_reload(&self, applied: bool) {
        if applied { &self.config_applied } else { &self.config_refused }.inc();
        self.config_last_reload_successful.set(applied.into());
    }

    /// Counts one attempt to fetch the keys of the issuer with this name.
    pub fn jwks_fetch(&self, issuer: &str, outcome: FetchOutcome) {
        let configured = self.configured.load();
        let issuer = configured.issuers.label(Some(issuer));
        self.jwks.fetches.with_label_values(&[issuer, outcome.as_str()]).inc();
    }

    /// What is to be shown of an issuer's fetched keys, until it is dropped.
    pub fn jwks_gauge(&self, issuer: &Arc<str>) -> Arc<JwksGauge> {
        let gauge = JwksGauge { issuer: Arc::clone(issuer), confirmed: Mutex::default() };
        let gauge = Arc::new(gauge);
        let mut all = self.jwks.shown.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|gauge| gauge.strong_count() > 0);
        all.push(Arc::downgrade(&gauge));
        gauge
    }

    /// The text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut jwks = self.jwks.shown.lock().unwrap_or_else(PoisonError::into_inner);
        jwks.retain(|gauge| gauge.strong_count() > 0);
        self.compute_gauges(&jwks);
        self.series.render()
    }

    /// Issuers that share a label show the oldest keys, all keys, and the certificate that ends
    /// first.
    fn compute_gauges(&self, jwks: &[Weak<JwksGauge>]) {
        let configured = self.configured.load();
        // Of two with one name the later one is in use.
        let by_name: BTreeMap<_, _> = jwks
            .iter()
            .filter_map(Weak::upgrade)
            .map(|gauge| (Arc::clone(&gauge.issuer), gauge))
            .collect();
        let now = Instant::now();
        self.jwks.age.reset();
        self.jwks.keys.reset();
        self.certificate_not_after.reset();
        for (name, gauge) in by_name {
            let confirmed = *gauge.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            let label = configured.issuers.label(Some(&name));
            let keys = self.jwks.keys.with_label_values(&[label]);
            let Some((at, count)) = confirmed else { continue };
            keys.add(i64::try_from(count).unwrap_or(i64::MAX));
            let age = self.jwks.age.with_label_values(&[label]);
            age.set(age.get().max(now.saturating_duration_since(at).as_secs_f64()));
        }
        for (name, not_after) in &configured.certificates {
            let label = configured.issuers.label(Some(name));
            let gauge = self.certificate_not_after.with_label_values(&[label]);
            let not_after = i64::try_from(*not_after).unwrap_or(i64::MAX);
            let earlier = Some(gauge.get()).filter(|earlier| *earlier != 0);
            gauge.set(earlier.unwrap_or(not_after).min(not_after));
        }
    }
}
