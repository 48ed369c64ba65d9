//! Resource servers that know an identity provider by its issuer alone, and nothing of Cambio.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use serde_json::Value;

use crate::answered::{Tokens, part};
use crate::apache::Apache;
use crate::estate::Estate;
use crate::idp::{Kind, secret};
use crate::software::run;
use crate::stage::AUDIENCE;

/// In Python and in JavaScript; [`Apache`] is the one in C.
pub const LIBRARIES: [&str; 2] = ["verify_pyjwt.py", "verify_jose.mjs"];

/// What a library makes of a token of this issuer, for this audience.
fn verified(library: &str, issuer: &str, audience: &str, token: &str) -> Value {
    run(library, &[issuer, audience, token]).remove(0)
}

async fn a_minted_token_is_accepted_everywhere(kind: Kind) {
    let estate = Estate::of(kind).await;
    let issuer = &estate.facts.issuer;
    let minted = estate.exchange(AUDIENCE).await.access;
    for library in LIBRARIES {
        let seen = verified(library, issuer, AUDIENCE, &minted);
        assert_eq!(seen["header"]["typ"], "at+jwt", "{library}");
        // The identity provider's own is RS256.
        assert_eq!(seen["header"]["alg"], "ES256", "{library}");
        assert_eq!(seen["claims"]["sub"], "alice", "{library}");
        assert_eq!(seen["claims"]["iss"], *issuer, "{library}");
        assert_eq!(seen["claims"]["client_id"], estate.facts.application, "{library}");
    }
    let apache = Apache::start(issuer).await;
    assert_eq!(apache.lets_in(&minted).await, Ok("alice".to_owned()));

    // As well as before, and nothing else.
    let (client, form) = (estate.facts.application, "grant_type=client_credentials&scope=svc");
    let answer = estate.through().ask(client, &secret(client), estate.facts.token, form).await;
    let own = Tokens::of(&answer).access;
    if kind == Kind::OidcProviderOpaque {
        assert_eq!(apache.lets_in(&own).await, Err(401));
    } else {
        for library in LIBRARIES {
            let seen = verified(library, issuer, estate.facts.audience, &own);
            assert_eq!(seen["header"]["alg"], "RS256", "{library}");
            assert_eq!(seen["claims"]["client_id"], client, "{library}");
        }
        assert!(apache.lets_in(&own).await.is_ok());
    }
    for (what, token) in refused(&minted) {
        assert_eq!(apache.lets_in(&token).await, Err(401), "{what}");
    }
    assert_eq!(apache.lets_in(&minted).await, Ok("alice".to_owned()));
}

/// Tokens that nobody is to accept.
fn refused(minted: &str) -> Vec<(&'static str, String)> {
    let (header, mut claims) = (part(minted, 0).unwrap(), part(minted, 1).unwrap());
    let signed = |kid: Option<&str>| {
        let pem = generate_pem(Algorithm::ES256).unwrap();
        let kid = kid.map(str::to_owned);
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, kid, None);
        key.unwrap().sign("at+jwt", &claims).unwrap()
    };
    let strangers = signed(None);
    let under_our_name = signed(header["kid"].as_str());
    claims["sub"] = "mallory".into();
    let other = URL_SAFE_NO_PAD.encode(claims.to_string());
    let (head, signature) = (minted.split('.').next().unwrap(), minted.split('.').nth(2).unwrap());
    vec![
        ("another's key", strangers),
        ("another's key under the name of ours", under_our_name),
        ("other claims under our signature", format!("{head}.{other}.{signature}")),
        ("no signature", format!("{head}.{other}.")),
    ]
}

in_front_of_each!(a_minted_token_is_accepted_everywhere);
