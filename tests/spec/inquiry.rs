//! Introspection and revocation as pure decisions: which requests concern us, what an upstream's
//! answer says, and whom it vouches for.

use cambio::exchange::client::Authentication;
use cambio::exchange::credentials::{Credentials, basic_with_secret};
use cambio::exchange::inquiry::{Caller, InquiryRequest, Purpose, Said};
use cambio::exchange::issued::Suspected;
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::key_set::KeySet;
use cambio::oauth::form::Form;
use proptest::prelude::*;

use crate::support::{Exchange, forge, jwks};

const FORM: &[&[u8]] = &[b"application/x-www-form-urlencoded"];
const TOKEN: &str = "token=cambio_at_x";

fn request(body: &str) -> InquiryRequest<'_> {
    InquiryRequest {
        method: "POST",
        query: None,
        is_overridden: false,
        content_types: FORM,
        is_encoded: false,
        body: body.as_bytes(),
    }
}

fn concerns_us(request: &InquiryRequest<'_>) -> bool {
    let keys = KeySet::from_jwks(&jwks(&[forge(Algorithm::ES256)])).unwrap().0;
    let policy = Exchange::new().policy();
    let inquiry = request.recognise(&keys, &policy);
    inquiry.is_some_and(|inquiry| matches!(inquiry.suspected, Suspected::Opaque(None)))
}

#[test]
fn only_what_can_be_read_in_one_way_concerns_us() {
    let good = || request(TOKEN);
    let utf8: &[&[u8]] = &[b"Application/X-WWW-form-urlencoded; charset=\"UTF-8\""];
    let yes = [
        good(),
        InquiryRequest { query: Some(b""), ..good() },
        InquiryRequest { query: Some(b"tenant=a%20b&token_type_hint=x"), ..good() },
        InquiryRequest { content_types: utf8, ..good() },
        request("token=%63ambio_at_x"),
        request("&token=+cambio_at_x%0A&&client_id=a&client_secret=b&token_type_hint=t&x.y=z"),
        // Empty is omitted, but for names that stand twice.
        request("token=cambio_at_x&_method="),
        request("token=cambio_at_x&access_token="),
        request("token=cambio_at_x&my_access_token=x&token_type_hint=access_token"),
    ];
    for request in yes {
        let body = String::from_utf8_lossy(request.body);
        assert!(concerns_us(&request), "{body} {:?}", request.query);
    }
    let no = [
        InquiryRequest { method: "GET", ..good() },
        InquiryRequest { method: "post", ..good() },
        InquiryRequest { is_overridden: true, ..good() },
        InquiryRequest { is_encoded: true, ..good() },
        InquiryRequest { content_types: &[], ..good() },
        InquiryRequest { content_types: &[FORM[0], FORM[0]], ..good() },
        InquiryRequest { content_types: &[b"application/json"], ..good() },
        InquiryRequest { query: Some(b"token="), ..good() },
        InquiryRequest { query: Some(b"a=%"), ..good() },
        InquiryRequest { query: Some(b"a=1&a=2"), ..good() },
        InquiryRequest { query: Some(b"CLIENT.ID=x"), ..good() },
        InquiryRequest { query: Some(b"access_token=x"), ..good() },
        request(""),
        request("token="),
        request("token=theirs"),
        request("TOKEN=cambio_at_x"),
        request("token=cambio_at_x&token=cambio_at_x"),
        request("token=cambio_at_x&_method=GET"),
        // The upstream may know the caller by it (RFC 6750 §2.2).
        request("token=cambio_at_x&access_token=x"),
        request("token=cambio_at_x&client_id=a&client_secret=b&access%5Ftoken=x"),
        request("token=cambio_at_x&Access.Token[]=x"),
        request("token=cambio_at_x\u{0}"),
    ];
    for request in no {
        let body = String::from_utf8_lossy(request.body);
        assert!(!concerns_us(&request), "{body} {:?}", request.query);
    }
}

