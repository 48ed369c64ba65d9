//! The documents that relying parties go by, as they get them through Cambio: whether they lead to its
//! endpoints, and whether a token that it signs verifies by them.

use serde_json::Value;

use super::Finding;
use super::front::Front;
use super::upstream::Upstream;
use crate::clock;
use crate::config::Config;
use crate::config::profile::{escaped, printable};
use crate::exchange::specimen::Specimen;
use crate::jwt::json;
use crate::jwt::key_set::KeySet;
use crate::jwt::sign::{PublicJwk, SigningKey};
use crate::keys::KeyError;
use crate::oauth::grant_type::TOKEN_EXCHANGE;
use crate::overlay::finding::{self as overlay, Finding as Wrong};

const METADATA: &str = "metadata";
const KEYS: &str = "keys";
const TOKEN: &str = "token";

pub(super) async fn look(config: &Config, front: &Front, upstream: &Upstream) -> Vec<Finding> {
    let all_metadata = async {
        let mut findings = Vec::new();
        for (path, direct) in &upstream.metadata {
            let direct = direct.as_ref().ok().map(|seen| seen.body.as_slice());
            findings.extend(metadata_at(config, front, path, direct).await);
        }
        findings
    };
    let all_keys = async {
        let Some(path) = &config.endpoints.jwks else { return Vec::new() };
        let direct = upstream.keys.as_ref().filter(|_| config.overlay);
        keys(config, front, path, direct).await
    };
    let (mut findings, keys) = tokio::join!(all_metadata, all_keys);
    findings.extend(keys);
    findings
}

/// `direct` is the identity provider's own document.
async fn metadata_at(
    config: &Config,
    front: &Front,
    path: &str,
    direct: Option<&[u8]>,
) -> Vec<Finding> {
    match front.document(path).await {
        Some(Ok(seen)) => metadata(config, path, &seen.body, direct),
        Some(Err(error)) => vec![not_had(METADATA, path, error, direct.is_some())],
        // Nobody listens: what can be told is told of the identity provider's own.
        None => {
            let wrong = direct.map(|direct| overlay::of_metadata(direct, config));
            wrong.unwrap_or_default().iter().map(|wrong| told(METADATA, path, wrong)).collect()
        }
    }
}

/// What was found of a document, with what to do.
fn told(check: &'static str, path: &str, wrong: &Wrong) -> Finding {
    let text = escaped(&wrong.to_string());
    // Each sentence ends with what to do.
    let (seen, advice) =
        text.rsplit_once(": ").or_else(|| text.rsplit_once("; ")).unwrap_or((&text, ""));
    if wrong.is_error() {
        Finding::fault(check, path, seen, advice)
    } else {
        Finding::warning(check, path, seen, advice)
    }
}

fn not_had(check: &'static str, path: &str, error: KeyError, is_there: bool) -> Finding {
    let seen = format!("can't be had through Cambio: {error}");
    let advice = if is_there {
        "the identity provider itself has it: look into the log of Cambio"
    } else {
        "the identity provider has none there either: correct the path in \
         `authorization_server.endpoints`, or see what is said of the upstream"
    };
    Finding::fault(check, path, seen, advice)
}

fn metadata(config: &Config, path: &str, body: &[u8], direct: Option<&[u8]>) -> Vec<Finding> {
    let own = direct.map(|direct| overlay::of_metadata(direct, config)).unwrap_or_default();
    let mut findings: Vec<Finding> = Vec::new();
    for wrong in overlay::of_metadata(body, config) {
        let mut finding = told(METADATA, path, &wrong);
        if config.overlay && !own.contains(&wrong) && direct.is_some() {
            finding.seen += " (the identity provider itself does not say so)";
        }
        findings.push(finding);
    }
    let document = json::parse_object(body).unwrap_or_default();
    let grants = document.get("grant_types_supported").and_then(Value::as_array);
    let has_grant = grants.into_iter().flatten().any(|grant| grant == TOKEN_EXCHANGE);
    let is_signed = findings.iter().any(|one| one.seen.contains("signed_metadata"));
    if !has_grant && !is_signed && !document.is_empty() {
        findings.push(Finding::fault(
            METADATA,
            path,
            "the token-exchange grant is not among the grant types",
            "let Cambio's listener be asked under the issuer's name, and the path be one of \
             `endpoints.metadata` of the configuration that serves",
        ));
    }
    if findings.is_empty() {
        let seen = "has our issuer and the token-exchange grant, and leads to our endpoints";
        findings.push(Finding::ok(METADATA, path, seen));
    }
    findings
}

