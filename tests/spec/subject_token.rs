//! What is asked of a subject token: the valid twin beside each refusal, each for its exact reason.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::exchange::error::Reason;
use cambio::exchange::subject::{ClaimMapping, RESERVED_CLAIMS};
use cambio::jwt::algorithm::{Algorithm, AlgorithmSet};
use cambio::jwt::certificate::{Certificate, CertificateError};
use cambio::jwt::key_set::{KeyRefused, KeySet, KeySetError, MAX_DOCUMENT, MAX_KEYS, MAX_TRIED};
use cambio::jwt::verify::MediaType;
use serde_json::{Value, json};

use crate::support::{
    ALIAS, Exchange, Forge, NOW, OURS, PARTNER, SECRET, forge, jwks, mapping, partner, portal,
    stranger,
};

#[test]
fn a_token_of_each_algorithm_is_exchanged_by_jwks() {
    for algorithm in Algorithm::ALL {
        let minted = Exchange::signed_by(algorithm).granted();
        assert_eq!(minted["sub"], "alice", "{algorithm}");
    }
    Exchange::signed_by(Algorithm::EdDSA).member("alg", json!("Ed25519")).granted();
}

#[test]
fn a_token_of_each_algorithm_is_refused_where_the_issuer_may_not_use_it() {
    for algorithm in Algorithm::ALL {
        let others: Vec<_> = Algorithm::ALL.into_iter().filter(|one| *one != algorithm).collect();
        Exchange::signed_by(algorithm)
            .with(|exchange| exchange.issuer.rules.algorithms = AlgorithmSet::of(&others))
            .refused(Reason::AlgorithmRefused);
    }
}

#[test]
fn only_sub_is_copied_and_reserved_claims_are_ours() {
    let minted = Exchange::new().granted();
    // 128 random bits, and whose token it was exchanged for.
    let issuer = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, PARTNER.as_bytes());
    let jti = [&[7; 16], &issuer.as_ref()[..8]].concat();
    assert_eq!(
        minted,
        json!({
            "iss": OURS, "sub": "alice", "aud": "https://api.example.com", "client_id": "portal",
            "iat": NOW, "exp": NOW + 600, "jti": URL_SAFE_NO_PAD.encode(jti),
        })
    );
}

#[test]
fn mapped_claims_are_copied_and_the_subject_is_prefixed() {
    let exchange = Exchange::new().with(|exchange| {
        exchange.issuer.claims = vec![mapping("mail", "email"), mapping("absent", "nothing")];
        exchange.issuer.subject_prefix = "partner:".to_owned();
    });
    let minted = exchange.granted();
    assert_eq!(
        (&minted["mail"], &minted["sub"]),
        (&json!("alice@example.com"), &json!("partner:alice"))
    );
    assert_eq!(minted.get("absent"), None);
}

/// By their names, so that none of them becomes free unawares (RFC 9068 §2.2, RFC 8693 §4).
#[test]
fn no_mapping_sets_a_claim_that_is_ours() {
    let ours = [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "client_id",
        "azp",
        "scope",
        "act",
        "may_act",
        "cnf",
        "typ",
    ];
    assert_eq!(RESERVED_CLAIMS, ours);
    for name in ours {
        assert_eq!(ClaimMapping::new(name, "email"), None, "{name}");
        // Names are told apart by case (RFC 7519 §4), and another one is free.
        let free = name.to_uppercase();
        let mapped = Exchange::new().with(|exchange| {
            exchange.issuer.claims = vec![mapping(&free, "email")];
        });
        assert_eq!(mapped.granted()[&free], "alice@example.com");
    }
}

#[test]
fn a_minted_token_never_outlives_the_subject_token_unless_it_may() {
    let lifetime = |seconds| {
        move |exchange: &mut Exchange| {
            exchange.application.access_token.lifetime = Duration::from_secs(seconds);
        }
    };
    let outlive =
        |exchange: &mut Exchange| exchange.application.access_token.outlive_subject = true;
    assert_eq!(Exchange::new().with(lifetime(60)).granted()["exp"], NOW + 60);
    assert_eq!(Exchange::new().with(lifetime(3600)).granted()["exp"], NOW + 600);
    assert_eq!(Exchange::new().with(lifetime(3600)).with(outlive).granted()["exp"], NOW + 3600);
}

#[test]
fn the_header_is_held_to_the_rules() {
    Exchange::new().granted();
    for (name, value) in [
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!("exp")),
        ("crit", Value::Null),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("cty", json!("JWT")),
        ("cty", json!("jwt")),
        ("cty", json!("application/JWT")),
        ("cty", json!(1)),
        ("alg", json!(null)),
        ("alg", json!(["ES256"])),
        ("kid", json!(1)),
        ("kid", Value::Null),
        ("typ", json!(["JWT"])),
    ] {
        eprintln!("{name}: {value}");
        Exchange::new().member(name, value).refused(Reason::HeaderRefused);
    }
    for alg in [
        "none", "None", "NONE", "nOnE", "none ", "", "HS256", "hs256", "es256", "ES256 ", "ES256K",
        "ЕS256",
    ] {
        eprintln!("{alg:?}");
        Exchange::new().member("alg", json!(alg)).refused(Reason::AlgorithmRefused);
    }
    let unsigned = Exchange::new().with(|exchange| {
        let header = json!({"alg": "none"}).to_string();
        let token = forge(Algorithm::ES256).sign_text(&header, &exchange.claims.to_string());
        let (signed, _) = token.rsplit_once('.').unwrap();
        exchange.token = Some(format!("{signed}."));
    });
    unsigned.refused(Reason::TokenMalformed);
}

