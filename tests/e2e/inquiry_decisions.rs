//! What introspection and revocation leave behind and depend on: audit events, the operator's
//! revocations, and a store that fails.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cambio::clock;
use cambio::config::Config;
use cambio::exchange::cut_off::{Ancestor, CutOff};
use cambio::exchange::family::{End, Family, RefreshToken, RefreshTokenSettings};
use cambio::exchange::grant::Grant;
use cambio::exchange::inquiry::{InquiryRequest, Purpose};
use cambio::exchange::mint::Kept;
use cambio::exchange::opaque::OpaqueId;
use cambio::exchange::subject::Once;
use cambio::exchange::token_id::{Entropy, FamilyId, IssuerTag, JwtId};
use cambio::oauth::scope::Scope;
use cambio::proxy::authentication::{Authentication, Calling};
use cambio::proxy::forward::Client;
use cambio::proxy::generation::Shared;
use cambio::proxy::inquiries::{Inquiries, Received};
use cambio::proxy::token_endpoint::TokenEndpoint;
use cambio::store::{Hit, Slot, Store, StoreError};
use cambio::telemetry::log::Format;
use cambio::telemetry::metrics::Metrics;
use cambio::time::Timestamp;
use pingora::http::RequestHeader;
use serde_json::{Value, json};

use crate::inquiry_support::{
    Estate, INTROSPECT, ITS_INACTIVE, Idp, REVOKE, Says, basic, claims, its_secret, tampered,
    with_another_bit,
};
use crate::support::{Connection, Response, folder, load, response, write_private};
use crate::telemetry::Lines;

/// The audit events of inquiries so far.
fn audited(lines: &Lines) -> Vec<Value> {
    let is_inquiry = |event: &Value| {
        ["introspection", "revocation"].contains(&event["message"].as_str().unwrap())
    };
    lines
        .events()
        .into_iter()
        .filter(|event| event["target"] == "audit" && is_inquiry(event))
        .collect()
}

#[tokio::test]
async fn each_decision_is_one_audit_event() {
    let (lines, _guard) = Lines::capture("info", Format::Json);
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let opaque = estate.exchange("vault", "").await.access;
    let jti = claims(&tokens.access)["jti"].clone();
    let mut seen = 0;
    let mut last = |response: &Response| {
        let events = audited(&lines);
        seen += 1;
        assert_eq!(events.len(), seen, "{events:#?}");
        let event = events.last().unwrap().clone();
        if let Some(decision) = response.header("cambio-decision") {
            assert_eq!(event["decision"], decision);
        }
        event
    };
    let tell = |event: &Value| {
        ["message", "outcome", "reason", "client", "level"].map(|name| event[name].clone())
    };

    let response = estate.introspect("portal", &tokens.access).await;
    let event = last(&response);
    assert_eq!(tell(&event), ["introspection", "granted", "none", "Portal", "INFO"]);
    assert_eq!((&event["issuer"], &event["jti"]), (&json!("partner"), &jti));
    let family = event["family"].as_str().unwrap().to_owned();
    assert_eq!(family.len(), 22);

    // Whoever asks is known to the identity provider only.
    let event = last(&estate.introspect("api-server", &opaque).await);
    assert_eq!(tell(&event), ["introspection", "granted", "none", "unknown", "INFO"]);
    let event = last(&estate.introspect("portal", tokens.refresh()).await);
    assert_eq!(tell(&event), ["introspection", "granted", "none", "Portal", "INFO"]);
    assert_eq!((&event["family"], event.get("jti")), (&json!(family), None));

    estate.idp.says(Says::NoJwts);
    let event = last(&estate.introspect("stranger", &tokens.access).await);
    assert_eq!(tell(&event), ["introspection", "denied", "audience_mismatch", "unknown", "INFO"]);
    assert_eq!(event["jti"], jti);
    let forged = tampered(&tokens.access, |claims| claims["sub"] = "x".into());
    let event = last(&estate.introspect("portal", &forged).await);
    assert_eq!(tell(&event), ["introspection", "denied", "signature_invalid", "Portal", "INFO"]);
    assert_eq!((event.get("jti"), event.get("family"), event.get("issuer")), (None, None, None));

    estate.idp.says(Says::NoJwtsToAnybody);
    let event = last(&estate.ask(INTROSPECT, &basic("portal", "x"), &tokens.access).await);
    assert_eq!(tell(&event), ["introspection", "denied", "client_secret_wrong", "unknown", "INFO"]);
    // Its 200 alone is no word on whoever asks.
    let welcome = crate::support::response("200 OK", &[], ITS_INACTIVE);
    estate.idp.says(Says::Exactly(welcome.clone()));
    let event = last(&estate.ask(INTROSPECT, &basic("portal", "x"), &tokens.access).await);
    assert_eq!(tell(&event), ["introspection", "denied", "client_secret_wrong", "unknown", "INFO"]);
    assert_eq!((&event["issuer"], &event["jti"]), (&json!("partner"), &jti));
    estate.idp.says(Says::Both(welcome, Vec::new()));
    let event = last(&estate.revoke("vault", &opaque).await);
    assert_eq!(tell(&event), ["revocation", "failed", "upstream_unavailable", "unknown", "WARN"]);
    estate.idp.says(Says::Both(Vec::new(), Vec::new()));
    let event = last(&estate.introspect("portal", &tokens.access).await);
    assert_eq!(
        tell(&event),
        ["introspection", "failed", "upstream_unavailable", "unknown", "WARN"]
    );

    estate.idp.says(Says::Usual);
    // Somebody has a token that is not theirs.
    let event = last(&estate.revoke("stranger", tokens.refresh()).await);
    assert_eq!(tell(&event), ["revocation", "denied", "refresh_other_client", "unknown", "WARN"]);
    assert_eq!(event["family"], json!(family));
    let event = last(&estate.revoke("portal", &with_another_bit(tokens.refresh())).await);
    assert_eq!(tell(&event), ["revocation", "denied", "refresh_unknown", "unknown", "INFO"]);
    assert_eq!(event.get("family"), None);
    let event = last(&estate.revoke("portal", &tokens.access).await);
    assert_eq!(tell(&event), ["revocation", "granted", "none", "Portal", "INFO"]);
    assert_eq!((&event["issuer"], &event["jti"]), (&json!("partner"), &jti));
    let event = last(&estate.revoke("portal", tokens.refresh()).await);
    assert_eq!(tell(&event), ["revocation", "granted", "none", "Portal", "INFO"]);
    assert_eq!(event["family"], json!(family));

    estate.idp.says(Says::NoJwts);
    let event = last(&estate.introspect("portal", &tokens.access).await);
    assert_eq!(tell(&event), ["introspection", "denied", "refresh_revoked", "Portal", "INFO"]);
    // What the upstream answers by itself is none of ours.
    estate.idp.says(Says::Usual);
    estate.introspect("portal", "theirs").await;
    estate.introspect("stranger", &opaque).await;
    estate.ask(REVOKE, &basic("portal", "wrong"), &tokens.access).await;
    assert_eq!(audited(&lines).len(), seen);
    // Nothing secret is in any of it.
    let all = format!("{:?}", lines.events());
    for secret in [&tokens.access, tokens.refresh(), &opaque, &its_secret("portal")] {
        assert!(!all.contains(secret));
    }
}