proptest! {
    /// Another spelling of a name that decides is never beside the plain one.
    #[test]
    fn no_second_spelling_of_what_decides_gets_past(
        name in prop::sample::select(vec!["token", "client_id", "client_secret", "client_assertion"]),
        before in " {0,2}",
        separator in "[_. \\-]",
        upper in any::<u32>(),
        after in prop::sample::select(vec!["", "[]", "[0]", "[a][b]", "["]),
        in_query in any::<bool>(),
    ) {
        let spelled: String = name.replace('_', &separator).char_indices()
            .map(|(at, c)| if upper >> (at % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        let other = format!("{before}{spelled}{after}");
        let encoded = url::form_urlencoded::Serializer::new(String::new())
            .append_pair(&other, "x")
            .finish();
        let both = format!("{TOKEN}&{encoded}");
        // Not even a plain one stands in the query, or a token twice anywhere.
        let is_plain = other == name && name != "token";
        if in_query {
            let request = InquiryRequest { query: Some(encoded.as_bytes()), ..request(TOKEN) };
            prop_assert!(!concerns_us(&request), "{}", encoded);
        } else {
            prop_assert_eq!(concerns_us(&request(&both)), is_plain, "{}", both);
        }
    }

    #[test]
    fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..128), query in ".{0,32}") {
        let request = InquiryRequest {
            body: &body, query: Some(query.as_bytes()), ..request("")
        };
        prop_assert!(!concerns_us(&request) || body.starts_with(b"token"));
    }
}