#[test]
fn keys_in_the_header_are_never_used() {
    // A stranger's key in the header does not help it …
    let own = stranger();
    let embed = |name: &str, value: Value| {
        Exchange::new().member(name, value).with(|exchange| exchange.forge = own)
    };
    embed("jwk", own.jwk.clone()).refused(Reason::SignatureInvalid);
    for name in ["jku", "x5u"] {
        embed(name, json!("https://attacker.example/")).refused(Reason::SignatureInvalid);
    }
    embed("x5c", json!(["AA"])).refused(Reason::SignatureInvalid);
    // … and does not harm a token that is otherwise good.
    Exchange::new().member("jwk", own.jwk.clone()).granted();
}

#[test]
fn the_type_is_one_that_the_issuer_uses() {
    for good in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt"] {
        Exchange::new().member("typ", json!(good)).granted();
    }
    Exchange::new()
        .with(|exchange| {
            exchange.header.as_object_mut().unwrap().remove("typ").unwrap();
        })
        .granted();
    for bad in [
        "",
        "JOSE",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "client-authentication+jwt",
        "refresh+jwt",
        "application/application/jwt",
        "text/jwt",
        " JWT",
    ] {
        eprintln!("{bad:?}");
        Exchange::new().member("typ", json!(bad)).refused(Reason::TypeRefused);
    }
    let at_only = |exchange: &mut Exchange| {
        exchange.issuer.rules.token_types = vec![MediaType::new("at+jwt")];
    };
    Exchange::new().member("typ", json!("at+jwt")).with(at_only).granted();
    Exchange::new().with(at_only).refused(Reason::TypeRefused);
}

#[test]
fn a_sender_constrained_token_is_never_turned_into_a_bearer_token() {
    Exchange::new().claim("cnf", json!({"jkt": "x"})).refused(Reason::TypeRefused);
}

/// RFC 8417 §2.2, OpenID Connect Back-Channel Logout 1.0 §2.4: what tells of an event authorises nobody,
/// also where it does not say by its `typ` what it is.
#[test]
fn a_token_that_tells_of_events_is_none_to_exchange() {
    let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    Exchange::new().claim("events", events.clone()).refused(Reason::TypeRefused);
    Exchange::new().claim("events", json!({})).refused(Reason::TypeRefused);
    Exchange::new().claim("event", events).granted();
    // Somebody's own claim of that name is in no form of theirs.
    Exchange::new().claim("events", json!(["x"])).granted();
}

#[test]
fn the_issuer_is_one_string_equal_to_the_byte() {
    for bad in [
        format!("{PARTNER}/"),
        PARTNER.to_uppercase(),
        PARTNER.replace("https", "http"),
        PARTNER.replace(".io/", ".io:443/"),
        PARTNER.replace("/token", "%2Ftoken"),
        PARTNER[1..].to_owned(),
        format!("{PARTNER}x"),
        format!(" {PARTNER}"),
        String::new(),
    ] {
        Exchange::new().claim("iss", json!(bad)).refused(Reason::IssuerUnknown);
    }
    Exchange::new().without_claim("iss").refused(Reason::IssuerUnknown);
    for bad in
        [json!([PARTNER]), json!(["https://evil", PARTNER]), json!(null), json!(1), json!({})]
    {
        Exchange::new().claim("iss", bad).refused(Reason::ClaimsMalformed);
    }
}

#[test]
fn the_issuer_is_enabled_and_the_application_may_use_it() {
    Exchange::new()
        .with(|exchange| exchange.issuer.enabled = false)
        .refused(Reason::IssuerDisabled);
    let only = |name: &str| {
        let names = vec![name.into()];
        move |exchange: &mut Exchange| exchange.application.trusted_token_issuers = Some(names)
    };
    Exchange::new().with(only("partner")).granted();
    Exchange::new().with(only("another")).refused(Reason::IssuerNotAllowed);
}

/// Two issuers and two applications, each of which may use one of them: whose token it is and who
/// brings it are looked at together.
#[test]
fn each_application_may_use_its_own_issuers_and_no_others() {
    let trusted = |name: &str, iss: &str| {
        let mut issuer = partner();
        issuer.name = name.into();
        issuer.rules.issuer = iss.to_owned();
        issuer
    };
    let may_use = |client_id: &str, issuer: &str| {
        let mut application = portal();
        application.client_id = client_id.to_owned();
        application.trusted_token_issuers = Some(vec![issuer.into()]);
        application
    };
    // Each issuer has a key of its own, if of the same name.
    let issuers = [
        (trusted("partner", PARTNER), forge(Algorithm::ES256)),
        (trusted("other", "https://other.example/token"), stranger()),
    ];
    let clients = ["portal", "kiosk"];
    for of_clients in [["partner", "other"], ["other", "partner"]] {
        for (own, (issuer, forge)) in issuers.iter().enumerate() {
            for (caller, client_id) in clients.into_iter().enumerate() {
                let exchange = Exchange::new().with(|exchange| {
                    exchange.issuer = issuer.clone();
                    exchange.application = may_use(client_id, of_clients[caller]);
                    let other = may_use(clients[1 - caller], of_clients[1 - caller]);
                    exchange.others = vec![(issuers[1 - own].0.clone(), other)];
                    exchange.basic = Some((client_id, SECRET));
                    exchange.forge = forge;
                    exchange.keys = KeySet::from_jwks(&jwks(&[forge])).unwrap().0;
                });
                let exchange = exchange.claim("iss", json!(issuer.rules.issuer));
                if of_clients[caller] == &*issuer.name {
                    assert_eq!(exchange.granted()["client_id"], client_id);
                } else {
                    exchange.refused(Reason::IssuerNotAllowed);
                }
            }
        }
    }
}