/// As an operator does by the admin listener.
async fn order(estate: &Estate, order: Value) -> Value {
    let body = order.to_string();
    let admin = estate.cambio.running.admin_address();
    let request = format!(
        "POST /revoke HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = Connection::open(admin).await.request(request).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_revoked_is_inactive_however_it_is_refreshed() {
    let estate = Estate::start().await;
    let iss = claims(&estate.subject_token())["iss"].clone();
    for target in [json!({"subject": "alice"}), json!({"issuer": iss}), json!({"client": "Portal"})]
    {
        let tokens = estate.exchange("portal", "").await;
        let second = estate.refresh("portal", tokens.refresh()).await;
        let plain = estate.exchange("plain", "").await;
        let opaque = estate.exchange("vault", "").await;
        for (client, token) in [
            ("portal", &*second.access),
            ("portal", second.refresh()),
            ("plain", &plain.access),
            ("vault", &opaque.access),
        ] {
            assert!(estate.is_active(client, token).await, "{target} {client}");
        }
        let report = order(&estate, target.clone()).await;
        let is_one_client = target.get("client").is_some();
        for (client, token) in [
            ("portal", &*tokens.access),
            ("portal", &second.access),
            ("portal", second.refresh()),
            ("plain", &plain.access),
            ("vault", &opaque.access),
            ("vault", opaque.refresh()),
        ] {
            let is_spared = is_one_client && client != "portal";
            assert_eq!(estate.is_active(client, token).await, is_spared, "{report} {client}");
        }
        assert_eq!(estate.try_refresh("portal", second.refresh()).await.status, 400);
        // What is granted in a later second lives.
        let began = Instant::now();
        while !estate.is_active("portal", &estate.exchange("portal", "").await.access).await {
            assert!(began.elapsed() < Duration::from_secs(10), "nothing is granted again");
        }
    }
}

/// A token of a family that was granted before a cut-off is cut off, although it was refreshed after.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_is_held_against_the_grant_and_not_against_the_last_refresh() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let granted_at = claims(&tokens.access)["iat"].as_u64().unwrap();
    let began = Instant::now();
    let mut last = tokens.clone();
    while claims(&last.access)["iat"].as_u64().unwrap() <= granted_at {
        assert!(began.elapsed() < Duration::from_secs(10));
        last = estate.refresh("portal", last.refresh()).await;
    }
    let plain = estate.exchange("plain", "").await.access;
    assert!(estate.is_active("portal", &last.access).await);
    let before = jiff::Timestamp::from_second(i64::try_from(granted_at).unwrap()).unwrap();
    order(&estate, json!({"subject": "alice", "before": before.to_string()})).await;
    assert!(!estate.is_active("portal", &last.access).await);
    assert!(!estate.is_active("portal", last.refresh()).await);
    // One that was granted after it.
    assert!(estate.is_active("plain", &plain).await);
}

