//! Every registered claim and header member in every wrong shape, each refused for the exact reason,
//! beside twins that are accepted: by every algorithm, and from every source of keys.

use std::collections::BTreeMap;

use cambio::exchange::error::Reason;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::certificate::Certificate;
use cambio::jwt::key_set::KeySet;
use serde_json::{Value, json};

use crate::shapes::Shape::{Beyond, Broken, Listed, Missing, Nameless, Past, Word, Words};
use crate::shapes::{Shape, shapes};
use crate::subject_token::certificate;
use crate::support::{Exchange, forge, mapping};

type End = Result<(), Reason>;
const GRANTED: End = Ok(());
const HEADER: End = Err(Reason::HeaderRefused);
const TYPE: End = Err(Reason::TypeRefused);
const ALGORITHM: End = Err(Reason::AlgorithmRefused);
const KEY: End = Err(Reason::KeyUnknown);
const CLAIMS: End = Err(Reason::ClaimsMalformed);
const SUBJECT: End = Err(Reason::SubjectRefused);
const ISSUER: End = Err(Reason::IssuerUnknown);
const AUDIENCE: End = Err(Reason::AudienceMismatch);

/// What becomes of a token with one member in one shape: the first line that fits decides, the last
/// one is for all other shapes. What is broken is refused whatever it stands for (RFC 7515 §4, RFC
/// 7519 §4, RFC 8725 §3.2).
type Rules = &'static [(&'static str, &'static [(Shape, End)], End)];

/// RFC 7519 §4.1, RFC 7800 §3.1.
const OF_CLAIMS: Rules = &[
    ("iss", &[(Missing, ISSUER), (Word, ISSUER), (Nameless, ISSUER)], CLAIMS),
    ("sub", &[(Word, GRANTED)], SUBJECT),
    (
        "aud",
        &[
            (Missing, AUDIENCE),
            (Word, AUDIENCE),
            (Nameless, AUDIENCE),
            (Words, AUDIENCE),
            (Listed, GRANTED),
        ],
        CLAIMS,
    ),
    ("exp", &[(Past, Err(Reason::Expired)), (Beyond, Err(Reason::LifetimeTooLong))], CLAIMS),
    ("nbf", &[(Missing, GRANTED), (Past, GRANTED), (Beyond, Err(Reason::NotYetValid))], CLAIMS),
    ("iat", &[(Missing, GRANTED), (Past, GRANTED), (Beyond, Err(Reason::IssuedInFuture))], CLAIMS),
    ("jti", &[(Missing, GRANTED), (Word, GRANTED), (Nameless, GRANTED)], CLAIMS),
    ("cnf", &[(Missing, GRANTED)], TYPE),
    // Nothing is asked of what is not known, but that it is JSON.
    ("act", &[], GRANTED),
    ("scope", &[], GRANTED),
    ("https://example.com/role", &[], GRANTED),
];

/// RFC 7515 §4.1, RFC 7516 §4.1, RFC 7797 §3.
const OF_HEADERS: Rules = &[
    ("alg", &[(Word, ALGORITHM), (Nameless, ALGORITHM)], HEADER),
    ("typ", &[(Missing, GRANTED), (Word, TYPE), (Nameless, TYPE)], HEADER),
    ("cty", &[(Missing, GRANTED), (Word, GRANTED), (Nameless, GRANTED)], HEADER),
    ("crit", &[(Missing, GRANTED)], HEADER),
    ("b64", &[(Missing, GRANTED)], HEADER),
    ("enc", &[(Missing, GRANTED)], HEADER),
    ("zip", &[(Missing, GRANTED)], HEADER),
    // Keys from a token are never used, whatever they are.
    ("jwk", &[], GRANTED),
    ("jku", &[], GRANTED),
    ("x5u", &[], GRANTED),
    ("x5c", &[], GRANTED),
    ("x5t", &[], GRANTED),
    ("x5t#S256", &[], GRANTED),
    ("https://example.com/extension", &[], GRANTED),
];

/// `kid` (RFC 7515 §4.1.4) names one of the keys, where they have names.
const KID_OF_JWKS: Rules = &[("kid", &[(Missing, GRANTED), (Word, KEY), (Nameless, KEY)], HEADER)];
const KID_OF_CERTIFICATES: Rules =
    &[("kid", &[(Missing, GRANTED), (Word, GRANTED), (Nameless, GRANTED)], HEADER)];

