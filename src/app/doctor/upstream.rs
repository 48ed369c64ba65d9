//! The identity provider, asked directly: whether it is there, what its documents say, and whether it
//! refuses wrong secrets.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::Finding;
use super::clocks::Reading;
use crate::app::survey::fields;
use crate::clock;
use crate::config::Config;
use crate::keys::KeyError;
use crate::keys::inquiry::{Inquirer, Seen, endpoint_document};
use crate::proxy::asking::Asking;
use crate::proxy::client_probe::{Belief, ClientProbe, Finding as WrongSecret};
use crate::proxy::guesses::Guesses;
use crate::telemetry::metrics::Metrics;

/// As relying parties take it that know nothing else.
const TOLERANCE: Duration = Duration::from_secs(30);

/// What the identity provider says itself.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) findings: Vec<Finding>,
    pub(super) clock: Option<Reading>,
    /// By the path of `endpoints.metadata`.
    pub(super) metadata: Vec<(String, Result<Seen, KeyError>)>,
    pub(super) keys: Option<Result<Seen, KeyError>>,
}

pub(super) async fn look(config: &Config) -> Upstream {
    const CHECK: &str = "upstream";
    let issuer = Url::parse(config.policy.authorization_server()).ok();
    let inquirer = Inquirer::new(config.upstream.ca.clone(), fields(issuer.as_ref()));
    let at = |path: &str| {
        let mut url = config.upstream.url.clone();
        url.set_path(path);
        url
    };
    let origin = config.upstream.url.origin().ascii_serialization();
    let ask = async |path: &str| inquirer.document(&at(path)).await;
    let documents = async {
        let mut metadata = Vec::new();
        for path in &config.endpoints.metadata {
            metadata.push((path.clone(), ask(path).await));
        }
        metadata
    };
    let keys = async {
        match (&config.upstream_jwks, &config.endpoints.jwks) {
            (Some(endpoint), _) => Some(endpoint_document(endpoint).await),
            (None, Some(path)) => Some(ask(path).await),
            (None, None) => None,
        }
    };
    let (metadata, keys) = tokio::join!(documents, keys);
    let own_keys = keys.clone().filter(|_| config.upstream_jwks.is_none());
    let documents = metadata.iter().map(|(_, seen)| seen.clone());
    let mut answers: Vec<Result<Seen, KeyError>> = documents.chain(own_keys).collect();
    if answers.is_empty() {
        answers.push(ask("/").await);
    }
    let good = answers.iter().find_map(|answer| answer.as_ref().ok());
    let finding = match (good, answers.first()) {
        (Some(seen), _) => {
            Finding::ok(CHECK, &origin, format!("answers in {} ms", seen.took.as_millis()))
        }
        (None, Some(Err(error))) => unreachable_for(*error, &origin),
        (None, _) => Finding::ok(CHECK, &origin, "answers"),
    };
    let clock = good.and_then(|seen| {
        Some(Reading {
            whose: format!("upstream {origin}"),
            theirs: seen.date?,
            ours: clock::now(),
            tolerance: TOLERANCE,
            consequence: [
                "who goes by our time takes its tokens for issued in the future",
                "for who goes by our time, its tokens end early",
            ],
        })
    });
    Upstream { findings: vec![finding], clock, metadata, keys }
}

fn unreachable_for(error: KeyError, origin: &str) -> Finding {
    const CHECK: &str = "upstream";
    let advice = match error {
        KeyError::Status(status) if status < 500 => {
            // It is there; what is wrong with its documents is told where they are looked at.
            return Finding::ok(CHECK, origin, format!("answers ({error})"));
        }
        KeyError::Redirect | KeyError::Encoded => return Finding::ok(CHECK, origin, "answers"),
        KeyError::Tls => {
            "name the authority that issued its certificate in `upstream.ca`, or correct the host in \
             `upstream.url`"
        }
        KeyError::Client => {
            "install the system's certificate authorities, or name one in `upstream.ca`"
        }
        KeyError::Timeout
        | KeyError::Connect
        | KeyError::Interrupted
        | KeyError::Status(_)
        | KeyError::Set(_)
        | KeyError::PrivateKeys
        | KeyError::Metadata
        | KeyError::MetadataIssuer
        | KeyError::JwksUri
        | KeyError::Address => "start the identity provider, or correct `upstream.url`",
    };
    Finding::fault(CHECK, origin, format!("can't be used: {error}"), advice)
}

/// Whether wrong secrets are refused where clients are authenticated by the identity provider.
pub(super) async fn probe(config: &Config) -> Vec<Finding> {
    let metrics = Arc::new(Metrics::new());
    let issuer = config.policy.authorization_server();
    let asking = Asking::new(&config.upstream, &metrics).map(Arc::new);
    let Some((asking, guesses)) = asking.zip(Guesses::new().map(Arc::new)) else {
        return Vec::new();
    };
    let (endpoints, belief) = (&config.endpoints, Belief::default());
    let probe = ClientProbe::new(&asking, &metrics, &guesses, endpoints, issuer, belief);
    let found = probe.findings().await;
    let is_needed = config.policy.asks_upstream();
    found.iter().map(|one| told(&one.path, one.finding, is_needed)).collect()
}

fn told(path: &str, finding: WrongSecret, is_needed: bool) -> Finding {
    const CHECK: &str = "wrong_secret";
    match finding {
        WrongSecret::RefusesWrongSecrets => {
            Finding::ok(CHECK, path, "the secret of a client that does not exist is refused")
        }
        WrongSecret::AcceptsWrongSecrets => {
            let seen = "a wrong secret is taken for right: what this endpoint says of a caller proves \
                        nothing";
            let advice = "have the identity provider authenticate clients there (RFC 7662 §2.1, \
                          RFC 7009 §2.1); until then Cambio believes nothing that it says of them";
            if is_needed {
                Finding::fault(CHECK, path, seen, advice)
            } else {
                Finding::warning(CHECK, path, seen, advice)
            }
        }
        WrongSecret::Missing => Finding::fault(
            CHECK,
            path,
            "the identity provider has no such endpoint",
            "correct the path in `authorization_server.endpoints`, or leave it out",
        ),
        WrongSecret::Unknown => Finding::warning(
            CHECK,
            path,
            "it can't be told whether a wrong secret is refused",
            "see what is said of the upstream, and ask again once it answers",
        ),
    }
}
