//! Tokens, keys and names that could be taken for others: each is what it is and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::exchange::error::Reason;
use cambio::exchange::{self, Record};
use cambio::jwt::algorithm::{Algorithm, AlgorithmSet};
use cambio::jwt::key_set::KeySet;
use cambio::jwt::sign::{SigningKey, generate_pem};
use cambio::jwt::unverified::UnverifiedJws;
use cambio::proxy::answer::Answer;
use cambio::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{Exchange, Forge, NOW, OURS, authenticate, decode, forge, jwks, signing_keys};

/// An exchange whose trusted token issuer is ourselves: the subject token is one that we minted.
pub fn of_our_own(token: String) -> Exchange {
    let keys: Vec<_> = signing_keys().iter().map(|key| json!(key.jwk())).collect();
    let keys = KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0;
    Exchange::new().with(|exchange| {
        exchange.issuer.rules.issuer = OURS.to_owned();
        exchange.issuer.rules.audiences = vec!["https://api.example.com".to_owned()];
        exchange.keys = keys;
        exchange.token = Some(token);
    })
}

fn access_token(exchange: &Exchange) -> String {
    exchange.run_with(&signing_keys()).0.unwrap().access_token.to_string()
}

/// RFC 8693 §2.2.1: of what comes in nothing goes out but what is mapped, whatever it is called.
#[test]
fn nothing_of_the_subject_token_comes_back() {
    let hostile = json!({
        "azp": "evil", "scope": "admin", "client_id": "evil", "typ": "at+jwt",
        "act": {"sub": "root"}, "may_act": {"sub": "evil"}, "auth_time": 1, "roles": ["root"],
    });
    let exchange = Exchange::new().with(|exchange| {
        for (name, value) in hostile.as_object().unwrap() {
            exchange.claims[name] = value.clone();
        }
    });
    assert_eq!(exchange.granted(), Exchange::new().granted());
    let granted = exchange.run_with(&signing_keys()).0.unwrap();
    let (_, minted) = decode(&granted.access_token);
    assert_ne!(minted["jti"], exchange.claims["jti"]);
    let answer = Answer::granted(&granted, "decision").body;
    let token = exchange.token();
    for part in token.split('.') {
        assert!(!String::from_utf8_lossy(&answer).contains(part), "{part}");
    }
}

/// RFC 8693 §2.1: exchanged again and again, a token never lives longer than the first one.
#[test]
fn exchanges_of_what_was_exchanged_do_not_add_up() {
    let mut token = access_token(&Exchange::new());
    let first = decode(&token).1;
    for round in 1..100 {
        let exchange = of_our_own(token).with(|exchange| exchange.now = NOW + round);
        token = access_token(&exchange);
        let (_, minted) = decode(&token);
        assert_eq!((&minted["exp"], &minted["iat"]), (&first["exp"], &json!(NOW + round)));
    }
    of_our_own(token).with(|exchange| exchange.now = NOW + 600).refused(Reason::Expired);
}

/// SEC 1 §4.1.4: with (r, s) goes (r, n - s). Whoever knows one has both, and both are one token.
#[test]
fn both_forms_of_an_ecdsa_signature_are_one_token() {
    const N: &str = "_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE";
    let once = |token: &str| {
        let exchange = Exchange::new().with(|exchange| {
            (exchange.issuer.once, exchange.token) = (true, Some(token.to_owned()));
        });
        let policy = exchange.policy();
        let client = authenticate(&policy, "portal", crate::support::SECRET);
        let pending =
            exchange::begin(&exchange.form(), client, &policy, &mut Record::default()).unwrap();
        let now = Timestamp::from_secs(NOW);
        let approved = pending.approve(&exchange.keys, now, &mut Record::default()).unwrap();
        *approved.once().unwrap()
    };
    let token = Exchange::new().token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let (mut other, mut borrow) = (URL_SAFE_NO_PAD.decode(N).unwrap(), 0_i16);
    for (digit, minus) in other.iter_mut().zip(s).rev() {
        let difference = i16::from(*digit) - i16::from(*minus) - borrow;
        borrow = i16::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let twin = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([r, &other].concat()));
    assert_ne!(token, twin);
    assert_eq!(once(&token), once(&twin));
    // As is the same claims set under another signature altogether.
    let again = Exchange::new().token();
    assert_ne!(token, again);
    assert_eq!(once(&token), once(&again));
    let else_named = Exchange::new().claim("jti", json!("t-2")).token();
    assert_ne!(once(&token), once(&else_named));
}

