//! Every kind of token in the place of every other: each is what it is and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::exchange::client::{ClientError, Format};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::error::Reason;
use cambio::exchange::family::RefreshToken;
use cambio::exchange::inquiry::InquiryRequest;
use cambio::exchange::issued::Suspected;
use cambio::exchange::opaque::OpaqueId;
use cambio::exchange::request::{Recognised, TokenPathRequest};
use cambio::jwt::algorithm::Algorithm;
use cambio::oauth::form::Form;
use serde_json::{Value, json};

use crate::confusion::of_our_own;
use crate::recognise::{FORM, request};
use crate::support::{Exchange, NOW, OURS, decode, encode, forge, signing_keys, stranger};

/// What a token is taken for where tokens are introspected and revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// Nothing of it has to do with us.
    Theirs,
    /// It says that it is ours, and is not.
    Forged,
    Access,
    Opaque,
    Refresh,
}

/// A token, and what becomes of it in each place.
struct Kind {
    name: &'static str,
    token: String,
    /// As a subject token, and as one where we trust ourselves: `None` where it is exchanged.
    as_subject: [Option<Reason>; 2],
    as_refresh: bool,
    as_introspected: Taken,
}

/// What has no `iss` that is trusted.
const UNKNOWN: Option<Reason> = Some(Reason::IssuerUnknown);
/// What is right but for its type.
const OTHER_TYPE: Option<Reason> = Some(Reason::TypeRefused);
/// What is of another form altogether.
const NO_JWS: [Option<Reason>; 2] = [Some(Reason::TokenMalformed); 2];

/// What is accepted here and handed out, each good in its own place.
fn of_ours() -> Vec<Kind> {
    let minted = |format: Format| {
        let exchange = Exchange::new().with(|exchange| {
            exchange.application.grant_types.push("refresh_token".to_owned());
            exchange.application.access_token.format = format;
        });
        exchange.run_with(&signing_keys()).0.unwrap()
    };
    let (jwt, opaque) = (minted(Format::Jwt), minted(Format::Opaque));
    let of = |name, token, as_subject, as_introspected| {
        let as_refresh = as_introspected == Taken::Refresh;
        Kind { name, token, as_subject, as_refresh, as_introspected }
    };
    vec![
        of("subject token", Exchange::new().token(), [None, UNKNOWN], Taken::Theirs),
        of("access token", jwt.access_token.to_string(), [UNKNOWN, None], Taken::Access),
        of("opaque access token", opaque.access_token.to_string(), NO_JWS, Taken::Opaque),
        of("refresh token", jwt.refresh_token.unwrap().to_string(), NO_JWS, Taken::Refresh),
    ]
}

/// Assertions and proofs, which are good for nothing here, and what they could be made into.
fn of_others() -> Vec<Kind> {
    let (client, proof) = ("client-authentication+jwt", "dpop+jwt");
    let issuer = forge(Algorithm::ES256);
    let typed = |typ: &str| {
        let mut header = issuer.header();
        header["typ"] = json!(typ);
        header
    };
    let subject = Exchange::new().claims;
    // RFC 7523 §3. Applications have no keys here: it is signed by one that only they know.
    let assertion = json!({
        "iss": "portal", "sub": "portal", "aud": OURS, "jti": "a-1", "iat": NOW, "exp": NOW + 60,
    });
    let by_client = stranger().sign(&typed(client), &assertion);
    // RFC 9449 §4.2.
    let mut of_proof = typed(proof);
    of_proof["jwk"] = stranger().jwk.clone();
    let ath = URL_SAFE_NO_PAD.encode([7; 32]);
    let proven = json!({"jti": "p-1", "htm": "POST", "htu": OURS, "iat": NOW, "ath": ath});
    let mut both = subject.clone();
    both.as_object_mut().unwrap().extend(proven.as_object().unwrap().clone());
    let by_issuer = |header: &Value, claims: &Value| issuer.sign(header, claims);
    let (_, ours) = decode(&Exchange::new().run_with(&signing_keys()).0.unwrap().access_token);
    let by_us = |typ: &str| signing_keys().iter().next().unwrap().sign(typ, &ours).unwrap();
    let of = |name, token, as_subject| {
        let as_introspected = Taken::Theirs;
        Kind { name, token, as_subject, as_refresh: false, as_introspected }
    };
    // Our key signs nothing of the kind, so that it is no token of ours.
    let of_our_key = |name, typ| {
        let kind = of(name, by_us(typ), [UNKNOWN, OTHER_TYPE]);
        Kind { as_introspected: Taken::Forged, ..kind }
    };
    let no_issuer = [UNKNOWN; 2];
    let of_the_issuer = [OTHER_TYPE, UNKNOWN];
    vec![
        of("assertion", by_client, no_issuer),
        of("assertion by the issuer's key", by_issuer(&typed(client), &assertion), no_issuer),
        of("assertion with all claims", by_issuer(&typed(client), &subject), of_the_issuer),
        of_our_key("assertion by our key", client),
        of("proof", by_issuer(&of_proof, &proven), no_issuer),
        of("proof with all claims", by_issuer(&of_proof, &both), of_the_issuer),
        of_our_key("proof by our key", proof),
        of("refresh token as a JWT", by_issuer(&typed("refresh+jwt"), &subject), of_the_issuer),
        of_our_key("our refresh token as a JWT", "refresh+jwt"),
        of("logout token", by_issuer(&typed("logout+jwt"), &subject), of_the_issuer),
    ]
}