/// A store that knows one family, and fails at one of its operations.
#[derive(Debug)]
struct Failing {
    at: &'static str,
    claims: Vec<u8>,
    family: Option<Family>,
}

impl Failing {
    fn unless<T>(&self, operation: &str, otherwise: T) -> Result<T, StoreError> {
        if self.at == operation { Err(StoreError::TimedOut) } else { Ok(otherwise) }
    }
}

#[async_trait]
impl Store for Failing {
    async fn issue(&self, _: &Kept) -> Result<(), StoreError> {
        Err(StoreError::Failed)
    }
    async fn family(&self, _: FamilyId) -> Result<Option<Family>, StoreError> {
        self.unless("family", self.family.clone())
    }
    async fn rotate(&self, _: &Kept) -> Result<bool, StoreError> {
        Err(StoreError::Failed)
    }
    async fn end_family(&self, _: FamilyId, _: End) -> Result<(), StoreError> {
        self.unless("end_family", ())
    }
    async fn opaque_claims(&self, _: &OpaqueId) -> Result<Option<Vec<u8>>, StoreError> {
        self.unless("opaque_claims", Some(self.claims.clone()))
    }
    async fn revoke_access_token(&self, _: &str, _: Timestamp) -> Result<(), StoreError> {
        self.unless("revoke_access_token", ())
    }
    async fn is_access_token_revoked(&self, _: &str) -> Result<bool, StoreError> {
        self.unless("is_access_token_revoked", false)
    }
    async fn remember_once(&self, _: &Once) -> Result<bool, StoreError> {
        Err(StoreError::Failed)
    }
    async fn cut_off(&self, _: &CutOff, _: Timestamp) -> Result<Hit, StoreError> {
        Err(StoreError::Failed)
    }
    async fn cut_off_of(&self, _: &[Ancestor]) -> Result<Option<Timestamp>, StoreError> {
        self.unless("cut_off_of", None)
    }
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
    async fn close(&self) {}
}