#[test]
fn the_signature_is_by_a_key_of_the_issuer() {
    Exchange::new().with(|exchange| exchange.forge = stranger()).refused(Reason::SignatureInvalid);
    Exchange::new().member("kid", json!("another")).refused(Reason::KeyUnknown);
    for kid in ["../../etc/passwd", "' OR 1=1", "\0", &"k".repeat(2048)] {
        Exchange::new().member("kid", json!(kid)).refused(Reason::KeyUnknown);
    }
    // The key of one algorithm does not verify another, though both are of the issuer.
    for (key, alg) in [
        (Algorithm::RS256, Algorithm::PS256),
        (Algorithm::PS256, Algorithm::RS256),
        (Algorithm::ES256, Algorithm::ES384),
        (Algorithm::RS256, Algorithm::EdDSA),
    ] {
        Exchange::signed_by(key).member("alg", json!(alg.as_str())).refused(Reason::KeyUnknown);
    }
}

#[test]
fn a_changed_signature_does_not_hold() {
    let flip = |at: usize| {
        let token = Exchange::new().token();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut octets = URL_SAFE_NO_PAD.decode(signature).unwrap();
        octets[at] ^= 1;
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(octets))
    };
    for at in [0, 31, 32, 63] {
        Exchange::new()
            .with(|exchange| exchange.token = Some(flip(at)))
            .refused(Reason::SignatureInvalid);
    }
    let token = Exchange::new().token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let octets = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for forged in [
        vec![0; 64],
        vec![0xFF; 64],
        octets[..63].to_vec(),
        [&octets[..], &[0]].concat(),
        vec![0; 8192],
        [&[0x30, 0x44, 0x02, 0x20][..], &octets[..32], &[0x02, 0x20], &octets[32..]].concat(),
    ] {
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(forged));
        Exchange::new()
            .with(|exchange| exchange.token = Some(token))
            .refused(Reason::SignatureInvalid);
    }
}

#[test]
fn the_text_of_a_token_is_strict() {
    let good = Exchange::new().token();
    let parts: Vec<&str> = good.split('.').collect();
    let token = |token: String| Exchange::new().with(|exchange| exchange.token = Some(token));
    token(format!("\n {good}\r\n\t ")).granted();
    for bad in [
        format!("{good}="),
        format!("{good}.AA"),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}..{}", parts[0], parts[2]),
        format!("{}.{} .{}", parts[0], parts[1], parts[2]),
        format!("Bearer {good}"),
        format!("\"{good}\""),
        json!({"payload": parts[1], "signatures": []}).to_string(),
        "....".to_owned(),
        "not a token".to_owned(),
    ] {
        token(bad).refused(Reason::TokenMalformed);
    }
    token(".".repeat(17_000)).refused(Reason::TokenTooLarge);
    token(format!("{good}{}", "A".repeat(16_384))).refused(Reason::TokenTooLarge);
}

