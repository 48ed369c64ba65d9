//! Tokens of ours that come back: which are taken for ours, which hold, and who may know.

use std::time::Duration;

use cambio::exchange::cut_off::Ancestor;
use cambio::exchange::error::Reason;
use cambio::exchange::family::{End, Family, RefreshToken};
use cambio::exchange::inquiry::InquiryRecord;
use cambio::exchange::issued::{AccessToken, Inactive, KeptOfAccess, Owned, Suspected};
use cambio::exchange::policy::{Policy, ResourceServer};
use cambio::exchange::token_id::{FamilyId, IssuerTag, JwtId};
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::key_set::KeySet;
use cambio::time::Timestamp;
use serde_json::{Value, json};

use crate::refresh_support::Refreshing;
use crate::support::{Exchange, NOW, OURS, PARTNER, forge, jwks, stranger};

/// What our own key signs with.
const ALGORITHM: Algorithm = Algorithm::ES256;

fn own_keys() -> KeySet {
    KeySet::from_jwks(&jwks(&[forge(ALGORITHM)])).unwrap().0
}

fn policy() -> Policy {
    Exchange::new().policy()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// The claims of a minted token.
fn claims(family: Option<FamilyId>) -> Value {
    let id = JwtId { random: [1; 16], issuer: IssuerTag::of(PARTNER), family };
    json!({
        "iss": OURS, "sub": "alice", "aud": "https://api.example.com", "client_id": "portal",
        "iat": NOW, "exp": NOW + 600, "jti": id.to_string(), "scope": "read",
    })
}

fn header() -> Value {
    let mut header = forge(ALGORITHM).header();
    header["typ"] = json!("at+jwt");
    header
}

fn access(family: Option<FamilyId>) -> AccessToken {
    AccessToken::from_kept(claims(family).to_string().as_bytes()).unwrap()
}

#[test]
fn a_token_is_taken_for_ours_by_what_only_ours_have() {
    let with = |name: &str, value: Value, of: fn() -> Value| {
        let mut object = of();
        object[name] = value;
        object
    };
    let claims = || claims(None);
    let sign = |header: Value, claims: Value| forge(ALGORITHM).sign(&header, &claims);
    let good = sign(header(), claims());
    let broken = format!("{}AAAA", &good[..good.len() - 4]);
    // `None` is not suspected, `false` is, and is none of ours nevertheless.
    let cases = [
        (good.clone(), Some(true)),
        (format!("\r\n {good}\t"), Some(true)),
        (broken, Some(false)),
        // A token of ours of another kind is no access token.
        (sign(with("typ", json!("JWT"), header), claims()), Some(false)),
        (sign(with("alg", json!("ES384"), header), claims()), Some(false)),
        // Our key signs such claims for nobody.
        (sign(header(), with("jti", json!("t-1"), claims)), Some(false)),
        (sign(header(), with("exp", json!("soon"), claims)), Some(false)),
        // The upstream has the same `iss` where we stand before it: its keys tell its tokens.
        (sign(with("kid", json!("theirs"), header), claims()), None),
        (sign(with("kid", Value::Null, header), claims()), None),
        (sign(header(), with("iss", json!("https://other.example"), claims)), None),
        (sign(header(), with("iss", json!([OURS]), claims)), None),
        // A stranger's key under our key's name.
        (stranger().sign(&header(), &claims()), Some(false)),
        (sign(with("crit", json!(["x"]), header), claims()), None),
        (good.replace('.', " "), None),
        ("theirs".to_owned(), None),
        (String::new(), None),
        (format!("cambio_rt_{}", "A".repeat(86)), Some(true)),
        (format!(" cambio_rt_{}\n", "A".repeat(86)), Some(true)),
        (format!("cambio_rt_{}", "A".repeat(85)), Some(false)),
        (format!("cambio_rt_{}=", "A".repeat(86)), Some(false)),
        ("cambio_rt_".to_owned(), Some(false)),
        (format!("cambio_at_{}", "A".repeat(64)), Some(true)),
        (format!("cambio_at_{}", "A".repeat(63)), Some(false)),
        (format!("cambio_at_{}\n", "A".repeat(64)), Some(true)),
        (format!("Cambio_at_{}", "A".repeat(64)), None),
    ];
    for (token, expected) in cases {
        let suspected = Suspected::of(&token, &own_keys(), &policy());
        let is_one = suspected.map(|suspected| match suspected {
            Suspected::Refresh(token) => token.is_some(),
            Suspected::Opaque(id) => id.is_some(),
            Suspected::Jwt(token) => token.is_some(),
        });
        assert_eq!(is_one, expected, "{token}");
    }
}

/// A family, and the token that counts.
fn family() -> (Family, RefreshToken) {
    let refreshing = Refreshing::new();
    let token = RefreshToken::parse(&refreshing.token).unwrap();
    (refreshing.family.unwrap(), token)
}

#[test]
fn what_may_be_logged_of_an_inquiry_is_noted() {
    let (family, token) = family();
    let (id, policy) = (family.id, policy());
    let note = |token: &Owned| {
        let mut record = InquiryRecord::default();
        record.note_token(token, &policy);
        assert_eq!(record.issuer.as_deref(), Some("partner"));
        assert_eq!(record.family, token.family());
        (record.jwt_id, record.family)
    };
    let jwt_id = claims(None)["jti"].as_str().unwrap().to_owned();
    assert_eq!(access(None).jwt_id(), jwt_id);
    assert_eq!(note(&Owned::Access(access(None))), (Some(jwt_id), None));
    assert_eq!(note(&Owned::Access(access(Some(id)))).1, Some(id));
    let refresh = Owned::refresh(token, Some(family), at(NOW)).unwrap();
    assert_eq!(note(&refresh), (None, Some(id)));
    let mut record = InquiryRecord::default();
    record.note_client("portal", &policy);
    assert_eq!(record.client.as_deref(), Some("Portal"));
    record.note_client("somebody", &policy);
    assert_eq!(record.client, None);
}

#[test]
fn ancestors_are_kept_by_keys_of_their_own() {
    let tag = IssuerTag::of(PARTNER);
    let all = [
        Ancestor::Subject("alice".to_owned()),
        Ancestor::Subject("bob".to_owned()),
        Ancestor::Client("alice".to_owned()),
        Ancestor::Issuer(tag),
        Ancestor::Issuer(IssuerTag::of(OURS)),
        Ancestor::Subject(String::new()),
    ];
    let keys: std::collections::HashSet<_> = all.iter().map(Ancestor::key).collect();
    assert_eq!(keys.len(), all.len());
    assert_eq!(all[0].key(), Ancestor::Subject("alice".to_owned()).key());
}

#[test]
fn an_access_token_holds_unless_something_says_otherwise() {
    let now = at(NOW + 10);
    let none = KeptOfAccess::default;
    let cases = [
        (none(), now, Ok(())),
        (none(), at(NOW + 599), Ok(())),
        (none(), at(NOW + 600), Err(Inactive::Expired)),
        (KeptOfAccess { is_revoked: true, ..none() }, now, Err(Inactive::Revoked)),
        // What was issued in the second of a cut-off is cut off.
        (KeptOfAccess { cut_off: Some(at(NOW)), ..none() }, now, Err(Inactive::Revoked)),
        (KeptOfAccess { cut_off: Some(at(NOW + 5)), ..none() }, now, Err(Inactive::Revoked)),
        (KeptOfAccess { cut_off: Some(at(NOW - 1)), ..none() }, now, Ok(())),
        (
            KeptOfAccess { is_revoked: true, cut_off: Some(at(NOW - 1)), ..none() },
            now,
            Err(Inactive::Revoked),
        ),
    ];
    for (kept, now, expected) in cases {
        assert_eq!(access(None).standing(&kept, now), expected, "{kept:?} {now:?}");
    }
}

#[test]
fn an_access_token_of_a_family_holds_as_long_as_that_was_not_revoked() {
    let (family, _) = family();
    let token = access(Some(family.id));
    let now = at(NOW + 10);
    let kept = |change: &dyn Fn(&mut Family)| {
        let mut family = family.clone();
        change(&mut family);
        KeptOfAccess { family: Some(family), ..KeptOfAccess::default() }
    };
    let cut_off = |before: u64, granted_at: u64| KeptOfAccess {
        cut_off: Some(at(before)),
        ..kept(&|family| family.grant.granted_at = at(granted_at))
    };
    let cases = [
        (kept(&|_| {}), Ok(())),
        (KeptOfAccess::default(), Err(Inactive::Unknown)),
        (kept(&|family| family.ended = Some(End::Revoked)), Err(Inactive::Revoked)),
        // No more refreshes, but what was had with it lives on.
        (kept(&|family| family.ended = Some(End::Expired)), Ok(())),
        (kept(&|family| family.expires_at = at(NOW)), Ok(())),
        (KeptOfAccess { is_revoked: true, ..kept(&|_| {}) }, Err(Inactive::Revoked)),
        // It was refreshed after the cut-off, and granted before.
        (cut_off(NOW - 5, NOW - 10), Err(Inactive::Revoked)),
        (cut_off(NOW - 5, NOW - 5), Err(Inactive::Revoked)),
        (cut_off(NOW - 11, NOW - 10), Ok(())),
    ];
    for (at, (kept, expected)) in cases.into_iter().enumerate() {
        assert_eq!(token.standing(&kept, now), expected, "case {at}");
    }
    // Its own time ends it first.
    let late = token.standing(&KeptOfAccess::default(), at(NOW + 600));
    assert_eq!(late, Err(Inactive::Expired));
}

#[test]
fn a_refresh_token_holds_where_it_would_be_refreshed() {
    let mut refreshing = Refreshing::after(|estate| {
        estate.application.refresh_token.grace = Duration::from_secs(5);
    });
    let parse = |text: &str| RefreshToken::parse(text).unwrap();
    let first = parse(&refreshing.token);
    let second = parse(&refreshing.refreshed().token);
    let third = parse(&refreshing.refreshed().token);
    let family = refreshing.family.clone().unwrap();
    let ended = |end| {
        let mut family = family.clone();
        family.ended = Some(end);
        family
    };
    let (now, lifetime) = (at(NOW + 1), 24 * 3600);
    let made_up = family_of_another();
    let cases = [
        (&family, &third, None, now, Ok(())),
        (&family, &second, None, now, Ok(())),
        (&family, &second, None, at(NOW + 6), Err(Inactive::Spent)),
        (&family, &first, None, now, Err(Inactive::Spent)),
        (&family, &made_up, None, now, Err(Inactive::Forged)),
        (&family, &third, None, at(NOW + lifetime - 1), Ok(())),
        (&family, &third, None, at(NOW + lifetime), Err(Inactive::Expired)),
        (&ended(End::Revoked), &third, None, now, Err(Inactive::Revoked)),
        (&ended(End::Expired), &third, None, now, Err(Inactive::Expired)),
        (&ended(End::Revoked), &made_up, None, now, Err(Inactive::Forged)),
        (&family, &third, Some(at(NOW)), now, Err(Inactive::Revoked)),
        (&family, &third, Some(at(NOW - 1)), now, Ok(())),
    ];
    for (at, (family, token, cut_off, now, expected)) in cases.into_iter().enumerate() {
        assert_eq!(family.standing(token, cut_off, now), expected, "case {at}");
        let owned = Owned::refresh(token.clone(), Some(family.clone()), now);
        assert_eq!(owned.is_ok(), expected != Err(Inactive::Forged), "case {at}");
    }
    let unknown = Owned::refresh(third, None, now).map(|_| ());
    assert_eq!(unknown, Err(Inactive::Unknown));
}

/// A token that says it is of a family of its own.
fn family_of_another() -> RefreshToken {
    family().1
}

#[test]
fn a_token_is_the_business_of_few() {
    let server = |client_id: &str, audiences: &[&str]| ResourceServer {
        client_id: client_id.to_owned(),
        audiences: audiences.iter().map(|one| (*one).to_owned()).collect(),
    };
    let policy = Exchange::new().policy().with_resource_servers(vec![
        server("api", &["https://other.example", "https://api.example.com"]),
        server("other", &["https://other.example"]),
        server("api-prefix", &["https://api.example"]),
    ]);
    let visible = |audience: Value, client_id: &str| {
        let mut claims = claims(None);
        claims["aud"] = audience;
        let token = AccessToken::from_kept(claims.to_string().as_bytes()).unwrap();
        token.is_visible_to(client_id, &policy)
    };
    let one = json!("https://api.example.com");
    let several = json!(["svc1", "https://other.example"]);
    let cases = [
        (&one, "portal", true),
        (&one, "https://api.example.com", true),
        (&one, "api", true),
        (&one, "other", false),
        (&one, "api-prefix", false),
        (&one, "", false),
        (&one, "Portal", false),
        (&several, "svc1", true),
        (&several, "svc", false),
        (&several, "api", true),
        (&several, "other", true),
        (&several, "api-prefix", false),
    ];
    for (audience, client_id, expected) in cases {
        assert_eq!(visible(audience.clone(), client_id), expected, "{audience} {client_id}");
    }
    // A refresh token is its own client's alone.
    let (family, token) = family();
    let token = Owned::refresh(token, Some(family), at(NOW)).unwrap();
    for (client_id, expected) in
        [("portal", true), ("api", false), ("https://api.example.com", false), ("", false)]
    {
        assert_eq!(token.is_visible_to(client_id, &policy), expected, "{client_id}");
    }
}

#[test]
fn what_is_told_is_what_was_minted() {
    let shown = Value::Object(Owned::Access(access(None)).introspection(&policy()));
    let mut expected = claims(None);
    expected["active"] = json!(true);
    expected["token_type"] = json!("Bearer");
    assert_eq!(shown, expected);
    let (family, token) = family();
    let expected = json!({
        "active": true, "iss": OURS, "sub": "alice", "aud": "https://api.example.com",
        "client_id": "portal", "iat": NOW, "exp": NOW + 24 * 3600, "scope": "read write",
    });
    let token = Owned::refresh(token, Some(family), at(NOW)).unwrap();
    assert_eq!(Value::Object(token.introspection(&policy())), expected);
    assert_eq!(token.client_id(), "portal");
    assert_eq!(token.issuer(), IssuerTag::of(PARTNER));
    assert_eq!(&*policy().issuer_by_tag(token.issuer()).unwrap().name, "partner");
    assert!(policy().issuer_by_tag(IssuerTag::of(OURS)).is_none());
}

#[test]
fn every_way_to_be_inactive_has_its_reason() {
    let cases = [
        (Inactive::Forged, Reason::SignatureInvalid, Reason::RefreshUnknown),
        (Inactive::Unknown, Reason::Expired, Reason::RefreshUnknown),
        (Inactive::Expired, Reason::Expired, Reason::RefreshExpired),
        (Inactive::Revoked, Reason::RefreshRevoked, Reason::RefreshRevoked),
        (Inactive::Spent, Reason::RefreshReused, Reason::RefreshReused),
        (Inactive::NotForCaller, Reason::AudienceMismatch, Reason::RefreshOtherClient),
    ];
    for (why, of_access, of_refresh) in cases {
        assert_eq!((why.reason(false), why.reason(true)), (of_access, of_refresh), "{why:?}");
    }
}
