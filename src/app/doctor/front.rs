//! Whether Cambio runs, and under this configuration: its listeners, as clients reach them, and what it
//! says to operators.

use http::HeaderMap;
use http::header::HOST;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use url::Url;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{EXPIRES_SOON, Finding, pinned};
use crate::admin::VERSION;
use crate::app::listen::reachable;
use crate::clock;
use crate::config::profile::printable;
use crate::config::{Config, Listener};
use crate::keys::KeyError;
use crate::keys::inquiry::{Inquirer, Seen};
use crate::proxy::documents::host;
use crate::time::Timestamp;

/// What `/status` says, as far as it is compared.
#[derive(Debug, Deserialize)]
pub(super) struct Running {
    version: String,
    last_reload: Option<Reload>,
    signing_keys: Vec<Key>,
    pub(super) trusted_token_issuers: Vec<Issuer>,
    pub(super) store: Option<StoreState>,
}

#[derive(Debug, Deserialize)]
struct Reload {
    applied: bool,
}

#[derive(Debug, Deserialize)]
struct Key {
    kid: String,
}

/// How an issuer's keys are there.
#[derive(Debug, Deserialize)]
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) keys: u64,
    pub(super) age_seconds: Option<u64>,
    pub(super) last_error: Option<String>,
}

/// How the store is there.
#[derive(Debug, Deserialize)]
pub(super) struct StoreState {
    pub(super) ok: bool,
    pub(super) last_error: Option<String>,
}

/// Cambio as it runs.
#[derive(Debug)]
pub(super) struct Front {
    /// Where documents are asked for as clients do; `None` where nobody listens.
    way: Option<(Inquirer, Url)>,
    pub(super) running: Option<Running>,
    pub(super) findings: Vec<Finding>,
}

impl Front {
    pub(super) async fn look(config: &Config) -> Self {
        let (operators, listeners) = tokio::join!(operators(config), listeners(config));
        let (running, mut findings) = operators;
        let mut way = None;
        for (found, finding) in listeners {
            way = way.or(found);
            findings.extend(finding);
        }
        Self { way, running, findings }
    }

    /// A document as clients get it that know us by our issuer. `None` where nobody listens.
    pub(super) async fn document(&self, path: &str) -> Option<Result<Seen, KeyError>> {
        let (inquirer, origin) = self.way.as_ref()?;
        let mut url = origin.clone();
        url.set_path(path);
        Some(inquirer.document(&url).await)
    }
}

/// What the admin listener says, and what it means.
async fn operators(config: &Config) -> (Option<Running>, Vec<Finding>) {
    const CHECK: &str = "admin";
    let address = reachable(config.admin.address);
    let about = address.to_string();
    if address.port() == 0 {
        let seen = "`admin.address` has port 0, and is another one at each start";
        let advice = "give it a port, to be asked here";
        return (None, vec![Finding::warning(CHECK, &about, seen, advice)]);
    }
    let inquirer = Inquirer::new(None, HeaderMap::new());
    let ask = async |path: &str| match Url::parse(&format!("http://{address}{path}")) {
        Ok(url) => inquirer.document(&url).await,
        Err(_) => Err(KeyError::Client),
    };
    let (ready, status) = tokio::join!(ask("/readyz"), ask("/status"));
    let seen = match status {
        Ok(seen) => seen,
        Err(error) => {
            let seen = format!("does not say how Cambio is: {error}");
            let advice =
                "start it with `cambio serve --config FILE`, or look why it does not listen";
            return (None, vec![Finding::fault(CHECK, &about, seen, advice)]);
        }
    };
    let Ok(running) = serde_json::from_slice::<Running>(&seen.body) else {
        let seen = "what answers is no admin listener of Cambio";
        let advice = "stop what listens there, or give `admin.address` another port";
        return (None, vec![Finding::fault(CHECK, &about, seen, advice)]);
    };
    let mut findings = Vec::new();
    match ready {
        Ok(_) => {
            let version = printable(&running.version);
            findings.push(Finding::ok(CHECK, &about, format!("Cambio {version} is ready")));
        }
        Err(error) => findings.push(Finding::fault(
            CHECK,
            &about,
            format!("Cambio is not ready ({error})"),
            "look at /readyz there, which names what does not hold",
        )),
    }
    findings.extend(differences(config, &running, &about));
    (Some(running), findings)
}