/// The answer to one inquiry by `portal`, with this store or with none.
async fn inquire(
    config: &Config,
    store: Option<Failing>,
    purpose: Purpose,
    token: &str,
) -> cambio::proxy::answer::Answer {
    let metrics = Arc::new(Metrics::new());
    let slot = Arc::new(Slot::default());
    if let Some(store) = store {
        slot.fill(Arc::new(store));
    }
    let authentication = Arc::new(Authentication::new().unwrap());
    let token_endpoint =
        TokenEndpoint::new(Arc::clone(&metrics), Arc::clone(&authentication), Arc::clone(&slot));
    let shared = Shared {
        metrics,
        authentication,
        token_endpoint,
        store: slot,
        forwarded: cambio::count::Count::default(),
        uploads: cambio::proxy::uploads::Uploads::default(),
        is_stopping: AtomicBool::new(false),
    };
    let inquiries = Inquiries::new(config, &shared).unwrap();
    let body = format!("token={token}&client_id=portal&client_secret={}", its_secret("portal"));
    let inquiry = InquiryRequest {
        method: "POST",
        query: None,
        is_overridden: false,
        content_types: &[b"application/x-www-form-urlencoded"],
        is_encoded: false,
        body: body.as_bytes(),
    }
    .recognise(&config.own_keys, &config.policy)
    .unwrap();
    let path = match purpose {
        Purpose::Introspection => INTROSPECT,
        Purpose::Revocation => REVOKE,
    };
    let mut request = RequestHeader::build("POST", path.as_bytes(), None).unwrap();
    request.insert_header("content-type", "application/x-www-form-urlencoded").unwrap();
    let client = Client { address: None, is_tls: false };
    let question = inquiries.asking.forwarded(purpose, &request, body.into(), client).unwrap();
    let calling = Calling { authorization: &[], address: None };
    let received = Received { purpose, inquiry, calling, question };
    inquiries.answer(config, &shared, received).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_neither_active_nor_inactive_nor_revoked() {
    const UNAVAILABLE: &str = "The request cannot be answered at the moment.";
    let idp = Idp::start().await;
    let folder = folder();
    write_private(&folder.path().join("portal"), "x");
    let config = load(folder.path(), &idp.upstream.url(), "");
    let key = config.signing_keys.iter().next().unwrap();
    let now = clock::now();
    let (family, refresh) = family(now);
    let refresh = refresh.to_text();
    let token_of = |client_id: &str, family: Option<FamilyId>| {
        let issuer = IssuerTag::of("https://issuer.example");
        json!({
            "iss": "https://idp.example/oauth2/token", "sub": "alice", "aud": "api",
            "client_id": client_id, "iat": now.as_secs(), "exp": now.as_secs() + 600,
            "jti": JwtId { random: [7; 16], issuer, family }.to_string(),
        })
    };
    let own = token_of("portal", None);
    let jwt = key.sign("at+jwt", &own).unwrap();
    let of_family = key.sign("at+jwt", &token_of("portal", Some(family.id))).unwrap();
    let of_others = key.sign("at+jwt", &token_of("plain", None)).unwrap();
    let opaque = format!("cambio_at_{}", "A".repeat(64));
    let failing = |at| {
        let claims = own.to_string().into_bytes();
        Some(Failing { at, claims, family: Some(family.clone()) })
    };
    let active = response("200 OK", &[], br#"{"active":true}"#);
    let cases: [(Purpose, &str, &str); 12] = [
        (Purpose::Introspection, "is_access_token_revoked", &jwt),
        (Purpose::Introspection, "cut_off_of", &jwt),
        (Purpose::Introspection, "family", &of_family),
        (Purpose::Introspection, "opaque_claims", &opaque),
        (Purpose::Introspection, "is_access_token_revoked", &opaque),
        (Purpose::Introspection, "family", &refresh),
        (Purpose::Introspection, "cut_off_of", &refresh),
        (Purpose::Revocation, "revoke_access_token", &jwt),
        (Purpose::Revocation, "revoke_access_token", &opaque),
        (Purpose::Revocation, "opaque_claims", &opaque),
        (Purpose::Revocation, "family", &refresh),
        (Purpose::Revocation, "end_family", &refresh),
    ];
    for (purpose, at, token) in cases {
        for says in [Says::Usual, Says::Exactly(active.clone())] {
            idp.says(says);
            for store in [failing(at), None] {
                let answer = inquire(&config, store, purpose, token).await;
                let body: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(answer.status, 503, "{at} {body}");
                assert_eq!(body["error"], "temporarily_unavailable");
                assert_eq!(body["error_description"], UNAVAILABLE);
                let retry = answer.headers.iter().find(|(name, _)| *name == "retry-after");
                assert_eq!(retry.unwrap().1, "1");
            }
        }
    }
    idp.says(Says::Usual);
    // Where it does not fail.
    for token in [&*jwt, &opaque, &of_family, &refresh] {
        let answer = inquire(&config, failing(""), Purpose::Introspection, token).await;
        assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap()["active"], true);
        let answer = inquire(&config, failing(""), Purpose::Revocation, token).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b""[..]));
    }
    // A token whose family is gone is not found active.
    let forgetful = Some(Failing { family: None, ..failing("").unwrap() });
    let answer = inquire(&config, forgetful, Purpose::Introspection, &of_family).await;
    assert_eq!(answer.body, ITS_INACTIVE);
    // What is not the caller's business needs no store.
    let answer = inquire(&config, None, Purpose::Introspection, &of_others).await;
    assert_eq!(answer.body, ITS_INACTIVE);
    // What is kept and can't be read is no claim of anybody's.
    let garbled = Some(Failing { claims: b"{}".to_vec(), ..failing("").unwrap() });
    assert_eq!(inquire(&config, garbled, Purpose::Introspection, &opaque).await.status, 503);
}

/// A family of `portal`'s.
fn family(granted_at: Timestamp) -> (Family, RefreshToken) {
    let grant = Grant {
        client_id: "portal".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        subject_of_issuer: "alice".to_owned(),
        subject: "alice".to_owned(),
        audiences: vec!["api".to_owned()],
        scope: Scope::default(),
        claims: Vec::new(),
        granted_at,
    };
    let settings = RefreshTokenSettings {
        lifetime: Duration::from_secs(3600),
        idle: None,
        grace: Duration::ZERO,
    };
    let entropy = Entropy::from_octets([5; Entropy::OCTETS]);
    Family::begin(grant, &settings, granted_at.plus(Duration::from_secs(600)), &entropy)
}
