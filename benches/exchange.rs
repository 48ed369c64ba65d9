//! One exchange in memory, beside the two signatures that it can't do without.
//!
//! `exchange/…` is all that the core does for a request: form, client, token, policy, mint, sign.
//! `signatures/…` is one verification and one signature of the same sizes by the same library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on has failed"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::exchange::client::{
    AccessTokenSettings, Application, ApplicationType, Authentication, Format,
};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::family::RefreshTokenSettings;
use cambio::exchange::policy::{Policy, UnknownIssuers};
use cambio::exchange::request::{Recognised, TokenPathRequest};
use cambio::exchange::subject::TrustedIssuer;
use cambio::exchange::token_id::Entropy;
use cambio::exchange::{self, Record};
use cambio::jwt::algorithm::{Algorithm, AlgorithmSet};
use cambio::jwt::key_set::KeySet;
use cambio::jwt::sign::{SigningKey, SigningKeys, generate_pem};
use cambio::jwt::verify::{MediaType, Rules};
use cambio::oauth::scope::Scope;
use cambio::secret::StoredSecret;
use cambio::time::Timestamp;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const OURS: &str = "https://idp.example";
const THEIRS: &str = "https://token.actions.example";

fn key(algorithm: Algorithm) -> SigningKey {
    let pem = generate_pem(algorithm).unwrap();
    SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None).unwrap()
}

/// The claims of a token as CI systems write them, about a kilobyte.
fn claims() -> Value {
    json!({
        "jti": "6b1c0f0e-3a55-4c41-9d0d-1f5d5f0c9a11", "iss": THEIRS, "aud": OURS,
        "sub": "repo:octo-org/octo-repo:environment:prod", "environment": "prod",
        "nbf": NOW - 600, "exp": NOW + 86_400, "iat": NOW - 300, "ref": "refs/heads/main",
        "sha": "5f3c2b1a0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a", "repository": "octo-org/octo-repo",
        "repository_owner": "octo-org", "actor_id": "12", "repository_visibility": "private",
        "repository_id": "74", "repository_owner_id": "65", "run_id": "6413271983",
        "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted",
        "actor": "octocat", "workflow": "example-workflow", "head_ref": "", "base_ref": "",
        "event_name": "workflow_dispatch", "ref_type": "branch",
        "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
    })
}

fn policy() -> Policy {
    let issuer = TrustedIssuer {
        name: "partner".into(),
        enabled: true,
        rules: Rules {
            issuer: THEIRS.to_owned(),
            audiences: vec![OURS.to_owned()],
            algorithms: AlgorithmSet::DEFAULT,
            token_types: vec![MediaType::new("JWT")],
            clock_skew: Duration::from_secs(30),
            max_age: None,
            max_lifetime: None,
        },
        claims: Vec::new(),
        subject_prefix: String::new(),
        once: false,
    };
    let application = Application {
        name: "client-one".into(),
        client_id: "client-one".to_owned(),
        kind: ApplicationType::TraditionalWeb,
        authentication: Authentication::Secrets(vec![StoredSecret::from_plain(
            b"s3cr3t-s3cr3t-s3cr3t-s3cr3t",
        )]),
        grant_types: vec!["urn:ietf:params:oauth:grant-type:token-exchange".to_owned()],
        trusted_token_issuers: None,
        audiences: vec!["https://api.example".to_owned()],
        scopes: Scope::parse("read write").unwrap(),
        access_token: AccessTokenSettings {
            lifetime: Duration::from_secs(300),
            format: Format::Jwt,
            outlive_subject: false,
        },
        refresh_token: RefreshTokenSettings {
            lifetime: Duration::from_secs(24 * 3600),
            idle: None,
            grace: Duration::ZERO,
        },
    };
    Policy::new(OURS, UnknownIssuers::Reject, [Arc::new(issuer)], [application])
}

