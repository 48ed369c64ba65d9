//! Requests and answers made from a seed: every legal form that the test can think of.

use super::transparency_body::{Body, Kind};
use super::transparency_fields::{OF_ANSWERS, hop_by_hop, odd, shuffle, some_of, usual_of_request};
use super::transparency_wire::{Fields, Framing};
use crate::random::Random;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Http1,
    Http2,
}

/// One request, and the answer that it gets.
#[derive(Clone, Debug)]
pub struct Case {
    pub request: Request,
    pub answer: Answer,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub speech: Speech,
    pub method: &'static str,
    pub target: Vec<u8>,
    /// The authority that is asked: in `Host`, in an absolute target, in `:authority`, or nowhere.
    pub host: Option<String>,
    pub is_http_10: bool,
    pub fields: Fields,
    pub framing: Framing,
    pub body: Body,
    /// Whether its path is one on which bodies are read before they are sent on.
    pub is_read: bool,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub is_http_10: bool,
    pub status: u16,
    pub reason: &'static str,
    /// The fields of answers that come before it, each with a 103.
    pub hints: Vec<Fields>,
    pub fields: Fields,
    pub framing: Framing,
    pub body: Body,
}

/// What a field `x-case` names.
pub fn case(seed: u64, id: u64, speech: Speech) -> Case {
    let mut random = Random::of(seed, id);
    let request = request(&mut random, id, speech);
    let answer = answer(&mut random, request.method, request.is_http_10);
    Case { request, answer }
}

const METHODS: [&str; 12] = [
    "GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    "x-Own!",
];

fn request(random: &mut Random, id: u64, speech: Speech) -> Request {
    let is_read = random.chance(25);
    let mut method = *random.pick(&METHODS);
    if is_read && random.chance(70) {
        method = "POST";
    }
    let is_http_10 = speech == Speech::Http1 && random.chance(5);
    let mut fields: Fields = vec![("X-Case".into(), id.to_string().into_bytes())];
    let mut body = Body::any(random);
    if is_read {
        // Nobody here looks into what is neither form nor JSON, and a body on GET is refused.
        body.kind = *random.pick(&[Kind::Form, Kind::Form, Kind::Form, Kind::Json]);
        body.length = body.length.min(60_000);
        let content_type = match body.kind {
            Kind::Json => *random.pick(&["application/json", "application/x+json; charset=utf-8"]),
            _ => *random.pick(&[
                "application/x-www-form-urlencoded",
                "Application/X-WWW-Form-Urlencoded ;charset=UTF-8",
                "text/plain",
            ]),
        };
        fields.push(("Content-Type".into(), content_type.into()));
    } else {
        if body.length < 70_000 && random.chance(10) {
            body.kind = Kind::Gzip;
            fields.push(("Content-Encoding".into(), b"gzip".to_vec()));
        }
        if random.chance(70) {
            let some =
                ["application/octet-stream", "text/html; charset=utf-7", "a/b;c=\"d\\\"e\"", ""];
            fields.push(("Content-Type".into(), random.pick(&some).as_bytes().to_vec()));
        }
    }
    // Bodies on methods that mostly have none are legal, and rare (RFC 9110 §9.3.1).
    let is_bodiless = matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE");
    let has_body = if is_bodiless { !is_read && random.chance(5) } else { random.chance(90) };
    if !has_body {
        body = Body::NONE;
    }
    let length = body.size();
    let framing = match (has_body, speech) {
        (false, _) if random.chance(20) => Framing::Length(0),
        (false, _) => Framing::None,
        (true, Speech::Http1) if !is_http_10 && random.chance(40) => Framing::Chunked,
        (true, Speech::Http2) if random.chance(40) => Framing::None,
        (true, _) => Framing::Length(length),
    };
    if speech == Speech::Http1 && !is_http_10 && length > 0 && random.chance(4) {
        fields.push((
            "Expect".into(),
            random.pick(&["100-continue", "100-Continue"]).as_bytes().into(),
        ));
    }
    match framing {
        Framing::Length(length) => {
            fields.push(("Content-Length".into(), length.to_string().into_bytes()));
        }
        Framing::Chunked => {
            let coding = *random.pick(&["chunked", "chunked", "Chunked"]);
            fields.push(("Transfer-Encoding".into(), coding.into()));
        }
        Framing::None | Framing::Close => {}
    }
    let named = ["idp.example", "idp.example:8443", "127.0.0.1", "[::1]:80", "xn--idp-1ya.example"];
    let mut host = Some((*random.pick(&named)).to_owned());
    if is_http_10 && random.chance(50) {
        host = None;
    }
    let mut target = if is_read { read_path(random) } else { path(random) };
    target.extend_from_slice(&query(random));
    let is_uri = std::str::from_utf8(&target).is_ok_and(|path| path.parse::<http::Uri>().is_ok());
    if speech == Speech::Http2 && !is_uri {
        // The library that speaks it here takes no other.
        target = b"//a/../b;c=%2F%00?d&&e=[]?f/..".to_vec();
    }
    if speech == Speech::Http1 && method == "OPTIONS" && !is_read && random.chance(20) {
        target = b"*".to_vec();
    } else if let Some(host) = &host
        && speech == Speech::Http1
        && random.chance(5)
    {
        let scheme = *random.pick(&["http://", "HTTP://", "https://"]);
        target = [scheme.as_bytes(), host.as_bytes(), &target].concat();
    }
    if let Some(host) = &host
        && speech == Speech::Http1
    {
        fields.push(("Host".into(), host.clone().into_bytes()));
    }
    if method == "OPTIONS" && random.chance(20) {
        fields.push(("Max-Forwards".into(), random.pick(&["1", "10"]).as_bytes().to_vec()));
    }
    usual_of_request(random, &mut fields);
    odd(random, &mut fields, "q");
    if speech == Speech::Http1 {
        hop_by_hop(random, &mut fields, true);
        // A client of HTTP/1.0 has one such field.
        let has_one = is_http_10 && fields.iter().any(|field| field.0 == "Connection");
        if random.chance(4) {
            fields.push(("Connection".into(), b"close".to_vec()));
        } else if is_http_10 && !has_one && random.chance(60) {
            fields.push(("Connection".into(), b"Keep-Alive".to_vec()));
        }
    } else if random.chance(20) {
        fields.push(("te".into(), b"trailers".to_vec()));
    }
    shuffle(random, &mut fields);
    if speech == Speech::Http2 {
        for (name, _) in &mut fields {
            name.make_ascii_lowercase();
        }
    }
    Request { speech, method, target, host, is_http_10, fields, framing, body, is_read }
}

