//! Whose a refresh at a token path is: one of a token of ours is never the upstream's.

use cambio::exchange::request::{Recognised, TokenPathRequest};
use cambio::oauth::form::FormError;
use serde_json::json;

use crate::recognise::{FORM, is_other, is_refused, request, typed};

/// A refresh token of ours, as far as anybody can tell by looking at it.
const OURS: &str = "cambio_rt_dG9rZW4";
const REFRESH: &str = "grant_type=refresh_token&refresh_token=cambio_rt_dG9rZW4&client_id=portal";

#[track_caller]
fn is_refresh(request: TokenPathRequest<'_>) {
    assert!(matches!(request.recognise(), Ok(Recognised::Refresh(_))));
}

#[test]
fn a_refresh_of_our_token_is_ours() {
    is_refresh(request(REFRESH.as_bytes()));
    let charset = &b"application/x-www-form-urlencoded; charset=UTF-8"[..];
    is_refresh(TokenPathRequest { content_types: &[charset], ..request(REFRESH.as_bytes()) });
    is_refresh(TokenPathRequest { query: Some(b"tenant=1"), ..request(REFRESH.as_bytes()) });
    for spelling in [
        REFRESH.replace("cambio_rt_", "%63ambio%5Frt_"),
        REFRESH.replace("refresh_token=", "refresh%5Ftoken="),
        REFRESH.replace("cambio_rt_", "+%0Acambio_rt_"),
        REFRESH.replace("cambio_rt_dG9rZW4", "cambio_rt_"),
        format!("&{REFRESH}&scope=&subject_tok=x"),
        format!("{REFRESH}&audience=a&audience=b&resource=c"),
    ] {
        is_refresh(request(spelling.as_bytes()));
    }
}

#[test]
fn a_refresh_of_another_token_is_the_upstreams() {
    for token in
        ["x", "eyJhbGciOiJub25lIn0.e30.", "cambio_r", "cambio-rt-x", "cambio_at_x", "rt_cambio"]
    {
        is_other(request(REFRESH.replace(OURS, token).as_bytes()));
        let json = json!({"grant_type": "refresh_token", "refresh_token": token}).to_string();
        is_other(typed(&[b"application/json"], json.as_bytes()));
        let twice = format!("{}&refresh_token=y", REFRESH.replace(OURS, token));
        is_other(request(twice.as_bytes()));
        let query = format!("refresh_token={token}");
        is_other(TokenPathRequest {
            query: Some(query.as_bytes()),
            ..request(b"grant_type=refresh_token")
        });
    }
    is_other(request(b"grant_type=refresh_token"));
    is_other(request(b"grant_type=refresh_token&refresh_token="));
}

#[test]
fn a_refresh_of_our_token_in_disguise_is_refused() {
    let bytes = REFRESH.as_bytes();
    let utf16: Vec<u8> = REFRESH.bytes().flat_map(|b| [b, 0]).collect();
    let json = json!({"grant_type": "refresh_token", "refresh_token": OURS}).to_string();
    let multipart = format!(
        "--b\r\nContent-Disposition: form-data; name=\"refresh_token\"\r\n\r\n{OURS}\r\n--b--"
    );
    for repeated in [
        format!("{REFRESH}&refresh_token=x"),
        format!("refresh_token=x&{REFRESH}"),
        format!("{REFRESH}&refresh_token={OURS}"),
        format!("refresh_token=&{REFRESH}"),
        format!("grant_type=client_credentials&{REFRESH}"),
        format!("{REFRESH}&grant_type=refresh_token"),
        format!("{REFRESH}&refresh%5Ftoken=x"),
    ] {
        is_refused(request(repeated.as_bytes()), FormError::Repeated);
    }
    for malformed in [
        // Of another grant, or of none.
        REFRESH.replace("grant_type=refresh_token", "grant_type=client_credentials"),
        REFRESH.replace("grant_type=refresh_token&", ""),
        REFRESH.replace("grant_type=refresh_token", "grant_type="),
        REFRESH.replace("grant_type=refresh_token", "grant_type=Refresh_Token"),
        REFRESH.replace("grant_type=refresh_token", "grant_type=refresh_token%20"),
        REFRESH.replace("grant_type=", "grant_type[]="),
        REFRESH.replace("refresh_token=cambio", "refresh_token[]=cambio"),
        REFRESH.replace("refresh_token=cambio", "REFRESH_TOKEN=cambio"),
        REFRESH.replace("refresh_token=cambio", "token=cambio"),
        // What some upstream would read as ours, and we would not.
        REFRESH.replace("cambio_rt_", "CAMBIO_RT_"),
        REFRESH.replace("cambio_rt_", "%2563ambio_rt_"),
        REFRESH.replace("cambio_rt_", "x+cambio_rt_"),
        REFRESH.replace("cambio_rt_", "%22cambio_rt_"),
        REFRESH.replace("cambio_rt_", "%EF%BB%BFcambio_rt_"),
        REFRESH.replace('&', ";"),
        format!("{REFRESH}&x=%zz"),
        format!("{REFRESH}&x=%00"),
        // Both at once.
        format!("{REFRESH}&subject_token=x"),
    ] {
        is_refused(request(malformed.as_bytes()), FormError::Malformed);
    }
    is_refused(request(&utf16), FormError::Malformed);
    let content_types: [&[&[u8]]; 6] = [
        &[],
        &[b"application/json"],
        &[b"text/plain"],
        &[b"multipart/form-data; boundary=b"],
        &[b"application/x-www-form-urlencoded; charset=utf-16"],
        &[FORM, FORM],
    ];
    for content_types in content_types {
        for body in [bytes, json.as_bytes(), multipart.as_bytes(), &utf16] {
            is_refused(typed(content_types, body), FormError::ContentType);
        }
    }
    let escaped = br#"{"grant_type":"refresh_token","refresh_token":"cambio\u005frt_x"}"#;
    is_refused(typed(&[b"application/json"], escaped), FormError::ContentType);
    is_refused(
        TokenPathRequest { is_encoded: true, ..request(b"\x1f\x8b") },
        FormError::ContentCoding,
    );
    for query in [REFRESH, "refresh_token=cambio_rt_x", "a=%63ambio_rt_x", "a=%2563ambio_rt_x"] {
        let query = Some(query.as_bytes());
        is_refused(
            TokenPathRequest { query, ..request(b"grant_type=refresh_token") },
            FormError::InQuery,
        );
        is_refused(TokenPathRequest { query, ..request(bytes) }, FormError::InQuery);
        is_refused(TokenPathRequest { method: "GET", query, ..request(b"") }, FormError::NotPost);
    }
    for query in ["grant_type=refresh_token", "client_id=x", "client%5Fsecret=x"] {
        let query = Some(query.as_bytes());
        is_refused(TokenPathRequest { query, ..request(bytes) }, FormError::InQuery);
    }
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "post"] {
        is_refused(TokenPathRequest { method, ..request(bytes) }, FormError::NotPost);
    }
}