/// RFC 8725 §3.1: what a key without `alg` is used for, the issuer's list says and not the header.
#[test]
fn a_key_without_alg_is_held_to_the_issuers_list() {
    let rsa = forge(Algorithm::RS256);
    let mut jwk = rsa.jwk.clone();
    jwk.as_object_mut().unwrap().remove("alg").unwrap();
    let keys = json!({ "keys": [jwk] }).to_string();
    let keys = KeySet::from_jwks(keys.as_bytes()).unwrap().0;
    let by = |algorithm: Algorithm, listed: &[Algorithm]| {
        let same_key = Forge { algorithm, pkcs8: rsa.pkcs8.clone(), jwk: rsa.jwk.clone() };
        Exchange::new().with(|exchange| {
            exchange.token = Some(same_key.sign(&same_key.header(), &exchange.claims));
            exchange.keys = keys.clone();
            exchange.issuer.rules.algorithms = AlgorithmSet::of(listed);
        })
    };
    let of_rsa: Vec<_> = AlgorithmSet::RSA.iter().collect();
    for algorithm in &of_rsa {
        by(*algorithm, &[*algorithm]).granted();
        let others: Vec<_> = of_rsa.iter().copied().filter(|one| one != algorithm).collect();
        by(*algorithm, &others).refused(Reason::AlgorithmRefused);
    }
    // With its own bytes as a secret it is as useless as with `alg`.
    let input = |header: Value| {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", encode(header), encode(Exchange::new().claims))
    };
    let signed = input(json!({"alg": "HS256", "kid": rsa.kid()}));
    let secret =
        aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, jwk.to_string().as_bytes());
    let tag = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, signed.as_bytes()));
    by(Algorithm::RS256, &of_rsa)
        .with(|exchange| exchange.token = Some(format!("{signed}.{tag}")))
        .refused(Reason::AlgorithmRefused);
}

/// RFC 8725 §3.8: names are compared by their bytes, not by what they look like or lead to.
#[test]
fn names_that_look_alike_are_not_the_same() {
    let own = "https://b\u{fc}cher.example/caf\u{e9}";
    let named = |name: &str| {
        let exchange = Exchange::new().claim("iss", json!(name));
        exchange.with(|exchange| exchange.issuer.rules.issuer = own.to_owned())
    };
    named(own).granted();
    for other in [
        "https://xn--bcher-kva.example/caf\u{e9}",
        "https://b\u{fc}cher.example/cafe\u{301}",
        "https://bu\u{308}cher.example/caf\u{e9}",
        "https://b%C3%BCcher.example/caf%C3%A9",
        "https://B\u{fc}cher.example/caf\u{e9}",
        "HTTPS://b\u{fc}cher.example/caf\u{e9}",
        "https://b\u{fc}cher.example:443/caf\u{e9}",
        "https://b\u{fc}cher.example/./caf\u{e9}",
        "https://b\u{fc}cher.example/caf\u{e9}/",
        "https://b\u{fc}cher.example/caf\u{e9}?",
        "https://b\u{fc}cher.example/caf\u{e9}\u{200b}",
        "https://b\u{fc}cher.example/caf\u{e9}\0",
        "https://b\u{fc}cher.example/caf",
        "b\u{fc}cher.example/caf\u{e9}",
    ] {
        named(other).refused(Reason::IssuerUnknown);
    }
    // Nor in `aud`.
    let audience = |name: &str| Exchange::new().claim("aud", json!(name));
    audience(OURS).granted();
    for other in [&OURS.to_uppercase(), &OURS.replace("://", "%3A//"), &format!("{OURS}\0")] {
        audience(other).refused(Reason::AudienceMismatch);
    }
}

/// RFC 8725 §3.2: no two ECDSA signatures of ours share a nonce, and each holds.
#[test]
fn our_ecdsa_signatures_are_never_the_same() {
    for algorithm in [Algorithm::ES256, Algorithm::ES384] {
        let pem = generate_pem(algorithm).unwrap();
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), algorithm, None, None).unwrap();
        let keys = json!({ "keys": [key.jwk()] }).to_string();
        let keys = KeySet::from_jwks(keys.as_bytes()).unwrap().0;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let token = key.sign("at+jwt", &json!({"sub": "alice"})).unwrap();
            let jws = UnverifiedJws::parse(&token).unwrap();
            assert_eq!(jws.verify(algorithm, &keys), Ok(()));
            let (_, signature) = token.rsplit_once('.').unwrap();
            let half = URL_SAFE_NO_PAD.decode(signature).unwrap();
            // Equal nonces show as equal halves r.
            assert!(seen.insert(half[..half.len() / 2].to_vec()), "{algorithm}");
        }
    }
}

/// RFC 7516 §3.1: what has five parts is encrypted, and is not looked into, whoever could.
#[test]
fn an_encrypted_token_is_refused_whatever_is_in_it() {
    let good = Exchange::new();
    let header = json!({"alg": "RSA-OAEP", "enc": "A128GCM", "cty": "JWT"}).to_string();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&good.claims.to_string()));
    for inner in [good.token(), unsigned] {
        let token = format!("{}.{}.{}.{}.AA", part(&header), part("key"), part("iv"), part(&inner));
        let encrypted = Exchange::new().with(|exchange| exchange.token = Some(token));
        encrypted.refused(Reason::TokenMalformed);
    }
    // With three parts it would be a JWS, but for its header.
    let mut three = Exchange::new();
    three.header["enc"] = json!("A128GCM");
    three.refused(Reason::HeaderRefused);
    good.granted();
}

/// RFC 7517 §4.5: two keys of one name and one kind are both tried, and no more than a few.
#[test]
fn a_crowd_of_keys_of_one_name_is_tried_up_to_a_bound() {
    let others: Vec<_> = (0..8).map(|_| Forge::new(Algorithm::ES256, "k-ES256")).collect();
    let own = forge(Algorithm::ES256);
    let with = |crowd: usize| {
        let mut forges: Vec<_> = others[..crowd].iter().collect();
        forges.push(own);
        let keys = KeySet::from_jwks(&jwks(&forges)).unwrap().0;
        Exchange::new().with(|exchange| exchange.keys = keys)
    };
    with(7).granted();
    with(8).refused(Reason::SignatureInvalid);
}