/// What a token is where it is presented as one to be refreshed: what is not ours is not ours to judge.
fn is_refreshed(token: &str) -> bool {
    let grant = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let body = encode(&[grant("grant_type", "refresh_token"), grant("refresh_token", token)]);
    let asked: TokenPathRequest<'_> = request(body.as_bytes());
    match asked.recognise().unwrap() {
        Recognised::Refresh(form) => {
            assert_eq!(form.get("refresh_token"), Some(token));
            true
        }
        Recognised::Other => false,
        Recognised::Exchange(_) => panic!("a refresh is no exchange"),
    }
}

/// What it is taken for where somebody asks about it, whatever is said that it is.
fn taken(token: &str, hint: &str) -> Taken {
    let body = encode(&[
        ("token".to_owned(), token.to_owned()),
        ("token_type_hint".to_owned(), hint.to_owned()),
    ]);
    let inquiry = InquiryRequest {
        method: "POST",
        query: None,
        is_overridden: false,
        content_types: &[FORM],
        is_encoded: false,
        body: body.as_bytes(),
    };
    let keys = signing_keys().verification_keys().unwrap();
    match inquiry.recognise(&keys, &Exchange::new().policy()).map(|inquiry| inquiry.suspected) {
        None => Taken::Theirs,
        Some(Suspected::Jwt(Some(_))) => Taken::Access,
        Some(Suspected::Opaque(Some(_))) => Taken::Opaque,
        Some(Suspected::Refresh(Some(_))) => Taken::Refresh,
        Some(Suspected::Jwt(None) | Suspected::Opaque(None) | Suspected::Refresh(None)) => {
            Taken::Forged
        }
    }
}

/// RFC 8725 §3.12: no rule for one kind of token lets another kind pass.
#[test]
fn a_token_of_one_kind_never_stands_in_for_another() {
    let kinds: Vec<_> = of_ours().into_iter().chain(of_others()).collect();
    for Kind { name, token, as_subject, as_refresh, as_introspected } in &kinds {
        eprintln!("{name}");
        // As subject tokens. We are no trusted token issuer of our own, unless somebody says so.
        let presented = Exchange::new().with(|one| one.token = Some(token.clone()));
        for (exchange, expected) in [presented, of_our_own(token.clone())].iter().zip(as_subject) {
            assert_eq!(exchange.run().err(), *expected, "{name}");
        }
        assert_eq!(is_refreshed(token), *as_refresh, "{name}");
        for hint in ["", "access_token", "refresh_token", "urn:example:else"] {
            assert_eq!(taken(token, hint), *as_introspected, "{name} as {hint:?}");
        }
        // Each form is read by its own reader alone.
        assert_eq!(RefreshToken::parse(token).is_some(), *as_refresh, "{name}");
        assert_eq!(OpaqueId::parse(token).is_some(), *as_introspected == Taken::Opaque, "{name}");
        // And none proves who calls (RFC 7523 §2.2), not even the one that is for that.
        let form = encode(&[
            ("client_id".to_owned(), "portal".to_owned()),
            ("client_assertion".to_owned(), token.clone()),
        ]);
        let form = Form::parse(form.as_bytes()).unwrap();
        assert_eq!(Credentials::present(&[], &form).err(), Some(ClientError::AuthMissing));
    }
    // Each place has a single kind.
    let exchanged = |at: usize| kinds.iter().filter(|kind| kind.as_subject[at].is_none()).count();
    assert_eq!((exchanged(0), exchanged(1)), (1, 1));
    assert_eq!(kinds.iter().filter(|kind| kind.as_refresh).count(), 1);
    assert!(kinds[2].token.starts_with("cambio_at_") && kinds[3].token.starts_with("cambio_rt_"));
    // It is for its type alone that a proof with all claims is refused.
    Exchange::new()
        .claim("htm", json!("POST"))
        .claim("htu", json!(OURS))
        .member("jwk", stranger().jwk.clone())
        .granted();
}
