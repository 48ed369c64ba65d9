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

/// What a library makes of tokens of this issuer, for this audience.
fn verified(library: &str, issuer: &str, audience: &str, tokens: &[&str]) -> Vec<Value> {
    let verified = run(library, &[&[issuer, audience], tokens].concat());
    assert_eq!(verified.len(), tokens.len(), "{library}");
    verified
}

async fn a_minted_token_is_accepted_everywhere(kind: Kind) {
    let estate = Estate::of(kind).await;
    let issuer = &estate.facts.issuer;
    let minted = estate.exchange(AUDIENCE).await.access;
    let refused = refused(&estate, &minted);
    let mut tokens = vec![minted.as_str()];
    tokens.extend(refused.iter().map(|(_, token)| token.as_str()));
    for library in LIBRARIES {
        let seen = verified(library, issuer, AUDIENCE, &tokens);
        let (accepted, others) = seen.split_first().unwrap();
        assert_eq!(accepted["header"]["typ"], "at+jwt", "{library}");
        // The identity provider's own is RS256.
        assert_eq!(accepted["header"]["alg"], "ES256", "{library}");
        assert_eq!(accepted["claims"]["sub"], "alice", "{library}");
        assert_eq!(accepted["claims"]["iss"], *issuer, "{library}");
        assert_eq!(accepted["claims"]["client_id"], estate.facts.application, "{library}");
        for ((what, _), seen) in refused.iter().zip(others) {
            assert!(seen["refused"].is_string(), "{library}: {what}: {seen}");
        }
    }
    let apache = Apache::start(issuer).await;
    assert_eq!(apache.lets_in(&minted).await, Ok("alice".to_owned()));
    for (what, token) in &refused {
        assert_eq!(apache.lets_in(token).await, Err(401), "{what}");
    }

    // The identity provider's own are accepted as before.
    let (client, form) = (estate.facts.application, "grant_type=client_credentials&scope=svc");
    let answer = estate.through().ask(client, &secret(client), estate.facts.token, form).await;
    let own = Tokens::of(&answer).access;
    if kind == Kind::OidcProviderOpaque {
        // There is nothing in it to be verified.
        assert_eq!(apache.lets_in(&own).await, Err(401));
    } else {
        for library in LIBRARIES {
            let seen = verified(library, issuer, estate.facts.audience, &[&own]);
            assert_eq!(seen[0]["header"]["alg"], "RS256", "{library}");
            assert_eq!(seen[0]["claims"]["client_id"], client, "{library}");
        }
        assert!(apache.lets_in(&own).await.is_ok());
    }
}

/// Tokens that nobody is to accept.
fn refused(estate: &Estate, minted: &str) -> Vec<(&'static str, String)> {
    let (header, mut claims) = (part(minted, 0).unwrap(), part(minted, 1).unwrap());
    let signed = |pem: &str, kid: Option<&str>, claims: &Value| {
        let kid = kid.map(str::to_owned);
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::ES256, kid, None);
        key.unwrap().sign("at+jwt", claims).unwrap()
    };
    let another = generate_pem(Algorithm::ES256).unwrap();
    let anothers = signed(&another, None, &claims);
    let under_our_name = signed(&another, header["kid"].as_str(), &claims);
    let mut of_another_issuer = claims.clone();
    of_another_issuer["iss"] = "https://idp.example".into();
    let of_another_issuer = signed(&estate.signing_key(), None, &of_another_issuer);
    claims["sub"] = "mallory".into();
    let other = URL_SAFE_NO_PAD.encode(claims.to_string());
    let (head, signature) = (minted.split('.').next().unwrap(), minted.split('.').nth(2).unwrap());
    vec![
        ("another's key", anothers),
        ("another's key under the name of ours", under_our_name),
        ("our key, in the name of another issuer", of_another_issuer),
        ("what was exchanged", estate.subject_token()),
        ("other claims under our signature", format!("{head}.{other}.{signature}")),
        ("no signature", format!("{head}.{other}.")),
    ]
}

in_front_of_each!(a_minted_token_is_accepted_everywhere);