type Direct<'a> = Option<&'a Result<crate::keys::inquiry::Seen, KeyError>>;

async fn keys(config: &Config, front: &Front, path: &str, direct: Direct<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let theirs = direct.and_then(|direct| direct.as_ref().ok()).map(|seen| seen.body.as_slice());
    if let Some(Err(error)) = direct {
        findings.push(Finding::fault(
            KEYS,
            path,
            format!("the identity provider's own can't be had: {error}"),
            "correct `endpoints.jwks`, or name in `upstream_jwks` where its keys are",
        ));
    }
    let wrong = theirs.map(|theirs| overlay::of_keys(theirs, config)).unwrap_or_default();
    findings.extend(wrong.iter().map(|wrong| told(KEYS, path, wrong)));
    let seen = match front.document(path).await {
        None => return findings,
        Some(Ok(seen)) => seen,
        Some(Err(error)) => {
            findings.push(not_had(KEYS, path, error, theirs.is_some()));
            return findings;
        }
    };
    let served = members(&seen.body);
    let missing: Vec<&str> = (config.signing_keys.iter())
        .filter(|key| !served.iter().any(|served| is(served, key.jwk())))
        .map(SigningKey::kid)
        .collect();
    for kid in &missing {
        findings.push(Finding::fault(
            KEYS,
            path,
            format!("the public half of {kid} is missing"),
            "reload Cambio with SIGHUP if another configuration serves; if the identity provider has \
             another key of this name, give ours another `kid`",
        ));
    }
    let own = theirs.map(members).unwrap_or_default();
    if theirs.is_some() && !served.starts_with(&own) {
        findings.push(Finding::warning(
            KEYS,
            path,
            "the identity provider's own keys are not as it publishes them at this moment",
            "ask again in a minute: what was fetched is kept for as long; else look into the log of \
             Cambio",
        ));
    }
    if missing.is_empty() && findings.is_empty() {
        let (all, own) = (served.len(), own.len());
        let seen = if config.overlay {
            format!("the identity provider's {own} first, then ours: {all} in all")
        } else {
            format!("ours: {all} in all")
        };
        findings.push(Finding::ok(KEYS, path, seen));
    }
    findings.push(specimen(config, &seen.body));
    findings
}

/// The members of `keys`.
fn members(document: &[u8]) -> Vec<Value> {
    let mut document = json::parse_object(document).unwrap_or_default();
    match document.remove("keys") {
        Some(Value::Array(members)) => members,
        Some(_) | None => Vec::new(),
    }
}

/// Whether a published key is this one.
fn is(served: &Value, own: &PublicJwk) -> bool {
    let Ok(Value::Object(own)) = serde_json::to_value(own) else { return false };
    let names = ["kid", "kty", "crv", "n", "e", "x", "y"];
    names.iter().all(|name| served.get(*name) == own.get(*name))
}

/// A token that is signed as served ones are, held to the keys as relying parties get them.
fn specimen(config: &Config, served: &[u8]) -> Finding {
    let now = clock::now();
    let issuer = config.policy.authorization_server();
    let Some(specimen) = Specimen::sign(&config.signing_keys, issuer, now) else {
        let seen = "no token can be signed";
        return Finding::fault(TOKEN, "", seen, "see what is said of the signing keys");
    };
    let kid = printable(&specimen.kid);
    let keys = KeySet::from_jwks(served).map_err(|error| error.to_string());
    match keys.and_then(|(keys, _)| specimen.verify(&keys, issuer, now).map_err(|e| e.to_string()))
    {
        Ok(()) => {
            let seen = "a freshly minted token verifies by the keys that relying parties get";
            Finding::ok(TOKEN, &kid, seen)
        }
        Err(why) => Finding::fault(
            TOKEN,
            &kid,
            format!(
                "a freshly minted token does not verify by the keys that relying parties get: {why}"
            ),
            "see what is said of the keys; no resource server accepts what Cambio mints at present",
        ),
    }
}
