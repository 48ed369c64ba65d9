//! Configurations, keys and requests that tests begin with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::config::{
    Admin, Config, Endpoint, Endpoints, FetchedKeys, IssuerKeys, KeySource, Limits, Listener,
    StoreSettings, Upstream,
};
use cambio::exchange::client::{
    AccessTokenSettings, Application, ApplicationType, Authentication, Format,
};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::family::RefreshTokenSettings;
use cambio::exchange::policy::{Policy, UnknownIssuers};
use cambio::exchange::subject::TrustedIssuer;
use cambio::exchange::throttle::GuessLimits;
use cambio::exchange::token_id::Entropy;
use cambio::exchange::{Pending, Record, begin};
use cambio::jwt::algorithm::{Algorithm, AlgorithmSet};
use cambio::jwt::key_set::KeySet;
use cambio::jwt::sign::{SigningKey, SigningKeys, generate_pem};
use cambio::jwt::verify::{MediaType, Rules};
use cambio::oauth::form::Form;
use cambio::oauth::scope::Scope;
use cambio::oauth::{grant_type, token_type};
use cambio::secret::StoredSecret;
use cambio::time::Timestamp;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use url::Url;

pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const OURS: &str = "https://idp.example/oauth2/token";

/// A key of an issuer's, with a name.
pub fn key(kid: &str) -> SigningKey {
    key_of(&generate_pem(Algorithm::ES256).unwrap(), kid)
}

pub fn key_of(pem: &str, kid: &str) -> SigningKey {
    SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, Some(kid.to_owned()), None)
        .unwrap()
}