/// Paths on which bodies are read first: a token path, what some server takes for one, and those
/// where tokens are asked about.
fn read_path(random: &mut Random) -> Vec<u8> {
    let paths = [
        "/oauth2/token",
        "/oauth2/token",
        "/oauth2/token",
        "/oauth2/token/",
        "/oauth2//token",
        "/OAUTH2/Token",
        "/oauth2/%74oken",
        "/oauth2/x/../token",
        "/oauth2/token;a=b",
        "/oauth2%2Ftoken",
        "/oauth2/./token",
        "/oauth2/introspect",
        "/oauth2/revoke",
    ];
    if random.chance(3) {
        // Too long to be looked into.
        return format!("/{}%41", "a".repeat(1_100)).into_bytes();
    }
    random.pick(&paths).as_bytes().to_vec()
}

/// RFC 3986 §3.3, with what is common though it is not in there.
fn path(random: &mut Random) -> Vec<u8> {
    if random.chance(15) {
        let similar = [
            "/",
            "/oauth2/tokens",
            "/oauth2/token/x",
            "/oauth2/",
            "/oauth2",
            "/token",
            "//token",
            "/oauth2/introspect/",
            "/oauth2/revoke%2F",
            "/x/oauth2/token",
            "/oauth2/authorize",
            "/oauth2/t%6fke",
            "/oauth2/jwks/",
            "/.well-known/openid-configuration/",
            "/oauth2/tokenx;y",
        ];
        return random.pick(&similar).as_bytes().to_vec();
    }
    let pieces = [
        "a", "B", "0", "-", ".", "_", "~", "%41", "%2f", "%2F", "%00", "%C3%A4", "%25", "!", "$",
        "&", "'", "(", ")", "*", "+", ",", ";", "=", ":", "@", "/", "//", "/./", "/../", "ä", "[",
        "]", "|", "{", "}", "^", "\\", "\"",
    ];
    let mut out = b"/".to_vec();
    for _ in 0..random.between(0, 40) {
        let piece = random.pick(&pieces);
        out.extend_from_slice(piece.as_bytes());
    }
    out
}

fn query(random: &mut Random) -> Vec<u8> {
    let pieces = [
        "a",
        "B",
        "=",
        "==",
        "&",
        "&&",
        "?",
        "/",
        "/..",
        "//",
        "+",
        "%20",
        "%2B",
        "%",
        "%zz",
        "%u0041",
        ";",
        ":",
        "@",
        "!",
        "$",
        "'",
        "(",
        ")",
        "*",
        ",",
        "[]",
        "{}",
        "|",
        "^",
        "\\",
        "ä",
        "`",
        "code=abc",
        "state=%7B%7D",
        "x.y~z_-",
    ];
    if random.chance(40) {
        return Vec::new();
    }
    let mut out = b"?".to_vec();
    let most = if random.chance(1) { 2_000 } else { 30 };
    for _ in 0..random.between(0, most) {
        let piece = random.pick(&pieces);
        out.extend_from_slice(piece.as_bytes());
    }
    out
}