#[test]
fn an_answer_says_what_it_says_and_no_more() {
    use Purpose::{Introspection, Revocation};
    let unsupported: &[u8] = br#"{"error":"unsupported_token_type","error_description":"x"}"#;
    let cases: [(Purpose, u16, &[u8], Said); 40] = [
        (Introspection, 200, br#"{"active":false}"#, Said::Inactive),
        (Introspection, 200, b" { \"x\": [1], \"active\" : false }\n", Said::Inactive),
        (Introspection, 200, br#"{"active":true,"sub":"a"}"#, Said::Active),
        (Introspection, 200, br#"{"active":"false"}"#, Said::Other),
        (Introspection, 200, br#"{"active":0}"#, Said::Other),
        (Introspection, 200, br#"{"active":null}"#, Said::Other),
        (Introspection, 200, br#"{"active":false,"active":false}"#, Said::Other),
        (Introspection, 200, br#"{"Active":false}"#, Said::Other),
        (Introspection, 200, br#"[{"active":false}]"#, Said::Other),
        (Introspection, 200, br#"{"active":false}{}"#, Said::Other),
        (Introspection, 200, b"", Said::Other),
        (Introspection, 201, br#"{"active":false}"#, Said::Other),
        (Introspection, 204, b"", Said::Other),
        (Introspection, 302, br#"{"active":false}"#, Said::Other),
        (Introspection, 401, br#"{"active":false}"#, Said::Other),
        (Introspection, 403, b"", Said::Other),
        (Introspection, 429, b"", Said::Other),
        (Introspection, 400, unsupported, Said::TokenUnsupported),
        (Introspection, 400, br#"{"error":"invalid_request"}"#, Said::Other),
        (Introspection, 400, br#"{"error":["unsupported_token_type"]}"#, Said::Other),
        (Introspection, 400, b"unsupported_token_type", Said::Other),
        (Introspection, 401, unsupported, Said::Other),
        (Introspection, 404, b"", Said::NoEndpoint),
        (Introspection, 405, b"{}", Said::NoEndpoint),
        (Introspection, 501, b"", Said::NoEndpoint),
        (Introspection, 500, br#"{"active":false}"#, Said::Down),
        (Introspection, 503, b"", Said::Down),
        (Introspection, 599, b"", Said::Down),
        (Revocation, 200, b"", Said::Revoked),
        (Revocation, 200, br#"{"active":true}"#, Said::Revoked),
        (Introspection, 200, br#"{"active":false,"error":"x"}"#, Said::Other),
        (Revocation, 200, b"{}", Said::Revoked),
        (Revocation, 200, br#"{"error":"invalid_client"}"#, Said::Other),
        (Revocation, 200, b"OK", Said::Revoked),
        (Revocation, 200, b"<form action=/login>", Said::Other),
        (Revocation, 200, b"\xef\xbb\xbf\r\n <!DOCTYPE html>", Said::Other),
        (Revocation, 202, b"", Said::Other),
        (Revocation, 400, unsupported, Said::TokenUnsupported),
        (Revocation, 404, b"", Said::NoEndpoint),
        (Revocation, 502, b"", Said::Down),
    ];
    for (purpose, status, body, expected) in cases {
        let said = Said::of(purpose, status, body);
        assert_eq!(said, expected, "{purpose:?} {status} {}", body.escape_ascii());
    }
}

/// Of `Authorization` fields and a body.
fn caller(authorization: &[&[u8]], body: &str) -> Option<Caller> {
    let form = Form::parse(body.as_bytes()).unwrap();
    Credentials::present(authorization, &form).ok().and_then(|one| Caller::of(&one))
}

#[test]
fn a_caller_has_one_name_or_none() {
    let basic = |text: &str| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)).into_bytes()
    };
    type Case<'a> = (Option<&'a str>, &'a str, Option<(&'a str, bool)>);
    let cases: [Case<'_>; 20] = [
        (Some("a:b"), "", Some(("a", true))),
        (Some("a:b"), "client_id=a", Some(("a", true))),
        (Some("a:"), "", Some(("a", false))),
        // The secret can be read in two ways, the name in one.
        (Some("a:%62+c"), "", Some(("a", true))),
        (Some("%61:b"), "", None),
        (Some("a+b:c"), "", None),
        // Only one of two readings is the one that is named, and it may be the other one that the
        // upstream vouches for.
        (Some("%61:b"), "client_id=a", None),
        (Some("%61:b"), "client_id=%2561", None),
        (Some("a+b:c"), "client_id=a+b", None),
        (Some("a+b:c"), "client_id=a%2Bb", None),
        // Lax servers decode what is malformed.
        (Some("%zz%61:b"), "", None),
        (Some("50%:b"), "client_id=50%25", None),
        // Latin-1 or UTF-8?
        (Some("\u{e4}:b"), "", None),
        (None, "client_id=%C3%A4&client_secret=b", None),
        // A body is decoded once, and in one way.
        (None, "client_id=a%2Bb&client_secret=b", Some(("a+b", true))),
        (Some("a:b"), "client_id=c", None),
        (Some("a:b"), "client_secret=c", None),
        (None, "client_id=a&client_secret=b", Some(("a", true))),
        (None, "client_id=a", Some(("a", false))),
        (None, "client_id=a&client_assertion=b", None),
    ];
    for (authorization, body, expected) in cases {
        let value = authorization.map(basic);
        let values: Vec<&[u8]> = value.iter().map(Vec::as_slice).collect();
        let found = caller(&values, body);
        let found = found.as_ref().map(|one| (one.unverified_client_id.as_str(), one.has_secret));
        assert_eq!(found, expected, "{authorization:?} {body}");
    }
    assert_eq!(caller(&[b"Bearer a"], "client_id=a"), None);
    assert_eq!(caller(&[b"Basic YTpi", b"Basic YTpi"], ""), None);
}

#[test]
fn a_name_alone_is_enough_for_a_client_that_we_know_to_be_public() {
    let of = |authentication: Authentication| {
        Exchange::new()
            .with(|exchange| exchange.application.authentication = authentication)
            .policy()
    };
    let (public, confidential) = (of(Authentication::Public), Exchange::new().policy());
    let named = caller(&[], "client_id=portal").unwrap();
    let secret = caller(&[], "client_id=portal&client_secret=x").unwrap();
    let stranger = caller(&[], "client_id=stranger").unwrap();
    for (caller, policy, to_end, to_see) in [
        (&named, &public, true, false),
        (&named, &confidential, false, false),
        (&secret, &public, true, true),
        (&secret, &confidential, true, true),
        (&stranger, &public, false, false),
    ] {
        assert_eq!(caller.with_secret_or_public(policy).is_some(), to_end, "{caller:?}");
        assert_eq!(caller.with_secret().is_some(), to_see, "{caller:?}");
    }
}

#[test]
fn another_secret_is_put_behind_the_same_name_to_the_byte() {
    // `a%20b\xff:c:d`, without padding.
    let other = basic_with_secret(b"bAsic YSUyMGL/OmM6ZA", "x:y").unwrap();
    assert_eq!(&*other, "Basic YSUyMGL/Ong6eQ==");
    for value in [&b"Bearer YTpi"[..], b"Basic", b"Basic YQ==", b"Basic !", b"\xff YTpi"] {
        assert!(basic_with_secret(value, "x").is_none(), "{}", value.escape_ascii());
    }
}
