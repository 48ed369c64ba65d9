//! Whose a request to a token path is: an exchange in any spelling is never the upstream's.

use cambio::exchange;
use cambio::exchange::policy::UnknownIssuers;
use cambio::exchange::request::{Recognised, TokenPathRequest};
use cambio::oauth::form::FormError;
use serde_json::json;

use crate::support::{EXCHANGE, Exchange, JWT, PARTNER, forge, stranger};

pub const FORM: &[u8] = b"application/x-www-form-urlencoded";

fn body() -> String {
    format!("grant_type={EXCHANGE}&subject_token=x&subject_token_type={JWT}")
}

/// A proper exchange, of which a test changes one thing.
pub fn request(body: &[u8]) -> TokenPathRequest<'_> {
    TokenPathRequest {
        method: "POST",
        query: None,
        content_types: &[FORM],
        is_encoded: false,
        body,
    }
}

#[track_caller]
fn is_exchange(request: TokenPathRequest<'_>) {
    assert!(matches!(request.recognise(), Ok(Recognised::Exchange(_))));
}

#[track_caller]
pub fn is_other(request: TokenPathRequest<'_>) {
    assert!(matches!(request.recognise(), Ok(Recognised::Other)));
}

#[track_caller]
pub fn is_refused(request: TokenPathRequest<'_>, error: FormError) {
    assert_eq!(request.recognise().unwrap_err(), error);
}

#[test]
fn a_proper_exchange_is_ours() {
    let body = body();
    is_exchange(request(body.as_bytes()));
    let charset = &b"application/x-www-form-urlencoded; charset=UTF-8"[..];
    is_exchange(TokenPathRequest { content_types: &[charset], ..request(body.as_bytes()) });
    is_exchange(TokenPathRequest { query: Some(b"tenant=1"), ..request(body.as_bytes()) });
    is_exchange(request(body.replace("grant_type", "grant%5Ftype").as_bytes()));
    is_exchange(request(format!("&{body}&").as_bytes()));
    is_exchange(request(format!("grant_type={EXCHANGE}").as_bytes()));
}

#[test]
fn whatever_else_is_the_upstreams() {
    for body in [
        "",
        "grant_type=client_credentials&scope=a",
        "grant_type=client_credentials&grant_type=client_credentials",
        "grant_type=password&username=a&password=%zz;%00",
        "grant_type=authorization_code&code=x",
        "grant_type=refresh_token&refresh_token=x",
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=x",
        "\u{feff}ä",
    ] {
        is_other(request(body.as_bytes()));
    }
    let json: &[u8] = br#"{"grant_type":"client_credentials"}"#;
    is_other(TokenPathRequest { content_types: &[b"application/json"], ..request(json) });
    is_other(TokenPathRequest { content_types: &[], ..request(b"grant_type=client_credentials") });
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        is_other(TokenPathRequest { method, query: Some(b"a=b"), ..request(b"") });
    }
    is_other(TokenPathRequest { method: "PUT", ..request(b"anything") });
}

pub fn typed<'a>(content_types: &'a [&'a [u8]], body: &'a [u8]) -> TokenPathRequest<'a> {
    TokenPathRequest { content_types, ..request(body) }
}

#[test]
fn an_exchange_in_disguise_is_refused() {
    let body = body();
    let bytes = body.as_bytes();
    let utf16: Vec<u8> = body.bytes().flat_map(|b| [0, b]).collect();
    let json = json!({"grant_type": EXCHANGE, "subject_token": "x"}).to_string();
    let multipart = format!(
        "--b\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\n{EXCHANGE}\r\n--b--"
    );
    is_refused(
        request(format!("{body}&grant_type=client_credentials").as_bytes()),
        FormError::Repeated,
    );
    is_refused(
        request(format!("grant_type=client_credentials&{body}").as_bytes()),
        FormError::Repeated,
    );
    for malformed in [
        body.replace("grant_type=", "grant_type[]="),
        body.replace("grant_type=", "\u{feff}grant_type="),
        body.replace("grant_type=", "+grant_type="),
        body.replace("grant_type", "Grant_Type"),
        body.replace('&', ";"),
        format!("{body}&x=%zz"),
        format!("{body}&x=%00"),
        body.to_uppercase(),
        body.replace("grant_type=urn", "grant_type=%2575rn"),
        format!("{body}%20").replace("grant_type=", "grant_type=%20"),
        "grant_type=client_credentials&subject_token=x".to_owned(),
        "grant_type=client_credentials&x=subject_token".to_owned(),
    ] {
        is_refused(request(malformed.as_bytes()), FormError::Malformed);
    }
    is_refused(request(&utf16), FormError::Malformed);
    let content_types: [&[&[u8]]; 8] = [
        &[],
        &[b"application/json"],
        &[b"text/plain"],
        &[b"multipart/form-data; boundary=b"],
        &[b"application/x-www-form-urlencoded; charset=utf-16"],
        &[b"\xff"],
        &[FORM, FORM],
        &[FORM, b"application/json"],
    ];
    for content_types in content_types {
        for body in [bytes, json.as_bytes(), multipart.as_bytes(), &utf16] {
            is_refused(typed(content_types, body), FormError::ContentType);
        }
    }
    // Nobody can tell what it says.
    is_refused(typed(&[b"text/plain; charset=ibm037"], b"\x87\x99"), FormError::ContentType);
    is_refused(
        TokenPathRequest { is_encoded: true, ..request(b"\x1f\x8b") },
        FormError::ContentCoding,
    );
    is_other(TokenPathRequest { is_encoded: true, ..request(b"") });
}