#[test]
fn header_and_claims_are_strict_json() {
    let es256 = forge(Algorithm::ES256);
    let (header, claims) = (es256.header().to_string(), Exchange::new().claims.to_string());
    let token = |header: &str, claims: &str| {
        let token = es256.sign_text(header, claims);
        Exchange::new().with(|exchange| exchange.token = Some(token))
    };
    token(&header, &claims).granted();
    let twice = |text: &str, member: &str| format!("{},{member}}}", &text[..text.len() - 1]);
    for bad in [
        twice(&claims, r#""sub":"bob""#),
        twice(&claims, r#""email":"bob@example.com""#),
        twice(&claims, r#""s\u0075b":"bob""#),
        twice(&claims, r#""x":{"a":1,"a":2}"#),
        twice(&claims, r#""x":NaN"#),
        twice(&claims, r#""x":1e999"#),
        twice(&claims, r#""x":"\ud800""#),
        format!("{claims}x"),
        format!("{claims}{claims}"),
        format!("\u{feff}{claims}"),
        format!("[{claims}]"),
        "1".to_owned(),
        twice(&claims, &format!(r#""x":{}1{}"#, "[".repeat(40), "]".repeat(40))),
    ] {
        token(&header, &bad).refused(Reason::TokenMalformed);
    }
    for bad in
        [twice(&header, r#""alg":"ES256""#), twice(&header, r#""x":1,"x":1"#), "[]".to_owned()]
    {
        token(&bad, &claims).refused(Reason::TokenMalformed);
    }
}

#[test]
fn the_audience_names_us() {
    for good in
        [json!(OURS), json!(ALIAS), json!([ALIAS]), json!(["x", OURS]), json!([ALIAS, ALIAS])]
    {
        Exchange::new().claim("aud", good).granted();
    }
    for bad in [
        json!("someone-else"),
        json!([]),
        json!(["x", "y"]),
        json!(""),
        json!(format!("{OURS}/")),
        json!(format!("{OURS} {ALIAS}")),
        json!("portal"),
    ] {
        Exchange::new().claim("aud", bad).refused(Reason::AudienceMismatch);
    }
    Exchange::new().without_claim("aud").refused(Reason::AudienceMismatch);
    for bad in [
        json!(null),
        json!(1),
        json!({"x": ALIAS}),
        json!([ALIAS, 1]),
        json!([[ALIAS]]),
        json!([null]),
    ] {
        Exchange::new().claim("aud", bad).refused(Reason::ClaimsMalformed);
    }
}

#[test]
fn the_times_hold_to_the_second() {
    let skew = 30;
    let cases = [
        // The minted token lives at least a second, whatever the skew.
        ("exp", NOW + 1, None),
        ("exp", NOW, Some(Reason::Expired)),
        ("exp", NOW - skew + 1, Some(Reason::Expired)),
        ("exp", NOW - skew, Some(Reason::Expired)),
        ("exp", 0, Some(Reason::Expired)),
        ("exp", 253_402_300_799, None),
        ("exp", 253_402_300_800, Some(Reason::LifetimeTooLong)),
        ("exp", u64::MAX, Some(Reason::LifetimeTooLong)),
        ("nbf", NOW + skew, None),
        ("nbf", NOW + skew + 1, Some(Reason::NotYetValid)),
        ("nbf", u64::MAX, Some(Reason::NotYetValid)),
        ("iat", NOW + skew, None),
        ("iat", NOW + skew + 1, Some(Reason::IssuedInFuture)),
        ("iat", 0, None),
    ];
    for (name, value, reason) in cases {
        eprintln!("{name}: {value}");
        let exchange = Exchange::new().claim(name, json!(value));
        match reason {
            None => drop(exchange.granted()),
            Some(reason) => exchange.refused(reason),
        }
    }
    for float in [json!(1_800_000_600.9), json!(1e300), json!(-1e300), json!(-1)] {
        let exchange = Exchange::new().claim("exp", float.clone());
        match float.as_f64().unwrap() {
            x if x < 0.0 => exchange.refused(Reason::Expired),
            x if x > 1e100 => exchange.refused(Reason::LifetimeTooLong),
            _ => assert_eq!(exchange.granted()["exp"], NOW + 600),
        }
    }
}

#[test]
fn skew_loosens_where_the_minted_token_may_outlive_the_subject_token() {
    let outlive =
        |exchange: &mut Exchange| exchange.application.access_token.outlive_subject = true;
    let expiring = |exp: u64| Exchange::new().with(outlive).claim("exp", json!(exp));
    expiring(NOW).claim("iat", json!(NOW - 60)).claim("nbf", json!(NOW - 60)).granted();
    expiring(NOW - 29).claim("iat", json!(NOW - 60)).claim("nbf", json!(NOW - 60)).granted();
    expiring(NOW - 30).refused(Reason::Expired);
}

#[test]
fn times_of_the_wrong_type_are_wrong_and_exp_is_required() {
    Exchange::new().without_claim("exp").refused(Reason::ClaimsMalformed);
    for name in ["exp", "nbf", "iat"] {
        for bad in
            [json!(null), json!("1"), json!(format!("{NOW}")), json!(true), json!([NOW]), json!({})]
        {
            eprintln!("{name}: {bad}");
            Exchange::new().claim(name, bad).refused(Reason::ClaimsMalformed);
        }
    }
    Exchange::new().without_claim("iat").without_claim("nbf").granted();
    Exchange::new()
        .claim("iat", json!(NOW + 20))
        .claim("exp", json!(NOW + 20))
        .refused(Reason::Expired);
    Exchange::new()
        .claim("nbf", json!(NOW + 20))
        .claim("exp", json!(NOW + 10))
        .refused(Reason::Expired);
}

#[test]
fn age_and_lifetime_are_bounded_where_configured() {
    let max_age =
        |exchange: &mut Exchange| exchange.issuer.rules.max_age = Some(Duration::from_secs(100));
    let aged = |age: u64| Exchange::new().with(max_age).claim("iat", json!(NOW - age));
    aged(130).granted();
    aged(131).refused(Reason::TooOld);
    Exchange::new().with(max_age).without_claim("iat").refused(Reason::ClaimsMalformed);
    let max_lifetime = |exchange: &mut Exchange| {
        exchange.issuer.rules.max_lifetime = Some(Duration::from_secs(100));
    };
    let living =
        |seconds: u64| Exchange::new().with(max_lifetime).claim("exp", json!(NOW + seconds));
    living(130).granted();
    living(131).refused(Reason::LifetimeTooLong);
}

#[test]
fn the_subject_names_somebody() {
    for good in ["a", "a b", "ä", "repo:octo/repo:ref:refs/heads/main", &"x".repeat(255)] {
        assert_eq!(Exchange::new().claim("sub", json!(good)).granted()["sub"], good);
    }
    Exchange::new().without_claim("sub").refused(Reason::SubjectRefused);
    for bad in [
        json!(""),
        json!(" a"),
        json!("a "),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("\u{85}"),
        json!("x".repeat(256)),
        json!(null),
        json!(1),
        json!(["alice"]),
        json!({}),
    ] {
        Exchange::new().claim("sub", bad).refused(Reason::SubjectRefused);
    }
    Exchange::new().without_claim("jti").granted();
    for bad in [json!(1), json!(null), json!(["t"])] {
        Exchange::new().claim("jti", bad).refused(Reason::ClaimsMalformed);
    }
}

#[test]
fn a_token_that_breaks_two_rules_is_refused_for_the_first() {
    type Change = (Reason, fn(Exchange) -> Exchange);
    // In the order of the checks: the first that fails gives the reason.
    let changes: [Change; 10] = [
        (Reason::HeaderRefused, |exchange| exchange.member("crit", json!(["x"]))),
        (Reason::IssuerUnknown, |exchange| exchange.claim("iss", json!("x"))),
        (Reason::TypeRefused, |exchange| exchange.member("typ", json!("logout+jwt"))),
        (Reason::AlgorithmRefused, |exchange| exchange.member("alg", json!("HS256"))),
        (Reason::SignatureInvalid, |exchange| {
            exchange.with(|exchange| exchange.forge = stranger())
        }),
        (Reason::AudienceMismatch, |exchange| exchange.claim("aud", json!("x"))),
        (Reason::Expired, |exchange| exchange.claim("exp", json!(NOW - 60))),
        (Reason::NotYetValid, |exchange| exchange.claim("nbf", json!(NOW + 60))),
        (Reason::IssuedInFuture, |exchange| exchange.claim("iat", json!(NOW + 60))),
        (Reason::SubjectRefused, |exchange| exchange.claim("sub", json!(""))),
    ];
    for (at, (reason, first)) in changes.iter().enumerate() {
        for (_, second) in &changes[at..] {
            second(first(Exchange::new())).refused(*reason);
            first(second(Exchange::new())).refused(*reason);
        }
    }
}

#[test]
fn a_key_set_is_read_key_by_key() {
    let good = &forge(Algorithm::ES256).jwk;
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    let rsa = |name: &str, value: Value| {
        let mut jwk = forge(Algorithm::RS256).jwk.clone();
        jwk[name] = value;
        jwk
    };
    let encode = |octets: &[u8]| json!(URL_SAFE_NO_PAD.encode(octets));
    let decode = |text: &Value| URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap();
    // A point of P-384, cut where P-256 would have it cut.
    let p384 = &forge(Algorithm::ES384).jwk;
    let point = [decode(&p384["x"]), decode(&p384["y"])].concat();
    let mut of_another_curve = good.clone();
    (of_another_curve["x"], of_another_curve["y"]) = (encode(&point[..32]), encode(&point[32..]));
    let bad = [
        (json!(1), KeyRefused::NotAKey),
        (json!({}), KeyRefused::NotAKey),
        (json!({"kty": 1}), KeyRefused::WrongType),
        (with("kid", json!(5)), KeyRefused::WrongType),
        (with("kid", json!("k".repeat(257))), KeyRefused::KidTooLong),
        (with("use", json!("enc")), KeyRefused::OtherUse),
        (with("key_ops", json!(["sign"])), KeyRefused::OtherUse),
        (with("key_ops", json!("verify")), KeyRefused::WrongType),
        (with("alg", json!("ECDH-ES")), KeyRefused::OtherUse),
        (with("alg", json!("ES384")), KeyRefused::AlgorithmMismatch),
        (with("d", json!("AA")), KeyRefused::PrivateMaterial),
        (with("x", encode(&[1; 32])), KeyRefused::NotOnCurve),
        (with("x", encode(&[1; 31])), KeyRefused::NotOnCurve),
        (with("crv", json!("P-384")), KeyRefused::NotOnCurve),
        (of_another_curve, KeyRefused::NotOnCurve),
        (okp(&[0x55; 31]), KeyRefused::NotOnCurve),
        (okp(&[0x55; 33]), KeyRefused::NotOnCurve),
        (with("crv", json!("secp256k1")), KeyRefused::Unsupported),
        (json!({"kty": "oct", "k": "AAAA"}), KeyRefused::PrivateMaterial),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), KeyRefused::NotOnCurve),
        (json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}), KeyRefused::Unsupported),
        (rsa("e", encode(&[2])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[1])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[0, 1, 0, 1])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[4])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[1, 0, 0])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[1, 0, 0, 0, 1])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[1, 0, 0, 0, 0, 1])), KeyRefused::WeakRsa),
        (rsa("e", encode(&[1, 0, 0, 0, 0, 0, 0, 0, 3])), KeyRefused::WeakRsa),
        // One bit too few, however many octets.
        (rsa("n", encode(&[&[0x7F][..], &[0xFF; 255]].concat())), KeyRefused::WeakRsa),
        (rsa("n", encode(&[0xFF; 128])), KeyRefused::WeakRsa),
        (rsa("n", encode(&[&[0][..], &[0xFF; 256]].concat())), KeyRefused::WeakRsa),
        (rsa("n", encode(&[0xFF; 1025])), KeyRefused::WeakRsa),
        (rsa("n", json!("!")), KeyRefused::WrongType),
        (rsa("n", json!(ROCA)), KeyRefused::Roca),
        (okp(&identity()), KeyRefused::SmallOrder),
    ];
    let mut members: Vec<Value> = bad.iter().map(|(jwk, _)| jwk.clone()).collect();
    members.push(good.clone());
    let (set, skipped) =
        KeySet::from_jwks(json!({ "keys": members }).to_string().as_bytes()).unwrap();
    assert_eq!(set.len(), 1);
    for ((jwk, why), skipped) in bad.iter().zip(&skipped) {
        assert_eq!(skipped.why, *why, "{jwk}");
    }
    assert_eq!(skipped.len(), bad.len());
    Exchange::new().with(|exchange| exchange.keys = set).granted();
    for good in [
        with("use", json!("sig")),
        with("key_ops", json!(["verify"])),
        with("x5c", json!("str")),
        with("kid", json!("k".repeat(256))),
        rsa("e", encode(&[3])),
        rsa("e", encode(&[0xFF; 4])),
        rsa("n", encode(&[&[0x80][..], &[0xFF; 255]].concat())),
    ] {
        let (_, skipped) =
            KeySet::from_jwks(json!({"keys": [good]}).to_string().as_bytes()).unwrap();
        assert_eq!(skipped, []);
    }
}

/// A modulus of CVE-2017-15361, of Wycheproof's `jws_rsa_roca_key`.
const ROCA: &str = "AanFpofbj7KjD4Lf-N2hVMKR7yewSyXhhbirIMTGpfYEhZ_lnt5UoK98DnKIgArXGTu3MaW_HhFw16HGaTDUHqPrId7fe4r11CqRw09yBFuW79V8sYIwHdzCaWflUI6auImYbVfoN9_nD5n8N8SY9DwXw7mwZM9wREPXoDPgOoIWl6q_MPsp7n0zs3Z5ZaiQWOOzl1S9OhwAfSiiOwz6efnXEaxuTEtPd7BjSx7NaFka8Dx9U7YqXy2RFj1O9PjyaDGuRh7YXsX3iMUSP_wSyHQg_c_qHRtKUsNSGCT7OZg0hzm2KphtjnayKJvC64vAbROBR4Ubg6Bxg9IQVZ-QYyE";

/// The neutral element of Ed25519, which as a key verifies a signature that anybody can write.
fn identity() -> [u8; 32] {
    let mut point = [0; 32];
    point[0] = 1;
    point
}

fn okp(x: &[u8]) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "k-EdDSA", "x": URL_SAFE_NO_PAD.encode(x)})
}