/// Whether what runs is what the file says.
fn differences(config: &Config, running: &Running, about: &str) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let mut findings = Vec::new();
    if running.version != VERSION {
        let version = printable(&running.version);
        let seen = format!("version {version} runs, and this is {VERSION}");
        let advice = "ask with the program that serves, or upgrade with `cambio serve --upgrade`";
        findings.push(Finding::warning(CHECK, about, seen, advice));
    }
    let is_refused = running.last_reload.as_ref().is_some_and(|reload| !reload.applied);
    let ours = config.signing_keys.iter().map(crate::jwt::sign::SigningKey::kid);
    let theirs = running.signing_keys.iter().map(|key| key.kid.as_str());
    let names = config.trusted_token_issuers.iter().map(|keys| &*keys.issuer.name);
    let known = running.trusted_token_issuers.iter().map(|issuer| issuer.name.as_str());
    if is_refused {
        let seen = "the last reload was refused: an older configuration serves";
        let advice = "the log of Cambio says why; mend it, and send SIGHUP";
        findings.push(Finding::fault(CHECK, about, seen, advice));
    } else if !ours.eq(theirs) || !names.eq(known) {
        let seen = "another configuration serves: signing keys or trusted token issuers differ";
        let advice = "name the file that serves, or send SIGHUP to Cambio";
        findings.push(Finding::fault(CHECK, about, seen, advice));
    }
    findings
}

type Reached = (Option<(Inquirer, Url)>, Vec<Finding>);

async fn listeners(config: &Config) -> Vec<Reached> {
    let mut all = Vec::new();
    for listener in &config.listen {
        all.push(listener_of(config, listener).await);
    }
    all
}

/// Whether somebody answers there, as the listener is configured.
async fn listener_of(config: &Config, listener: &Listener) -> Reached {
    const CHECK: &str = "listener";
    let address = reachable(listener.address);
    let about = listener.address.to_string();
    if address.port() == 0 {
        let seen = "has port 0, and is another one at each start";
        let advice = "give it a port, to be asked here";
        return (None, vec![Finding::warning(CHECK, &about, seen, advice)]);
    }
    let issuer = Url::parse(config.policy.authorization_server()).ok();
    let fields = issuer.as_ref().and_then(host).map(|host| (HOST, host)).into_iter().collect();
    let leaf = listener.tls.as_ref().and_then(|tls| tls.chain.first());
    let (scheme, inquirer) = match leaf {
        None => ("http", Some(Inquirer::new(None, fields))),
        Some(leaf) => {
            ("https", pinned::client(leaf.clone()).map(|tls| Inquirer::with(tls, fields)))
        }
    };
    let url = Url::parse(&format!("{scheme}://{address}/")).ok();
    let (Some(inquirer), Some(url)) = (inquirer, url) else { return (None, Vec::new()) };
    let mut findings: Vec<_> =
        leaf.and_then(|leaf| certificate(&about, leaf)).into_iter().collect();
    // Whatever the answer is, one is there.
    match inquirer.document(&url).await {
        Err(KeyError::Timeout) => {
            let seen = "does not answer in time what it passes to the upstream";
            let advice = "see what is said of the upstream";
            findings.push(Finding::warning(CHECK, &about, seen, advice));
            (Some((inquirer, url)), findings)
        }
        Err(error @ (KeyError::Connect | KeyError::Interrupted)) => {
            let seen = format!("nobody answers there: {error}");
            let advice = "start Cambio with `cambio serve --config FILE`, or look why it does not \
                          listen";
            findings.push(Finding::fault(CHECK, &about, seen, advice));
            (None, findings)
        }
        Err(KeyError::Tls) => {
            let seen = "the certificate that is shown there is not the configured one";
            let advice = "send SIGHUP to Cambio, or stop what else listens there";
            findings.push(Finding::fault(CHECK, &about, seen, advice));
            (None, findings)
        }
        Ok(_) | Err(_) => {
            let seen = format!("answers by {scheme}");
            findings.push(Finding::ok(CHECK, &about, seen));
            (Some((inquirer, url)), findings)
        }
    }
}

/// How long a listener's certificate lasts.
fn certificate(about: &str, leaf: &CertificateDer<'_>) -> Option<Finding> {
    const CHECK: &str = "certificate";
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    let (end, now) = (Timestamp::from_secs(end), clock::now());
    let until = crate::admin::rfc3339_text(end);
    let advice = "put the next certificate into the file; Cambio reads it when it changes";
    Some(if end < now {
        Finding::fault(CHECK, about, format!("the listener's expired at {until}"), advice)
    } else if end.since(now) < EXPIRES_SOON {
        Finding::warning(CHECK, about, format!("the listener's expires at {until}"), advice)
    } else {
        Finding::ok(CHECK, about, format!("the listener's is valid until {until}"))
    })
}