#[test]
fn what_cannot_be_read_is_refused_whatever_the_method() {
    // An upstream that takes another method for POST (`X-HTTP-Method-Override`) would read it.
    let ibm037: &[&[u8]] = &[b"application/x-www-form-urlencoded; charset=ibm037"];
    for method in ["PUT", "PATCH", "DELETE", "post"] {
        let put = TokenPathRequest { method, ..request(b"\x87\x99") };
        is_other(put);
        is_refused(TokenPathRequest { is_encoded: true, ..put }, FormError::NotPost);
        is_refused(TokenPathRequest { content_types: ibm037, ..put }, FormError::NotPost);
    }
    // Some read the query in the charset of the body.
    let get = TokenPathRequest { method: "GET", query: Some(b"%87%99=%87"), ..request(b"") };
    is_other(get);
    is_refused(TokenPathRequest { content_types: ibm037, ..get }, FormError::NotPost);
    is_other(TokenPathRequest { content_types: ibm037, query: None, ..get });
    let post = TokenPathRequest { method: "POST", ..get };
    is_refused(TokenPathRequest { content_types: ibm037, ..post }, FormError::ContentType);
    // Here a text can be cut into pieces that only its own parser puts together again.
    let xml = b"<grant_type>urn:ietf:<!-- -->params:\xE2</grant_type>";
    is_refused(typed(&[b"application/xml"], xml), FormError::ContentType);
    let multipart: &[&[u8]] = &[b"multipart/form-data; boundary=b"];
    let part = |charset: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=a\r\n\
             Content-Type: text/plain; charset={charset}\r\n\r\nx\r\n--b--"
        )
    };
    is_other(typed(multipart, part("UTF-8").as_bytes()));
    is_refused(typed(multipart, part("IBM037").as_bytes()), FormError::ContentType);
}

#[test]
fn the_query_is_never_read() {
    let body = body();
    let asked = |query| TokenPathRequest {
        query: Some(query),
        ..request(b"grant_type=client_credentials")
    };
    is_refused(asked(body.as_bytes()), FormError::InQuery);
    is_refused(asked(b"subject%255Ftoken=x"), FormError::InQuery);
    is_refused(
        TokenPathRequest { query: Some(b"subject_token=x"), ..request(body.as_bytes()) },
        FormError::InQuery,
    );
    // RFC 6749 §2.3.1, §3.2: nor may credentials stand there, nor another grant beside ours.
    for query in [
        "grant_type=client_credentials",
        "a=b&grant%5Ftype=x",
        "client_id=portal",
        "client_secret=x",
        "client_assertion",
    ] {
        let exchange =
            TokenPathRequest { query: Some(query.as_bytes()), ..request(body.as_bytes()) };
        is_refused(exchange, FormError::InQuery);
        is_other(asked(query.as_bytes()));
    }
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "post", "QUERY"] {
        let query = Some(body.as_bytes());
        is_refused(TokenPathRequest { method, query, ..request(b"") }, FormError::NotPost);
        is_refused(TokenPathRequest { method, ..request(body.as_bytes()) }, FormError::NotPost);
    }
    is_refused(TokenPathRequest { method: "GET", ..request(b"a=b") }, FormError::NotPost);
}

#[test]
fn an_exchange_of_an_unknown_issuer_goes_upstream_only_where_configured() {
    let forwarded =
        |exchange: &Exchange| exchange::is_forwarded(&exchange.form(), &exchange.policy());
    let forward = |exchange: &mut Exchange| exchange.unknown_issuers = UnknownIssuers::Forward;
    let unknown = || Exchange::new().claim("iss", json!("https://somebody-else.example"));
    let opaque = || Exchange::new().parameter("subject_token", "opaque-token");
    for exchange in [unknown(), opaque()] {
        assert!(!forwarded(&exchange));
        assert!(forwarded(&exchange.with(forward)));
    }
    assert!(forwarded(&Exchange::new().without_claim("iss").with(forward)));
    // Neither is an opaque token that happens to have three parts.
    for three_parts in ["MTk4NjIy.Cl2FMQ.ZnCjm1", "ayA.bzA.c0A", "eaA.ebA.ecA", "eyA.eaA.ayA"] {
        let three_parts = Exchange::new().parameter("subject_token", three_parts);
        assert!(forwarded(&three_parts.with(forward)));
    }
    // What names a trusted issuer is ours, however bad it is.
    let good = Exchange::new().token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for spelling in [
        format!("{good}="),
        format!("{signed}.{}", signature.replace('_', "/").replace('-', "+")) + "==",
        format!(" \"{good}\""),
        format!("Bearer {good}"),
        format!("{signed}."),
        good.replacen('.', "=.", 1),
        good.replacen('.', "\n.", 1),
        good.replacen('.', " .", 1),
        format!("{good}{}", "A".repeat(20_000)),
        json!({"payload": signed, "signature": signature}).to_string(),
    ] {
        let exchange = Exchange::new().parameter("subject_token", &spelling);
        assert!(!forwarded(&exchange.with(forward)), "{spelling}");
    }
    for exchange in [
        Exchange::new(),
        Exchange::new().with(|exchange| exchange.issuer.enabled = false),
        Exchange::new().with(|exchange| exchange.forge = stranger()),
        Exchange::new().member("crit", json!([])),
        Exchange::new().claim("iss", json!([PARTNER])),
        Exchange::new().with(|exchange| {
            let header = exchange.header.to_string();
            let twice = format!(r#"{{"iss":"{PARTNER}","iss":"x"}}"#);
            exchange.token =
                Some(forge(cambio::jwt::algorithm::Algorithm::ES256).sign_text(&header, &twice));
        }),
    ] {
        assert!(!forwarded(&exchange.with(forward)));
    }
}
