//! The trusted token issuers: whether their keys are to be had at this moment, by the code that serves,
//! and how they are in the Cambio that runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::clocks::Reading;
use super::front::Running;
use super::{EXPIRES_SOON, Finding};
use crate::clock;
use crate::config::profile::printable;
use crate::config::{Config, FixedKeys, IssuerKeys, KeySource};
use crate::jwt::key_set::{KeyRefused, SkippedKey};
use crate::keys::KeyError;
use crate::keys::inquiry::{IssuerKeysSeen, discovered_keys, endpoint_keys};
use crate::time::Timestamp;

const CHECK: &str = "issuer";
/// So many are asked at a time.
const AT_ONCE: usize = 32;
/// So many keys that are passed over are named.
const SHOWN: usize = 10;

/// What the issuers say.
#[derive(Debug)]
pub(super) struct Issuers {
    pub(super) findings: Vec<Finding>,
    pub(super) clocks: Vec<Reading>,
}

/// Asks every issuer that is enabled.
pub(super) async fn look(config: &Config) -> Issuers {
    let mut asking = JoinSet::new();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let enabled = config.trusted_token_issuers.iter().filter(|keys| keys.issuer.enabled);
    for (order, keys) in enabled.enumerate() {
        let (keys, permits) = (keys.clone(), Arc::clone(&permits));
        asking.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let (findings, clock) = ask(&keys).await;
            (order, findings, clock)
        });
    }
    let mut all = asking.join_all().await;
    all.sort_by_key(|(order, ..)| *order);
    let mut issuers = Issuers { findings: Vec::new(), clocks: Vec::new() };
    for (_, findings, clock) in all {
        issuers.findings.extend(findings);
        issuers.clocks.extend(clock);
    }
    issuers
}

async fn ask(keys: &IssuerKeys) -> (Vec<Finding>, Option<Reading>) {
    let name = &keys.issuer.name;
    let fetched = match &keys.source {
        KeySource::Fixed(fixed) => return (vec![of_fixed(name, fixed)], None),
        KeySource::Endpoint(endpoint) => endpoint_keys(endpoint).await,
        KeySource::Discovery(discovery) => discovered_keys(discovery).await,
    };
    match fetched {
        Ok(seen) => {
            let clock = seen.date.map(|theirs| Reading {
                whose: format!("issuer {}", printable(name)),
                theirs,
                ours: clock::now(),
                tolerance: keys.issuer.rules.clock_skew,
                consequence: [
                    "its fresh tokens are refused, as issued in the future, or not valid yet",
                    "its tokens are taken for older than they are, and end early",
                ],
            });
            (of_fetched(name, &seen), clock)
        }
        Err(error) => {
            let seen = format!("its keys can't be had: {error}");
            (vec![Finding::fault(CHECK, name, seen, mend(error))], None)
        }
    }
}

fn of_fetched(name: &str, seen: &IssuerKeysSeen) -> Vec<Finding> {
    let IssuerKeysSeen { keys, skipped, url, ttl, .. } = seen;
    let (url, ttl) = (printable(url.as_str()), ttl.as_secs());
    let text = format!("{keys} usable keys at {url}, fresh for {ttl} s");
    let mut findings = vec![Finding::ok(CHECK, name, text)];
    for SkippedKey { index, why } in skipped.iter().take(SHOWN) {
        let text = format!("keys[{index}] is passed over: {why}");
        findings.push(if *why == KeyRefused::PrivateMaterial {
            let advice = "tell the issuer at once: whoever reads its key set can sign as it does";
            Finding::fault(CHECK, name, text, advice)
        } else {
            let advice =
                "tokens that it signs with this key are refused: ask the issuer, if it does";
            Finding::warning(CHECK, name, text, advice)
        });
    }
    findings
}

fn of_fixed(name: &str, fixed: &FixedKeys) -> Finding {
    let keys = fixed.keys.len();
    let Some(end) = fixed.not_after else {
        return Finding::ok(CHECK, name, format!("{keys} keys in the configuration"));
    };
    let until = crate::admin::rfc3339_text(end);
    match left(end, clock::now()) {
        None => Finding::warning(
            CHECK,
            name,
            format!("its certificate expired at {until}, and is used all the same"),
            "ask the issuer for its next certificate",
        ),
        Some(left) if left < EXPIRES_SOON => Finding::warning(
            CHECK,
            name,
            format!("its certificate expires at {until}"),
            "ask the issuer for its next certificate, and name it beside this one",
        ),
        Some(_) => {
            let seen = format!("{keys} keys in the configuration, certified until {until}");
            Finding::ok(CHECK, name, seen)
        }
    }
}

fn left(end: Timestamp, now: Timestamp) -> Option<Duration> {
    (end >= now).then(|| end.since(now))
}

/// What to do where keys can't be had.
const fn mend(error: KeyError) -> &'static str {
    match error {
        KeyError::Timeout | KeyError::Connect | KeyError::Interrupted => {
            "let this machine reach it (network policy, DNS; no proxy is used), or ask the issuer \
             whether it is down"
        }
        KeyError::Tls => "name the authority that issued its certificate in `ca` beside its URL",
        KeyError::Status(_) | KeyError::Redirect => {
            "correct the URL: no redirect is followed, and a token may be needed (`bearer_token`)"
        }
        KeyError::Encoded | KeyError::Set(_) => {
            "ask the issuer for the URL of its JWK Set, and whether it has keys in it"
        }
        KeyError::PrivateKeys => {
            "tell the issuer at once: whoever reads its key set can sign as it does"
        }
        KeyError::Metadata => "correct `issuer`, or name the keys' place with `jwks_endpoint`",
        KeyError::MetadataIssuer => "write `issuer` as the metadata do, to the byte",
        KeyError::JwksUri | KeyError::Address => {
            "name the origin of its `jwks_uri` in `discovery.origins`, if you trust it"
        }
        KeyError::Client => "install the system's certificate authorities, or name one in `ca`",
    }
}

/// How the keys are in the Cambio that runs.
pub(super) fn as_served(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    const CHECK: &str = "issuer_as_served";
    let Some(running) = running else { return Vec::new() };
    let mut findings = Vec::new();
    for keys in config.trusted_token_issuers.iter().filter(|keys| keys.issuer.enabled) {
        let name = &*keys.issuer.name;
        let theirs = running.trusted_token_issuers.iter().find(|issuer| issuer.name == *name);
        let Some(issuer) = theirs else { continue };
        let why = issuer.last_error.as_deref().map(printable).unwrap_or_default();
        let age = issuer.age_seconds.unwrap_or_default();
        let advice = "see what is said of the issuer; Cambio asks again by itself";
        findings.push(match issuer.state.as_str() {
            "fresh" => {
                let keys = issuer.keys;
                Finding::ok(CHECK, name, format!("Cambio has {keys} keys, {age} s old"))
            }
            "stale" => {
                let seen = format!("Cambio serves on with keys that are {age} s old: {why}");
                Finding::warning(CHECK, name, seen, advice)
            }
            "unavailable" => {
                let seen = format!("Cambio has no keys, and answers 503 to its tokens: {why}");
                Finding::fault(CHECK, name, seen, advice)
            }
            "never_fetched" => {
                let seen = "Cambio has not fetched its keys yet";
                Finding::warning(CHECK, name, seen, "ask again in some seconds")
            }
            _ => continue,
        });
    }
    findings
}