fn bench(criterion: &mut Criterion) {
    let policy = policy();
    for (theirs, ours) in [
        (Algorithm::RS256, Algorithm::ES256),
        (Algorithm::RS256, Algorithm::RS256),
        (Algorithm::ES256, Algorithm::ES256),
        (Algorithm::EdDSA, Algorithm::EdDSA),
    ] {
        let issuer_key = key(theirs);
        let jwks = json!({"keys": [issuer_key.jwk()]}).to_string();
        let keys = KeySet::from_jwks(jwks.as_bytes()).unwrap().0;
        let signing_keys = SigningKeys::new(vec![key(ours)]);
        let token = issuer_key.sign("JWT", &claims()).unwrap();
        let basic = format!("Basic {}", STANDARD.encode("client-one:s3cr3t-s3cr3t-s3cr3t-s3cr3t"));
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .append_pair("subject_token", &token)
            .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .append_pair("audience", "https://api.example")
            .append_pair("scope", "read write")
            .finish();
        let name = format!("{theirs}-{ours}");
        let one = || {
            let content_types: &[&[u8]] = &[b"application/x-www-form-urlencoded"];
            let body = black_box(body.as_bytes());
            let request = TokenPathRequest {
                method: "POST",
                query: None,
                content_types,
                is_encoded: false,
                body,
            };
            let Recognised::Exchange(form) = request.recognise().unwrap() else { unreachable!() };
            let credentials = Credentials::present(&[basic.as_bytes()], &form).unwrap();
            let check = policy.secret_check(credentials);
            let verdict = check.run();
            let client = check.conclude(verdict).unwrap();
            let mut record = Record::default();
            let pending = exchange::begin(&form, client, &policy, &mut record).unwrap();
            let mut random = [0; Entropy::OCTETS];
            aws_lc_rs::rand::fill(&mut random).unwrap();
            let entropy = Entropy::from_octets(random);
            let now = Timestamp::from_secs(NOW);
            let approved = pending.approve(&keys, now, &mut record).unwrap();
            approved.mint(&signing_keys, &policy, &entropy, now, &mut record).unwrap()
        };
        criterion.bench_function(&format!("exchange/{name}"), |bencher| bencher.iter(one));

        let (input, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = parsed(&issuer_key);
        let signer = &signing_keys;
        let minted = one().granted.access_token;
        let claims: Value = serde_json::from_slice(
            &URL_SAFE_NO_PAD.decode(minted.split('.').nth(1).unwrap()).unwrap(),
        )
        .unwrap();
        criterion.bench_function(&format!("signatures/{name}"), |bencher| {
            bencher.iter(|| {
                public.verify_sig(black_box(input.as_bytes()), &signature).unwrap();
                signer.iter().next().unwrap().sign("at+jwt", black_box(&claims)).unwrap()
            });
        });
    }
}

/// The issuer's public key, parsed once: the least that a verification can take.
fn parsed(key: &SigningKey) -> aws_lc_rs::signature::ParsedPublicKey {
    use aws_lc_rs::signature as sig;
    let octets = |member: &Option<String>| {
        URL_SAFE_NO_PAD.decode(member.as_deref().unwrap_or_default()).unwrap()
    };
    let jwk = key.jwk();
    match jwk.kty {
        "EC" => {
            let point = [&[4][..], &octets(&jwk.x), &octets(&jwk.y)].concat();
            sig::ParsedPublicKey::new(&sig::ECDSA_P256_SHA256_FIXED, point).unwrap()
        }
        "OKP" => sig::ParsedPublicKey::new(&sig::ED25519, octets(&jwk.x)).unwrap(),
        _ => {
            // RFC 8017 appendix A.1.1: SEQUENCE { INTEGER n, INTEGER e }, here of 2048 bits.
            let (n, e) = (octets(&jwk.n), octets(&jwk.e));
            assert_eq!((n.len(), e.len()), (256, 3));
            let n = [&[0x02, 0x82, 0x01, 0x01, 0x00][..], &n].concat();
            let e = [&[0x02, 0x03][..], &e].concat();
            let length = u16::try_from(n.len() + e.len()).unwrap().to_be_bytes();
            let der = [&[0x30, 0x82][..], &length, &n, &e].concat();
            sig::ParsedPublicKey::new(&sig::RSA_PKCS1_2048_8192_SHA256, der).unwrap()
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
