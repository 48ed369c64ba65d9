//! What passes between client and upstream: which header fields are taken away, replaced and added
//! on the way there and back.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, MAX_FORWARDS,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};

use super::screen::{fold, is_forwarding, nominations};

/// Our name in `Via` (RFC 9110 §7.6.3).
const PSEUDONYM: &str = "cambio";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What is about one connection only. The length is told anew with the body.
const HOP_BY_HOP: [HeaderName; 12] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HeaderName::from_static("http2-settings"),
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The other end of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub address: Option<IpAddr>,
    pub is_tls: bool,
}

impl Client {
    pub const fn scheme(self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}

/// What the fields say by which some servers let a request name another target than its own.
pub fn other_targets(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let names = [&b"x-original-url"[..], b"x-rewrite-url"];
    let is_other = move |name: &HeaderName| {
        names.iter().any(|own| name.as_str().bytes().map(fold).eq(own.iter().copied()))
    };
    (headers.iter()).filter(move |(name, _)| is_other(name)).map(|(_, value)| value.as_bytes())
}

/// Whether a field is there by which some servers let a request have another method than its own.
pub fn names_other_method(headers: &HeaderMap) -> bool {
    let names = [&b"x-http-method-override"[..], b"x-http-method", b"x-method-override"];
    let is_other = |name: &HeaderName| {
        names.iter().any(|own| name.as_str().bytes().map(fold).eq(own.iter().copied()))
    };
    headers.keys().any(is_other)
}

/// Takes away what is between the client and us alone (RFC 9110 §7.6.1), where the request is sent on
/// by a client of our own.
pub fn end_hop(request: &mut RequestHeader) {
    let named: Vec<Vec<u8>> = nominations(&request.headers).collect();
    let named = named.iter().filter_map(|name| HeaderName::from_bytes(name).ok());
    for name in named.chain(HOP_BY_HOP) {
        request.remove_header(&name);
    }
}

/// Takes away what a client says of the way its request has come, before anybody reads it, and
/// every upgrade but WebSocket (RFC 9110 §7.8).
pub fn strip_request(request: &mut RequestHeader, may_upgrade: bool) {
    let forwarding: Vec<HeaderName> = (request.headers.keys())
        .filter(|name| is_forwarding(name.as_str().as_bytes()))
        .cloned()
        .collect();
    for name in &forwarding {
        request.remove_header(name);
    }
    if request.headers.contains_key(UPGRADE) && !(may_upgrade && is_websocket(request)) {
        request.remove_header(&UPGRADE);
    }
}

/// RFC 6455 §4.1. A body is none of it.
pub fn is_websocket(request: &RequestHeader) -> bool {
    let mut upgrades = request.headers.get_all(UPGRADE).iter();
    let has_body = [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT]
        .iter()
        .any(|name| request.headers.get(name).is_some_and(|value| value.as_bytes() != b"0"));
    !has_body
        && request.version == Version::HTTP_11
        && request.method == Method::GET
        && upgrades.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && upgrades.next().is_none()
}

/// The `Host` of a request, whichever way it was sent.
pub fn host_of(request: &RequestHeader) -> Option<HeaderValue> {
    match request.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers.get(HOST).cloned(),
    }
}

/// Adds what we say of the way that a request has come. `original` is the request as the client
/// sent it.
pub fn complete_request(
    upstream: &mut RequestHeader,
    original: &RequestHeader,
    client: Client,
) -> pingora::Result<()> {
    // An origin server takes origin-form (RFC 9112 §3.2.1).
    if upstream.raw_path().first().is_some_and(|b| !matches!(b, b'/' | b'*')) {
        let target = original.raw_path();
        let path = super::route::path_of(target);
        let query = super::route::query_of(target).map(|query| [b"?", query].concat());
        let target = [path, &query.unwrap_or_default()].concat();
        if let Some(host) = host_of(original) {
            upstream.insert_header(HOST, host)?;
        }
        upstream.set_raw_path(&target)?;
    }
    if original.version == Version::HTTP_2
        && let Some(cookies) = joined_cookies(&original.headers)
    {
        upstream.insert_header(COOKIE, cookies)?;
    }
    for (name, value) in forwarding_fields(original, client) {
        upstream.insert_header(name, value)?;
    }
    upstream.append_header(VIA, via(original.version))?;
    if original.method == Method::OPTIONS
        && let Some(hops) = max_forwards(original)
    {
        upstream.insert_header(MAX_FORWARDS, hops.saturating_sub(1))?;
    }
    Ok(())
}

/// HTTP/2 may split the cookies, and HTTP/1 must have them in one field (RFC 9113 §8.2.3).
fn joined_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if all.len() < 2 {
        return None;
    }
    HeaderValue::from_bytes(&all.join(&b"; "[..])).ok()
}

/// `X-Forwarded-*` and `Forwarded` (RFC 7239) of our own.
pub fn forwarding_fields(
    original: &RequestHeader,
    client: Client,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = vec![(X_FORWARDED_PROTO, HeaderValue::from_static(client.scheme()))];
    let mut forwarded = String::with_capacity(64);
    if let Some(address) = client.address.map(|address| address.to_canonical()) {
        let _ = match address {
            IpAddr::V4(address) => write!(forwarded, "for={address};"),
            IpAddr::V6(address) => write!(forwarded, "for=\"[{address}]\";"),
        };
        fields.extend(
            HeaderValue::try_from(address.to_string()).ok().map(|value| (X_FORWARDED_FOR, value)),
        );
    }
    if let Some(host) = host_of(original) {
        if let Ok(host) = host.to_str()
            && !host.contains(['"', '\\'])
        {
            let _ = write!(forwarded, "host=\"{host}\";");
        }
        fields.push((X_FORWARDED_HOST, host));
    }
    let _ = write!(forwarded, "proto={}", client.scheme());
    fields.extend(HeaderValue::try_from(forwarded).ok().map(|value| (FORWARDED, value)));
    fields
}