#[test]
fn an_ed25519_key_of_small_order_verifies_nothing() {
    // R is the neutral element and S is zero: good for any text under the neutral element.
    let signature = URL_SAFE_NO_PAD.encode([&identity()[..], &[0; 32]].concat());
    let keys = [okp(&identity()), forge(Algorithm::EdDSA).jwk.clone()];
    let (keys, skipped) =
        KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    let good = Exchange::signed_by(Algorithm::EdDSA).with(|exchange| exchange.keys = keys);
    good.granted();
    let token = good.token();
    let (signed, _) = token.rsplit_once('.').unwrap();
    good.with(|exchange| exchange.token = Some(format!("{signed}.{signature}")))
        .refused(Reason::SignatureInvalid);
    assert_eq!(skipped.len(), 1);
    // The sign bit is free, and 0 and 1 can be written with the prime added.
    let p = |low: u8, sign: u8| {
        let mut point = [0xFF; 32];
        (point[0], point[31]) = (low, 0x7F | sign);
        point
    };
    let signed = |mut point: [u8; 32]| {
        point[31] |= 0x80;
        point
    };
    let of_order_8 =
        |text: &str| -> [u8; 32] { URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap() };
    let one = of_order_8("JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU");
    let other = of_order_8("xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o");
    for point in [
        identity(),
        signed(identity()),
        [0; 32],
        p(0xEC, 0),
        p(0xED, 0),
        p(0xEE, 0x80),
        one,
        signed(one),
        other,
        signed(other),
    ] {
        let document = json!({"keys": [okp(&point)]}).to_string();
        assert_eq!(
            KeySet::from_jwks(document.as_bytes()).unwrap_err(),
            KeySetError::NoUsableKey,
            "{point:?}"
        );
    }
}