/// The JWK Set of these keys.
pub fn jwks(keys: &[&SigningKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

pub fn key_set(keys: &[&SigningKey]) -> Arc<KeySet> {
    Arc::new(KeySet::from_jwks(jwks(keys).as_bytes()).unwrap().0)
}

/// `iss` of the issuer with this name.
pub fn iss(name: &str) -> String {
    format!("https://{name}.example")
}

pub fn issuer(name: &str, source: KeySource) -> IssuerKeys {
    let rules = Rules {
        issuer: iss(name),
        audiences: vec![OURS.to_owned()],
        algorithms: AlgorithmSet::DEFAULT,
        token_types: vec![MediaType::new("JWT")],
        clock_skew: Duration::ZERO,
        max_age: None,
        max_lifetime: None,
    };
    let issuer = TrustedIssuer {
        name: name.into(),
        enabled: true,
        rules,
        claims: Vec::new(),
        subject_prefix: String::new(),
        once: false,
    };
    IssuerKeys { issuer: Arc::new(issuer), source }
}

pub fn disabled(keys: IssuerKeys) -> IssuerKeys {
    let issuer = TrustedIssuer { enabled: false, ..TrustedIssuer::clone(&keys.issuer) };
    IssuerKeys { issuer: Arc::new(issuer), ..keys }
}

pub fn endpoint(url: Url) -> KeySource {
    KeySource::Endpoint(Endpoint { url, ca: None, bearer_token: None })
}

/// A public application by this name, which is also its `client_id`.
pub fn application(name: &str) -> Application {
    Application {
        name: name.into(),
        client_id: name.to_owned(),
        kind: ApplicationType::TraditionalWeb,
        authentication: Authentication::Secrets(vec![StoredSecret::from_plain(b"secret")]),
        grant_types: vec![grant_type::TOKEN_EXCHANGE.to_owned()],
        trusted_token_issuers: None,
        audiences: vec!["https://api.example".to_owned()],
        scopes: Scope::default(),
        access_token: AccessTokenSettings {
            lifetime: Duration::from_hours(1),
            format: Format::Jwt,
            outlive_subject: false,
        },
        refresh_token: RefreshTokenSettings {
            lifetime: Duration::from_secs(24 * 3600),
            idle: None,
            grace: Duration::ZERO,
        },
    }
}

/// A configuration with these issuers and one application, `portal`.
pub fn config(issuers: Vec<IssuerKeys>) -> Config {
    config_of(issuers, vec![application("portal")])
}

pub fn config_of(issuers: Vec<IssuerKeys>, applications: Vec<Application>) -> Config {
    let trusted = issuers.iter().map(|keys| Arc::clone(&keys.issuer));
    let policy = Policy::new(OURS, UnknownIssuers::Reject, trusted, applications);
    let address = "127.0.0.1:0".parse().unwrap();
    let signing_keys = SigningKeys::new(vec![key("ours")]);
    Config {
        listen: vec![Listener { address, tls: None }],
        admin: Admin { address, metric_labels_max: 200, token: None },
        upstream: Upstream {
            url: Url::parse("http://127.0.0.1:9").unwrap(),
            ca: None,
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(30),
        },
        overlay: false,
        upstream_jwks: None,
        endpoints: Endpoints {
            token: vec!["/oauth2/token".to_owned()],
            jwks: None,
            metadata: Vec::new(),
            introspection: None,
            revocation: None,
        },
        policy: Arc::new(policy),
        trusted_token_issuers: issuers,
        fetched_keys: FetchedKeys { max_stale: Duration::from_hours(24), cache: None },
        own_keys: Arc::new(signing_keys.verification_keys().unwrap()),
        signing_keys: Arc::new(signing_keys),
        store: StoreSettings::Embedded { folder: PathBuf::from("state") },
        has_named_store: false,
        limits: Limits {
            connections: 100,
            connections_per_address: None,
            requests: 100,
            forwarded_requests: 100,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            drain_timeout: Duration::from_secs(30),
            failed_authentications: GuessLimits {
                client_and_address: 10,
                client: 100,
                address: 1000,
            },
        },
        files: Vec::<PathBuf>::new(),
    }
}

/// A token of the issuer with this name, signed with `key`.
pub fn subject_token(issuer: &str, key: &SigningKey) -> String {
    let claims: Value = json!({
        "iss": iss(issuer), "sub": "alice", "aud": OURS, "jti": "subject-jti",
        "exp": NOW.as_secs() + 600,
    });
    key.sign("JWT", &claims).unwrap()
}

/// An exchange by `portal` that waits for the keys of the issuer with this name.
pub fn pending(config: &Config, issuer: &str, key: &SigningKey) -> Pending {
    waiting(config, &subject_token(issuer, key))
}

/// As [`pending`], with a token that names no key and was signed with the one of this PEM.
pub fn unnamed(config: &Config, issuer: &str, pem: &str) -> Pending {
    let header = json!({ "alg": "ES256", "typ": "JWT" });
    let claims = json!({
        "iss": iss(issuer), "sub": "alice", "aud": OURS, "exp": NOW.as_secs() + 600,
    });
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let input = format!("{}.{}", encode(&header), encode(&claims));
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der()).unwrap();
    let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    waiting(config, &format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// As [`pending`], with a token that names this key and that nobody signed.
pub fn forged(config: &Config, issuer: &str, kid: &str) -> Pending {
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": kid });
    let claims = json!({ "iss": iss(issuer), "sub": "alice", "aud": OURS });
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let input = [encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes())];
    waiting(config, &format!("{}.{}", input.join("."), encode(&[7; 64])))
}

fn waiting(config: &Config, subject_token: &str) -> Pending {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", "portal")
        .append_pair("client_secret", "secret")
        .append_pair("grant_type", grant_type::TOKEN_EXCHANGE)
        .append_pair("subject_token", subject_token)
        .append_pair("subject_token_type", token_type::TokenType::Jwt.as_str())
        .finish();
    let form = Form::parse(body.as_bytes()).unwrap();
    let credentials = Credentials::present(&[], &form).unwrap();
    let check = config.policy.secret_check(credentials);
    let verdict = check.run();
    let client = check.conclude(verdict).unwrap();
    begin(&form, client, &config.policy, &mut Record::default()).unwrap()
}

/// Whether these keys let the exchange end well.
pub fn is_granted(config: &Config, pending: Pending, keys: &KeySet) -> bool {
    let mut record = Record::default();
    let Ok(approved) = pending.approve(keys, NOW, &mut record) else { return false };
    let entropy = Entropy::from_octets([0; Entropy::OCTETS]);
    approved.mint(&config.signing_keys, &config.policy, &entropy, NOW, &mut record).is_ok()
}