const STATUSES: &[(u16, &str)] = &[
    (200, "OK"),
    (200, ""),
    (200, "Fine by me"),
    (201, "Created"),
    (202, "Accepted"),
    (203, "Non-Authoritative Information"),
    (204, "No Content"),
    (204, "Nothing"),
    (205, "Reset Content"),
    (206, "Partial Content"),
    (299, "Own"),
    (300, "Multiple Choices"),
    (301, "Moved Permanently"),
    (302, "Found"),
    (303, "See Other"),
    (304, "Not Modified"),
    (307, "Temporary Redirect"),
    (308, "Permanent Redirect"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (409, "Conflict"),
    (410, "Gone"),
    (412, "Precondition Failed"),
    (416, "Range Not Satisfiable"),
    (418, "I'm a teapot"),
    (429, "Too Many Requests"),
    (500, "Internal Server Error"),
    (501, "Not Implemented"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (599, "Own"),
];

fn answer(random: &mut Random, method: &str, to_http_10: bool) -> Answer {
    let (status, reason) = if random.chance(40) { (200, "OK") } else { *random.pick(STATUSES) };
    let is_http_10 = random.chance(3);
    let mut fields = Fields::new();
    some_of(random, &mut fields, OF_ANSWERS, 20);
    for at in 0..if random.chance(20) { random.between(1, 40) } else { 0 } {
        let name = random.pick(&["Set-Cookie", "Set-Cookie", "set-cookie"]);
        let value =
            random.pick(&["; Path=/; HttpOnly", "", "; Expires=Sun, 06 Nov 1994 08:49:37 GMT"]);
        fields.push(((*name).to_owned(), format!("c{at}={}{value}", random.next()).into_bytes()));
    }
    if status == 401 {
        fields.push(("WWW-Authenticate".into(), b"Basic realm=\"a\", Bearer".to_vec()));
        fields.push(("WWW-Authenticate".into(), b"DPoP algs=\"ES256\"".to_vec()));
    }
    if random.chance(80) {
        fields.push(("Date".into(), b"Sun, 06 Nov 1994 08:49:37 GMT".to_vec()));
    }
    let mut body = Body::any(random);
    if body.length < 70_000 && random.chance(10) {
        body.kind = Kind::Gzip;
        fields.push(("Content-Encoding".into(), b"gzip".to_vec()));
    }
    odd(random, &mut fields, "a");
    hop_by_hop(random, &mut fields, false);
    let length = body.size();
    let mut framing = match random.below(10) {
        0 => Framing::Close,
        1..5 if !is_http_10 => Framing::Chunked,
        _ => Framing::Length(length),
    };
    if status == 204 || status == 205 {
        framing = if status == 204 { Framing::None } else { Framing::Length(0) };
        body = Body::NONE;
    } else if status == 304 || method == "HEAD" {
        // What the answer to GET would have (RFC 9110 §8.6).
        framing = match framing {
            Framing::Chunked if status == 304 => Framing::None,
            Framing::Close => Framing::None,
            other => other,
        };
        body = Body::NONE;
    }
    match framing {
        Framing::Length(length) => {
            fields.push(("Content-Length".into(), length.to_string().into_bytes()));
        }
        Framing::Chunked => fields.push(("Transfer-Encoding".into(), b"chunked".to_vec())),
        Framing::None | Framing::Close => {}
    }
    // Who says nothing keeps the connection, unless it speaks HTTP/1.0.
    if framing == Framing::Close || random.chance(3) {
        // In one field: of several the library looks at the first, and takes the connection for one
        // that stays until it notices its end.
        fields.retain(|field| field.0 != "Connection");
        fields.push(("Connection".into(), b"close".to_vec()));
    }
    shuffle(random, &mut fields);
    let mut hints = Vec::new();
    if !is_http_10 && !to_http_10 && random.chance(5) {
        for _ in 0..random.between(1, 3) {
            let mut hint = Fields::new();
            some_of(
                random,
                &mut hint,
                &[("Link", &["</style.css>; rel=preload"]), ("Link", &["</b>"])],
                80,
            );
            odd(random, &mut hint, "h");
            hints.push(hint);
        }
    }
    Answer { is_http_10, status, reason, hints, fields, framing, body }
}