#[test]
fn a_document_that_is_no_key_set_is_refused() {
    let key = &forge(Algorithm::ES256).jwk;
    let read = |document: String| KeySet::from_jwks(document.as_bytes()).map(|(set, _)| set.len());
    assert_eq!(read(json!({"keys": vec![key; MAX_KEYS]}).to_string()), Ok(MAX_KEYS));
    assert_eq!(
        read(json!({"keys": vec![key; MAX_KEYS + 1]}).to_string()),
        Err(KeySetError::TooManyKeys)
    );
    assert_eq!(read(json!({"keys": []}).to_string()), Err(KeySetError::NoUsableKey));
    assert_eq!(
        read(json!({"keys": [{"kty": "oct", "k": "AA"}]}).to_string()),
        Err(KeySetError::NoUsableKey)
    );
    for bad in ["", "<html>", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(read(bad.to_owned()), Err(KeySetError::Malformed), "{bad}");
    }
    assert_eq!(read(" ".repeat(MAX_DOCUMENT + 1)), Err(KeySetError::TooLarge));
    let mut largest = json!({ "keys": [key] }).to_string();
    largest.push_str(&" ".repeat(MAX_DOCUMENT - largest.len()));
    assert_eq!(read(largest), Ok(1));
    assert_eq!(KeySet::from_keys(Vec::new()).unwrap_err(), KeySetError::NoUsableKey);
}

