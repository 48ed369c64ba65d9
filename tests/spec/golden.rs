//! Golden exchanges: a request as a file, and beside it the whole answer as it should be.
//!
//! Keys, clock and token id are fixed and the signatures are Ed25519, so an answer is the same to
//! the byte. `make golden` rewrites the answers, to be reviewed as a diff.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::config::{self, Config, KeySource};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::error::Refusal;
use cambio::exchange::family::{Presented, RefreshToken};
use cambio::exchange::mint::Issued;
use cambio::exchange::opaque::OpaqueId;
use cambio::exchange::request::{Recognised, TokenPathRequest};
use cambio::exchange::token_id::Entropy;
use cambio::exchange::{self, Record};
use cambio::jwt::algorithm::Algorithm;
use cambio::proxy::answer::Answer;
use cambio::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::outcomes::golden;
use crate::support::{EXCHANGE, Forge, JWT, NOW, PARTNER, RANDOM, decode, encode, pkcs8};

/// A request as its file gives it. What is not named is as in a good request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// `id:secret` of an `Authorization: Basic`.
    basic: Option<String>,
    #[serde(default)]
    header: Map<String, Value>,
    claims: Map<String, Value>,
    /// Claims of a good request that this one lacks.
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/golden")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn estate() -> Config {
    let environment = |name: &str| match name {
        "OUR_KEY" => Some(read("ours.pem")),
        "PORTAL_SECRET" => Some("portal-secret-of-many-bytes".to_owned()),
        "BATCH_SECRET" => Some("batch-secret-of-many-bytes".to_owned()),
        "DESK_SECRET" => Some("desk-secret-of-many-bytes".to_owned()),
        _ => None,
    };
    config::load_text(read("cambio.yaml"), &folder().join("cambio.yaml"), &environment).unwrap().0
}

fn token(request: &Request) -> String {
    let jwk = json!({"kid": "partner-1"});
    let forge = Forge { algorithm: Algorithm::EdDSA, pkcs8: pkcs8(&read("partner.pem")), jwk };
    let mut header = forge.header();
    header.as_object_mut().unwrap().extend(request.header.clone());
    let mut claims = json!({"iss": PARTNER, "iat": NOW - 10, "exp": NOW + 3600, "jti": "t-1"});
    let members = claims.as_object_mut().unwrap();
    members.extend(request.claims.clone());
    members.retain(|name, _| !request.without.contains(name));
    forge.sign(&header, &claims)
}

/// No two random numbers are alike, so that none can be taken for another.
fn entropy() -> Entropy {
    let octet = |at| if at < 16 { RANDOM[at] } else { u8::try_from(at).unwrap() };
    Entropy::from_octets(std::array::from_fn(octet))
}

/// The steps of the token endpoint, with a clock that stands still.
fn exchange(config: &Config, request: &Request, record: &mut Record) -> Result<Issued, Refusal> {
    let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut parameters = vec![
        parameter("grant_type", EXCHANGE),
        parameter("subject_token", &token(request)),
        parameter("subject_token_type", JWT),
    ];
    parameters.extend(request.parameters.clone());
    let body = encode(&parameters);
    let basic = request.basic.as_ref().map(|pair| format!("Basic {}", STANDARD.encode(pair)));
    let authorization: Vec<&[u8]> = basic.iter().map(String::as_bytes).collect();
    let recognised = TokenPathRequest {
        method: "POST",
        query: None,
        content_types: &[b"application/x-www-form-urlencoded"],
        is_encoded: false,
        body: body.as_bytes(),
    }
    .recognise()?;
    let Recognised::Exchange(form) = recognised else { panic!("not an exchange") };
    let check = config.policy.secret_check(Credentials::present(&authorization, &form)?);
    let verdict = check.run();
    let client = check.conclude(verdict)?;
    let pending = exchange::begin(&form, client, &config.policy, record)?;
    let source = config
        .trusted_token_issuers
        .iter()
        .find(|keys| keys.issuer.name == pending.issuer().name)
        .map(|keys| &keys.source);
    let Some(KeySource::Fixed(fixed)) = source else { panic!("no fixed keys") };
    let now = Timestamp::from_secs(NOW);
    let approved = pending.approve(&fixed.keys, now, record)?;
    approved.mint(&config.signing_keys, &config.policy, &entropy(), now, record)
}

/// Header and claims of the access token: those of a JWT, or what an opaque one stands for.
fn minted(issued: &Issued) -> Value {
    let Some(opaque) = &issued.kept.opaque else {
        let (header, claims) = decode(&issued.granted.access_token);
        return json!({"header": header, "claims": claims});
    };
    assert_eq!(OpaqueId::parse(&issued.granted.access_token), Some(opaque.id));
    let claims: Value = serde_json::from_slice(&opaque.claims).unwrap();
    assert_eq!(claims["exp"], opaque.expires_at.as_secs());
    json!({"header": null, "claims": claims})
}

/// The family as the store is given it: the token can't be had from it.
fn family(issued: &Issued) -> Option<Value> {
    let family = issued.kept.family.as_ref()?;
    let token = issued.granted.refresh_token.as_ref().unwrap();
    let token = RefreshToken::parse(token).unwrap();
    assert_eq!(family.recognise(&token, Timestamp::from_secs(NOW)), Presented::Current);
    let kept = String::from_utf8(family.to_bytes()).unwrap();
    assert!(!kept.contains(&URL_SAFE_NO_PAD.encode(entropy().refresh_token)), "{kept}");
    Some(serde_json::from_str(&kept).unwrap())
}

/// Everything that can be seen of an exchange: the answer, the minted token taken apart, the record
/// that the audit event is made of.
fn shown(config: &Config, request: &Request) -> Value {
    let mut record = Record::default();
    let result = exchange(config, request, &mut record);
    let answer = match &result {
        Ok(issued) => Answer::granted(&issued.granted, "decision"),
        Err(refusal) => Answer::refused(&refusal.outcome(), "decision"),
    };
    let headers: BTreeMap<String, &str> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap()))
        .collect();
    let mut shown = json!({
        "answer": {
            "status": answer.status.as_u16(),
            "headers": headers,
            "body": serde_json::from_slice::<Value>(&answer.body).unwrap(),
        },
        "minted": result.as_ref().ok().map(minted),
        "reason": result.as_ref().err().map_or("none", |refusal| refusal.outcome().reason.as_str()),
        "record": {
            "client": record.client.as_deref(),
            "issuer": record.issuer.as_deref(),
            "subject": record.subject,
            "subject_jti": record.subject_jwt_id,
        },
    });
    if let Some(family) = result.as_ref().ok().and_then(family) {
        assert_eq!(family["id"], record.family.unwrap().to_string());
        shown["family"] = family;
    }
    shown
}

#[test]
fn every_golden_exchange_is_answered_as_it_should_be() {
    let config = estate();
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.strip_suffix(".yaml").is_some_and(|name| name != "cambio"))
        .collect();
    names.sort();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let request: Request = serde_yaml::from_str(&read(&name)).unwrap();
        let shown = serde_json::to_string_pretty(&shown(&config, &request)).unwrap() + "\n";
        let granted = shown.contains("\"reason\": \"none\"");
        assert_eq!(granted, name.starts_with("granted"), "{name}: {shown}");
        golden(&folder().join(name.replace(".yaml", ".json")), &shown);
    }
}