/// How many hops an OPTIONS request may still take (RFC 9110 §7.6.2).
pub fn max_forwards(request: &RequestHeader) -> Option<u32> {
    request.headers.get(MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()
}

/// Our entry in `Via`, for a message that came in this version.
pub fn via(version: Version) -> HeaderValue {
    let text = match version {
        Version::HTTP_10 => "1.0 cambio",
        Version::HTTP_2 => "2 cambio",
        _ => "1.1 cambio",
    };
    debug_assert!(text.ends_with(PSEUDONYM));
    HeaderValue::from_static(text)
}

/// Takes the hop-by-hop fields out of a response (RFC 9110 §7.6.1) and adds `Via`. It came in
/// `version`.
pub fn complete_response(response: &mut ResponseHeader, version: Version) -> pingora::Result<()> {
    let is_switch = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if !is_switch {
        let named: Vec<Vec<u8>> = nominations(&response.headers).collect();
        for name in named.iter().filter(|name| !is_end_to_end_of_response(name)) {
            if let Ok(name) = HeaderName::from_bytes(name) {
                response.remove_header(&name);
            }
        }
        response.remove_header(&CONNECTION);
        response.remove_header(&KEEP_ALIVE);
        response.remove_header(&PROXY_CONNECTION);
        response.remove_header(&TE);
        response.remove_header(&TRAILER);
        // It tells which protocols are on offer (RFC 9110 §15.5.22): ours are others.
        response.remove_header(&UPGRADE);
    }
    // Whoever believed these would take the next answer for a body (RFC 9110 §8.6, RFC 9112 §6.1).
    if response.status.is_informational() || response.status == StatusCode::NO_CONTENT {
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
    }
    response.append_header(VIA, via(version))?;
    // RFC 9110 §6.2: the version is that of whoever speaks.
    response.set_version(Version::HTTP_11);
    Ok(())
}

fn is_end_to_end_of_response(name: &[u8]) -> bool {
    let framing = [&b"transfer-encoding"[..], b"content-length", b"content-type", b"set-cookie"];
    framing.contains(&name) || matches!(name, b"www-authenticate" | b"cache-control" | b"location")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::screen::tests::request;

    #[test]
    fn what_a_client_says_of_its_way_is_taken_away_in_every_spelling() {
        let mut got = request(
            Version::HTTP_11,
            "GET",
            "/",
            &[
                ("Host", "a"),
                ("Forwarded", "for=6.6.6.6"),
                ("X-Forwarded-For", "6.6.6.6"),
                ("X_Forwarded_For", "6.6.6.6"),
                ("x-forwarded_Uri", "/x"),
                ("X-Forwarded-User", "root"),
                ("X-Forwardedx", "stays"),
                ("X-Request-Id", "stays"),
                ("Upgrade", "h2c"),
            ],
        );
        strip_request(&mut got, true);
        let names: Vec<&str> = got.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "x-forwardedx", "x-request-id"]);
    }

    #[test]
    fn a_websocket_keeps_its_upgrade_where_it_may() {
        let upgrade = [("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "WebSocket")];
        for (method, may, kept) in
            [("GET", true, true), ("GET", false, false), ("POST", true, false)]
        {
            let mut got = request(Version::HTTP_11, method, "/", &upgrade);
            strip_request(&mut got, may);
            assert_eq!(got.headers.contains_key(UPGRADE), kept, "{method} {may}");
        }
    }

    #[test]
    fn our_own_account_of_the_way_is_added() {
        let original = request(
            Version::HTTP_11,
            "GET",
            "http://idp.example:8080/a?b",
            &[("Host", "idp.example:8080")],
        );
        let mut upstream = original.clone();
        let client = Client { address: Some("::1".parse().unwrap()), is_tls: true };
        complete_request(&mut upstream, &original, client).unwrap();
        assert_eq!(upstream.raw_path(), b"/a?b");
        let get = |name: &str| upstream.headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(get("host"), "idp.example:8080");
        assert_eq!(get("x-forwarded-for"), "::1");
        assert_eq!(get("x-forwarded-proto"), "https");
        assert_eq!(get("x-forwarded-host"), "idp.example:8080");
        assert_eq!(get("forwarded"), "for=\"[::1]\";host=\"idp.example:8080\";proto=https");
        assert_eq!(get("via"), "1.1 cambio");
    }

    #[test]
    fn hop_by_hop_fields_of_a_response_end_here() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Connection", "close, X-Hop, Set-Cookie"),
            ("Keep-Alive", "timeout=5"),
            ("X-Hop", "1"),
            ("Set-Cookie", "a=b"),
            ("Upgrade", "h2"),
            ("Via", "1.1 other"),
            ("X-Kept", "1"),
        ] {
            response.append_header(name, value).unwrap();
        }
        complete_response(&mut response, Version::HTTP_10).unwrap();
        let mut names: Vec<&str> = response.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["set-cookie", "via", "x-kept"]);
        let vias: Vec<&HeaderValue> = response.headers.get_all(VIA).iter().collect();
        assert_eq!(vias, ["1.1 other", "1.0 cambio"]);
    }
}