/// The key that a token names is the one; one that was chosen without its name, if it verifies.
#[test]
fn whether_the_keys_at_hand_have_the_one_that_signed() {
    let without = |name: &str, jwk: &Value| {
        let mut jwk = jwk.clone();
        jwk.as_object_mut().unwrap().remove(name);
        jwk
    };
    let jwk = &forge(Algorithm::ES256).jwk;
    let unnamed = without("kid", jwk);
    let other_unnamed = without("kid", &stranger().jwk);
    let renamed = |jwk: &Value| {
        let mut jwk = jwk.clone();
        jwk["kid"] = json!("another");
        jwk
    };
    let named = Exchange::new;
    let nameless = || {
        let forget = |exchange: &mut Exchange| {
            exchange.header.as_object_mut().unwrap().remove("kid");
        };
        Exchange::new().with(forget)
    };
    let unknown = || Exchange::new().member("kid", json!("not-there"));
    for (exchange, keys, expected) in [
        (named(), vec![jwk.clone()], true),
        // What it is worth is for the signature to say.
        (named(), vec![stranger().jwk.clone()], true),
        (named(), vec![renamed(jwk)], false),
        (named(), vec![unnamed.clone()], true),
        (named(), vec![other_unnamed.clone()], false),
        (unknown(), vec![jwk.clone()], false),
        (unknown(), vec![unnamed.clone()], true),
        (nameless(), vec![unnamed], true),
        (nameless(), vec![other_unnamed.clone()], false),
        (nameless(), vec![jwk.clone()], true),
        (nameless(), vec![stranger().jwk.clone(), other_unnamed], false),
    ] {
        let keys = KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0;
        assert_eq!(exchange.pending().has_key_in(&keys), expected, "{} {keys:?}", exchange.header);
    }
}

#[test]
fn keys_are_chosen_by_kid_and_algorithm() {
    let set = |forges: &[&Forge]| KeySet::from_jwks(&jwks(forges)).unwrap().0;
    let no_kid = |exchange: &mut Exchange| {
        exchange.header.as_object_mut().unwrap().remove("kid").unwrap();
    };
    let (es, rs) = (forge(Algorithm::ES256), forge(Algorithm::RS256));
    let twin = Forge::new(Algorithm::ES256, "twin");
    // No kid in the token: a single key must fit.
    Exchange::new().with(no_kid).with(|exchange| exchange.keys = set(&[es, rs])).granted();
    Exchange::new()
        .with(no_kid)
        .with(|exchange| exchange.keys = set(&[es, &twin]))
        .refused(Reason::KeyUnknown);
    // One kid for keys of two kinds: the algorithm tells them apart.
    let decoy = Forge::new(Algorithm::RS256, "k-ES256");
    Exchange::new().with(|exchange| exchange.keys = set(&[&decoy, es])).granted();
    // One kid for two keys of one kind: both are tried.
    Exchange::new().with(|exchange| exchange.keys = set(&[stranger(), es])).granted();
    // Keys without kid are what is left for a kid that no key has.
    let mut anonymous = es.jwk.clone();
    anonymous.as_object_mut().unwrap().remove("kid").unwrap();
    let document = json!({"keys": [anonymous, twin.jwk]}).to_string();
    let keys = KeySet::from_jwks(document.as_bytes()).unwrap().0;
    Exchange::new()
        .member("kid", json!("whatever"))
        .with(|exchange| exchange.keys = keys)
        .granted();
}

#[test]
fn a_token_of_each_algorithm_is_exchanged_by_certificate() {
    for algorithm in Algorithm::ALL {
        let pem = certificate(algorithm, |_| {});
        let other = certificate(Algorithm::ES384, |_| {});
        let certificates = Certificate::parse_pem(format!("{other}{pem}").as_bytes()).unwrap();
        let keys = certificates.into_iter().map(|certificate| certificate.key).collect();
        let keys = KeySet::from_keys(keys).unwrap();
        let by_certificate = |exchange: &mut Exchange| exchange.keys = keys;
        Exchange::signed_by(algorithm).with(by_certificate).granted();
    }
    let pem = certificate(Algorithm::ES256, |_| {});
    let key = Certificate::parse_pem(pem.as_bytes()).unwrap().remove(0).key;
    let keys = KeySet::from_keys(vec![key]).unwrap();
    Exchange::new()
        .with(|exchange| (exchange.keys, exchange.forge) = (keys, stranger()))
        .refused(Reason::SignatureInvalid);
}

#[test]
fn no_certificate_is_left_untried() {
    let pem = certificate(Algorithm::ES256, |_| {});
    let mut crowd = pem.repeat(MAX_TRIED - 1);
    let own = Forge::new(Algorithm::ES256, "own");
    crowd.push_str(&certificate_of(&own, |_| {}));
    let read = |pem: &str| {
        let certificates = Certificate::parse_pem(pem.as_bytes()).unwrap();
        KeySet::from_keys(certificates.into_iter().map(|certificate| certificate.key).collect())
    };
    let keys = read(&crowd).unwrap();
    let exchange = Exchange::new().with(|exchange| exchange.keys = keys);
    let token = own.sign(&exchange.header, &exchange.claims);
    exchange.with(|exchange| exchange.token = Some(token)).granted();
    assert_eq!(read(&format!("{pem}{crowd}")).unwrap_err(), KeySetError::TooManyAlike);
    let other = certificate(Algorithm::ES384, |_| {});
    assert_eq!(read(&format!("{other}{crowd}")).unwrap().len(), MAX_TRIED + 1);
}

