//! A compact JWS is taken if, and only if, it is the one spelling of its three parts; and no token
//! is signed but the two that are.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::compact::{Compact, CompactError, MAX_HEADER, MAX_TOKEN};
use cambio::jwt::key_set::KeySet;
use cambio::jwt::unverified::{UnverifiedError, UnverifiedJws, UnverifiedToken};
use serde_json::Value;

/// RFC 7515 appendix A.2 and A.3: keys and tokens whose private halves everybody knows.
const JWKS: &[u8] = include_bytes!("../rfc7515-jwks.json");
const SIGNED: [&[u8]; 2] = [
    include_bytes!("../corpus/compact/rfc7515-a2"),
    include_bytes!("../corpus/compact/rfc7515-a3"),
];

pub fn check(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let compact = Compact::parse(text);
    match &compact {
        Ok(compact) => {
            assert!(text.len() <= MAX_TOKEN && compact.header().len() <= MAX_HEADER);
            assert!(!compact.header().is_empty());
            let encode = |octets| URL_SAFE_NO_PAD.encode(octets);
            let input = format!("{}.{}", encode(compact.header()), encode(compact.payload()));
            assert_eq!(compact.signing_input(), input);
            let signature = URL_SAFE_NO_PAD.decode(compact.signature()).expect("it was held to be");
            assert!(!signature.is_empty());
            assert_eq!(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)), text);
        }
        Err(CompactError::TooLarge) => {
            let header = text.split('.').next().unwrap_or_default();
            assert!(text.len() > MAX_TOKEN || header.len() * 3 / 4 > MAX_HEADER);
        }
        Err(CompactError::Malformed) => assert!(!is_canonical(text)),
    }
    unverified(text, compact)
}

/// RFC 7515 §2 and §7.1, letter by letter.
fn is_canonical(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let [header, _, signature] = parts.as_slice() else { return false };
    let is_base64url = |part: &&str| {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let digit = |byte| ALPHABET.iter().position(|own| *own == byte);
        let last = part.bytes().last().map_or(Some(0), digit);
        // The bits of the last letter that are no part of an octet are zero.
        let unused = [0, 0, 0b1111, 0b11][part.len() % 4];
        part.len() % 4 != 1
            && part.bytes().all(|byte| digit(byte).is_some())
            && last.is_some_and(|last| last & unused == 0)
    };
    parts.iter().all(is_base64url) && !header.is_empty() && !signature.is_empty()
}

fn unverified(text: &str, compact: Result<Compact, CompactError>) -> bool {
    let jws = UnverifiedJws::parse(text);
    let compact = match compact {
        Ok(compact) => compact,
        Err(why) => {
            assert_eq!(jws.err(), Some(UnverifiedError::from(why)));
            return false;
        }
    };
    let header: Option<Value> = serde_json::from_slice(compact.header()).ok();
    let payload: Option<Value> = serde_json::from_slice(compact.payload()).ok();
    let Ok(jws) = jws else {
        assert!(UnverifiedToken::parse(text).is_err());
        return false;
    };
    let header = header.expect("the header was taken for JSON");
    // RFC 7515 §4.1: what is a name or an algorithm is a string, and nothing is critical.
    assert!(header["alg"].is_string() && header.get("crit").is_none());
    for name in ["kid", "typ", "cty"] {
        assert!(header.get(name).is_none_or(Value::is_string), "{name}");
    }
    if let Ok(token) = UnverifiedToken::parse(text) {
        let claims = payload.expect("the payload was taken for JSON");
        assert!(claims.is_object());
        let issuer = claims.get("iss");
        match token.unverified_issuer() {
            Ok(named) => assert_eq!(named.map(Value::from).as_ref(), issuer),
            Err(why) => {
                assert_eq!(why, UnverifiedError::Issuer);
                assert!(issuer.is_some_and(|issuer| !issuer.is_string()));
            }
        }
    }
    let keys = KeySet::from_jwks(JWKS).expect("the keys of the RFC").0;
    for algorithm in Algorithm::ALL {
        let is_signed = SIGNED.contains(&text.as_bytes());
        let is_own = header["alg"] == algorithm.as_str();
        assert_eq!(jws.verify(algorithm, &keys).is_ok(), is_signed && is_own, "{algorithm}");
    }
    true
}