/// The members of a JSON object as they are written: names and values.
#[derive(Clone)]
struct Members(Vec<(String, String)>);

impl Members {
    fn of(object: &Value) -> Self {
        let members = object.as_object().unwrap().iter();
        Self(members.map(|(name, value)| (format!("{name:?}"), value.to_string())).collect())
    }

    fn get(&self, name: &str) -> String {
        let own = self.0.iter().find(|(own, _)| *own == format!("{name:?}"));
        own.map_or_else(|| r#""good""#.to_owned(), |(_, value)| value.clone())
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(own, _)| *own != format!("{name:?}"));
        self
    }

    fn and(mut self, written: &str, value: &str) -> Self {
        self.0.push((written.to_owned(), value.to_owned()));
        self
    }

    fn text(&self) -> String {
        let members: Vec<_> =
            self.0.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A name with its first letter as an escape, which is the same name (RFC 8259 §7).
fn escaped(name: &str) -> String {
    format!("\"\\u{:04x}{}\"", name.as_bytes()[0], &name[1..])
}

/// What was asked, by what it came to.
#[derive(Default)]
struct Tally {
    granted: usize,
    refused: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn judge(&mut self, exchange: &Exchange, (header, claims): (&str, &str), expected: End) {
        let token = exchange.forge.sign_text(header, claims);
        let judged = Exchange { token: Some(token), ..exchange.clone() };
        let actual = judged.run().map(|_| ());
        assert_eq!(actual, expected, "{header}\n{claims}");
        match expected {
            Ok(()) => self.granted += 1,
            Err(reason) => *self.refused.entry(reason.as_str()).or_default() += 1,
        }
    }

    fn total(&self) -> usize {
        self.granted + self.refused.values().sum::<usize>()
    }

    /// Every shape of every member that has rules, of one of the two objects.
    fn matrix(&mut self, exchange: &Exchange, rules: Rules, is_header: bool) {
        let (header, claims) = (Members::of(&exchange.header), Members::of(&exchange.claims));
        let whole = if is_header { &header } else { &claims };
        let mut judge = |changed: &Members, expected| {
            let (header, claims) = if is_header { (changed, &claims) } else { (&header, changed) };
            self.judge(exchange, (&header.text(), &claims.text()), expected);
        };
        for (name, lines, rest) in rules {
            let (good, written) = (whole.get(name), format!("{name:?}"));
            let others = whole.clone().without(name);
            for (shape, value) in shapes() {
                let value = value.replace("GOOD", &good);
                let line = lines.iter().find(|(own, _)| *own == shape);
                let expected = if shape == Broken {
                    Err(Reason::TokenMalformed)
                } else {
                    line.map_or(*rest, |(_, end)| *end)
                };
                if shape == Missing {
                    judge(&others, expected);
                    continue;
                }
                // In either spelling of its name it is what it is.
                judge(&others.clone().and(&written, &value), expected);
                judge(&others.clone().and(&escaped(name), &value), expected);
            }
            // Twice, in either spelling and with either value, is once too often.
            for (first, second) in [(&good, "null"), (&good, &good), (&"null".to_owned(), &good)] {
                for again in [&written, &escaped(name)] {
                    let twice = others.clone().and(&written, first).and(again, second);
                    judge(&twice, Err(Reason::TokenMalformed));
                }
            }
            // The twin of them all.
            if whole.0.iter().any(|(own, _)| *own == written) {
                judge(&others.clone().and(&escaped(name), &good), GRANTED);
                judge(&others.and(&written, &good), GRANTED);
            }
        }
    }
}

fn by_certificate(algorithm: Algorithm) -> KeySet {
    let pem = certificate(algorithm, |_| {});
    let read = Certificate::parse_pem(pem.as_bytes()).unwrap();
    KeySet::from_keys(read.into_iter().map(|one| one.key).collect()).unwrap()
}

fn by_jwk(algorithm: Algorithm, change: impl FnOnce(&mut Value)) -> KeySet {
    let mut jwk = forge(algorithm).jwk.clone();
    change(&mut jwk);
    KeySet::from_jwks(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap().0
}

#[test]
fn every_member_in_every_shape_ends_as_its_rule_says() {
    let mut tally = Tally::default();
    let jwks = Exchange::signed_by(Algorithm::ES256);
    tally.matrix(&jwks, OF_CLAIMS, false);
    tally.matrix(&jwks, OF_HEADERS, true);
    tally.matrix(&jwks, KID_OF_JWKS, true);
    let certificates = Exchange::signed_by(Algorithm::EdDSA)
        .with(|exchange| exchange.keys = by_certificate(Algorithm::EdDSA));
    tally.matrix(&certificates, OF_CLAIMS, false);
    tally.matrix(&certificates, OF_HEADERS, true);
    tally.matrix(&certificates, KID_OF_CERTIFICATES, true);
    crate::vectors::tell(&format!(
        "{} tokens: {} granted, refused: {:?}",
        tally.total(),
        tally.granted,
        tally.refused
    ));
    assert!(tally.total() >= 2000 && tally.granted >= 500, "the matrix has shrunk");
}

/// Rules that are asked for by the configuration alone: what they require is missed where it lacks.
#[test]
fn what_is_required_by_the_configuration_is_missed() {
    let mut tally = Tally::default();
    const AGED: Rules = &[("iat", &[(Past, Err(Reason::TooOld)), (Beyond, FUTURE)], CLAIMS)];
    const FUTURE: End = Err(Reason::IssuedInFuture);
    const ONCE: Rules = &[(
        "jti",
        &[(Missing, Err(Reason::JtiMissing)), (Word, GRANTED), (Nameless, GRANTED)],
        CLAIMS,
    )];
    let aged = Exchange::new()
        .with(|exchange| exchange.issuer.rules.max_age = Some(std::time::Duration::from_secs(60)));
    tally.matrix(&aged, AGED, false);
    tally.matrix(&Exchange::new().with(|exchange| exchange.issuer.once = true), ONCE, false);
    crate::vectors::tell(&format!(
        "{} tokens: {} granted, refused: {:?}",
        tally.total(),
        tally.granted,
        tally.refused
    ));
}

/// The twin of every refusal here: nothing is wrong, whatever signs and wherever the keys are from.
#[test]
fn the_unmutated_token_is_granted_by_every_algorithm_and_source_of_keys() {
    let remove = |name: &'static str| {
        move |jwk: &mut Value| drop(jwk.as_object_mut().unwrap().remove(name).unwrap())
    };
    let mut granted = 0;
    for algorithm in Algorithm::ALL {
        let sources = [
            by_jwk(algorithm, |_| {}),
            by_jwk(algorithm, remove("kid")),
            by_jwk(algorithm, remove("alg")),
            by_jwk(algorithm, |jwk| jwk["use"] = json!("sig")),
            by_jwk(algorithm, |jwk| jwk["key_ops"] = json!(["verify"])),
            by_certificate(algorithm),
            Exchange::signed_by(algorithm).keys,
        ];
        for keys in sources {
            for kid in [Some(forge(algorithm).kid()), None] {
                let exchange = Exchange::signed_by(algorithm).with(|exchange| {
                    exchange.keys = keys.clone();
                    if kid.is_none() {
                        exchange.header.as_object_mut().unwrap().remove("kid");
                    }
                });
                assert_eq!(exchange.granted()["sub"], "alice", "{algorithm} {kid:?}");
                granted += 1;
            }
        }
    }
    crate::vectors::tell(&format!("{granted} twins granted"));
}

/// A claim that is mapped is copied as it stands, and reaches no claim of ours (RFC 9068 §2.2).
#[test]
fn a_mapped_claim_is_copied_in_every_shape() {
    let mut copied = 0;
    for (shape, value) in shapes() {
        let value = value.replace("GOOD", r#""good""#);
        if matches!(shape, Missing | Broken) {
            continue;
        }
        let exchange = Exchange::new().with(|exchange| {
            exchange.issuer.claims = vec![mapping("copy", "original")];
        });
        let claims = Members::of(&exchange.claims).and(r#""original""#, &value);
        let token = exchange.forge.sign_text(&exchange.header.to_string(), &claims.text());
        let minted = exchange.with(|exchange| exchange.token = Some(token)).granted();
        let original: Value = serde_json::from_str(&value).unwrap();
        assert_eq!(minted["copy"], original, "{value}");
        let ours = ["iss", "sub", "aud", "client_id", "iat", "exp", "jti", "copy"];
        assert!(minted.as_object().unwrap().keys().all(|name| ours.contains(&name.as_str())));
        copied += 1;
    }
    assert!(copied > 40, "{copied}");
}