#[test]
fn a_file_that_is_no_certificate_is_refused() {
    use rcgen::KeyUsagePurpose::{DigitalSignature, KeyCertSign};
    let pem = |usages: Vec<rcgen::KeyUsagePurpose>| {
        certificate(Algorithm::ES256, |parameters| parameters.key_usages = usages)
    };
    let read =
        |pem: &str| Certificate::parse_pem(pem.as_bytes()).map(|certificates| certificates.len());
    let good = pem(vec![DigitalSignature]);
    assert_eq!(read(&good), Ok(1));
    assert_eq!(read(&format!("{good}\n# a comment\n{good}")), Ok(2));
    assert_eq!(read(&pem(vec![KeyCertSign])), Err(CertificateError::KeyUsage));
    assert_eq!(read(""), Err(CertificateError::None));
    let key = cambio::jwt::sign::generate_pem(Algorithm::ES256).unwrap();
    assert_eq!(read(&key), Err(CertificateError::PrivateKey));
    assert_eq!(read(&format!("{good}{}", *key)), Err(CertificateError::PrivateKey));
    assert_eq!(read(&key.replace("PRIVATE", "PUBLIC")), Err(CertificateError::OtherBlock));
    assert_eq!(read(&good.replacen('M', "N", 1)), Err(CertificateError::Malformed));
    assert_eq!(
        read("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        Err(CertificateError::NotPem)
    );
    for label in ["ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "DSA PRIVATE KEY"] {
        let block = key.replace("PRIVATE KEY", label);
        assert_eq!(read(&format!("{good}{block}")), Err(CertificateError::PrivateKey), "{label}");
    }
    let trusted = good.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    assert_eq!(read(&format!("{good}{trusted}")), Err(CertificateError::OtherBlock));
    let windows = format!("subject=/CN=partner\r\n{}", good.replace('\n', "\r\n"));
    assert_eq!(read(&windows), Ok(1));
    // RFC 7468 §3: a block that only some readers see is not left to them.
    assert_eq!(read(&format!("{good}{good}")), Ok(2));
    for unseen in [format!("{good}  {good}"), format!("  {good}{good}"), format!("\t{good}")] {
        assert_eq!(read(&unseen), Err(CertificateError::NotPem), "{unseen}");
    }
    let read = Certificate::parse_pem(good.as_bytes()).unwrap().remove(0);
    assert!(read.not_before < read.not_after);
}

#[test]
fn a_certificates_key_is_what_its_algorithm_says() {
    let pem = certificate(Algorithm::ES256, |_| {});
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).unwrap();
    let read = |der: &[u8]| {
        let body = STANDARD.encode(der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Certificate::parse_pem(pem.as_bytes()).map(|certificates| certificates.len())
    };
    let changed = |from: &[u8], to: &[u8]| {
        let at = der.windows(from.len()).position(|window| window == from).unwrap();
        [&der[..at], to, &der[at + from.len()..]].concat()
    };
    assert_eq!(read(&der), Ok(1));
    // RFC 5480 §2.1.1.1: 1.2.840.10045.3.1.7 is P-256, 1.2.840.10045.3.1.1 is P-192.
    let p256 = [6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
    let p192 = [6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 1];
    let unsupported = Err(CertificateError::Key(KeyRefused::Unsupported));
    assert_eq!(read(&changed(&p256, &p192)), unsupported);
    // A point is whole octets, and not compressed.
    let broken = read(&changed(&[3, 0x42, 0, 4], &[3, 0x42, 1, 4])).unwrap_err();
    // The parser sees it where the bit that is cut off is set.
    let whole = CertificateError::Key(KeyRefused::NotAKey);
    assert!([whole, CertificateError::Malformed].contains(&broken), "{broken}");
    let compressed = Err(CertificateError::Key(KeyRefused::NotOnCurve));
    assert_eq!(read(&changed(&[3, 0x42, 0, 4], &[3, 0x42, 0, 2])), compressed);
}

/// A self-signed certificate over the partner's key.
pub fn certificate(
    algorithm: Algorithm,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> String {
    certificate_of(forge(algorithm), change)
}

fn certificate_of(forge: &Forge, change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
    let scheme = match forge.algorithm {
        Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Algorithm::EdDSA => &rcgen::PKCS_ED25519,
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => &rcgen::PKCS_RSA_SHA256,
    };
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(forge.pkcs8.clone());
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, scheme).unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["partner.example".to_owned()]).unwrap();
    change(&mut parameters);
    parameters.self_signed(&pair).unwrap().pem()
}

#[test]
fn an_application_without_the_grant_gets_nothing() {
    Exchange::new()
        .with(|exchange| exchange.application.grant_types = vec!["client_credentials".to_owned()])
        .refused(Reason::GrantNotAllowed);
    assert!(portal().allows("urn:ietf:params:oauth:grant-type:token-exchange"));
}
