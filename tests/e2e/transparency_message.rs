//! Requests and answers made from a seed: every legal form that the test can think of.

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

/// A body by what it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    seed: u64,
    length: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bytes,
    Gzip,
    Form,
    Json,
}

/// What a field `x-case` names.
pub fn case(seed: u64, id: u64, speech: Speech) -> Case {
    let mut random = Random::of(seed, id);
    let request = request(&mut random, id, speech);
    let answer = answer(&mut random, request.method, request.is_http_10);
    Case { request, answer }
}

impl Body {
    const NONE: Self = Self { seed: 0, length: 0, kind: Kind::Bytes };

    pub fn bytes(self) -> Vec<u8> {
        let mut random = Random(self.seed);
        match self.kind {
            Kind::Bytes => random.bytes(self.length),
            Kind::Gzip => gzip(&random.bytes(self.length)),
            Kind::Form => form(&mut random, self.length),
            Kind::Json => format!("{{\"a\":\"{}\"}}", "x\\u00e4".repeat(self.length / 7)).into(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.size() == 0
    }

    /// How long it is.
    fn size(self) -> usize {
        match self.kind {
            Kind::Bytes => self.length,
            Kind::Gzip => 18 + self.length + 5 * self.length.div_ceil(65_535).max(1),
            Kind::Form | Kind::Json => self.bytes().len(),
        }
    }

    fn any(random: &mut Random) -> Self {
        let length = match random.below(1000) {
            0 => random.between(1024 * 1024, 5 * 1024 * 1024),
            1 => 5 * 1024 * 1024,
            2..15 => random.between(65_537, 300_000),
            15..100 => random.between(4_097, 65_536),
            100..150 => *random.pick(&[1, 2, 4_095, 4_096, 16_383, 16_384, 65_535, 65_536, 65_537]),
            150..300 => 0,
            _ => random.between(1, 4_096),
        };
        Self { seed: random.next(), length, kind: Kind::Bytes }
    }
}

/// A gzip member of stored blocks (RFC 1951 §3.2.4, RFC 1952): who decodes it gets something else.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<&[u8]> =
        if content.is_empty() { vec![content] } else { content.chunks(65_535).collect() };
    for (at, block) in blocks.iter().enumerate() {
        out.push(u8::from(at + 1 == blocks.len()));
        let length = u16::try_from(block.len()).unwrap();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let table: Vec<u32> = (0..256)
        .map(|byte| {
            (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
        })
        .collect();
    let crc = !content.iter().fold(!0_u32, |crc, byte| {
        crc >> 8 ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)]
    });
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
    out
}

/// A grant that is the upstream's business, of about this length.
fn form(random: &mut Random, length: usize) -> Vec<u8> {
    let mut out = random
        .pick(&[
            "grant_type=client_credentials&scope=a%20b+c",
            "grant_type=refresh_token&refresh_token=of-somebody-else&client_id=app",
            "grant_type=authorization_code&code=SplxlOBeZQQYbYS6WxSbIA&redirect_uri=https%3A%2F%2Fa",
            "grant_type=password&username=j%c3%b6&password=100%25%zz",
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ.eyJ.x",
            "grant%5Ftype=urn:ietf:params:oauth:grant-type:device_code&device_code=x&&=&a",
            "scope=a;scope=b&grant_type=client_credentials",
            "token=of-somebody-else&token_type_hint=access_token",
            "",
        ])
        .as_bytes()
        .to_vec();
    while out.len() < length {
        let some: &[&[u8]] =
            &[b"&x=", b"abc", b"%41", b"+", b"%e4", b"=", b"&", b"\xc3\xa4", b"%", b"~", b"\xff", b"/"];
        let piece = random.pick(some);
        out.extend_from_slice(piece);
    }
    out
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
            let some = ["application/octet-stream", "text/html; charset=utf-7", "a/b;c=\"d\\\"e\"", ""];
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
        fields.push(("Expect".into(), random.pick(&["100-continue", "100-Continue"]).as_bytes().into()));
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
        fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    }
    Request { speech, method, target, host, is_http_10, fields, framing, body, is_read }
}

/// Paths on which bodies are read first: a token path, what some server takes for one, and those
/// where tokens are asked about.
fn read_path(random: &mut Random) -> Vec<u8> {
    let paths = [
        "/oauth2/token", "/oauth2/token", "/oauth2/token", "/oauth2/token/", "/oauth2//token",
        "/OAUTH2/Token", "/oauth2/%74oken", "/oauth2/x/../token", "/oauth2/token;a=b",
        "/oauth2%2Ftoken", "/oauth2/./token", "/oauth2/introspect", "/oauth2/revoke",
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
            "/", "/oauth2/tokens", "/oauth2/token/x", "/oauth2/", "/oauth2", "/token", "//token",
            "/oauth2/introspect/", "/oauth2/revoke%2F", "/x/oauth2/token", "/oauth2/authorize",
            "/oauth2/t%6fke", "/oauth2/jwks/", "/.well-known/openid-configuration/", "/oauth2/tokenx;y",
        ];
        return random.pick(&similar).as_bytes().to_vec();
    }
    let pieces = [
        "a", "B", "0", "-", ".", "_", "~", "%41", "%2f", "%2F", "%00", "%C3%A4", "%25", "!", "$", "&",
        "'", "(", ")", "*", "+", ",", ";", "=", ":", "@", "/", "//", "/./", "/../", "ä", "[", "]", "|",
        "{", "}", "^", "\\", "\"",
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
        "a", "B", "=", "==", "&", "&&", "?", "/", "/..", "//", "+", "%20", "%2B", "%", "%zz", "%u0041",
        ";", ":", "@", "!", "$", "'", "(", ")", "*", ",", "[]", "{}", "|", "^", "\\", "ä", "`",
        "code=abc", "state=%7B%7D", "x.y~z_-",
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

const USUAL: &[(&str, &[&str])] = &[
    ("Accept", &["*/*", "text/html, application/json;q=0.9,*/*;q=0.1", ""]),
    ("Accept-Encoding", &["gzip, br", "identity;q=0", "gzip;q=1.0, *;q=0", "zstd"]),
    ("Accept-Language", &["de, en;q=0.5"]),
    ("Authorization", &["Basic eDp5", "Bearer a.b.c", "Digest username=\"a\", uri=\"/\""]),
    ("Cookie", &["second=1"]),
    ("Cookie", &["a=b; c=d", "session=\"x y\"; ; e", "JSESSIONID=0123456789"]),
    ("Cookie", &["second=1"]),
    ("Cache-Control", &["no-cache", "max-age=0, no-store", "no-transform"]),
    ("Content-Language", &["de"]),
    ("Date", &["Sun, 06 Nov 1994 08:49:37 GMT"]),
    ("DPoP", &["eyJ.eyJ.sig"]),
    ("Early-Data", &["1"]),
    ("If-Match", &["\"a\", W/\"b\""]),
    ("If-Modified-Since", &["Sun, 06 Nov 1994 08:49:37 GMT"]),
    ("If-None-Match", &["*", "\"x\", W/\"y\""]),
    ("Origin", &["https://app.example", "null"]),
    ("Pragma", &["no-cache"]),
    ("Range", &["bytes=0-1", "bytes=-5,7-"]),
    ("Referer", &["https://app.example/a?b=c"]),
    ("User-Agent", &["curl/8.0", "Mozilla/5.0 (X11; Linux x86_64)"]),
    ("Via", &["1.0 edge", "1.1 a (b), HTTP/2 c"]),
    ("X-Real-IP", &["5.5.5.5"]),
    ("X-Request-Id", &["0af7651916cd43dd8448eb211c80319c"]),
    ("traceparent", &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
    ("Sec-Fetch-Mode", &["cors"]),
];

/// What a client says of its way, which nobody is to believe.
const LIES: &[(&str, &[&str])] = &[
    ("X-Forwarded-For", &["6.6.6.6", "6.6.6.6, 7.7.7.7"]),
    ("X-Forwarded-Proto", &["https"]),
    ("X-Forwarded-Host", &["evil.example"]),
    ("X-Forwarded-Port", &["1"]),
    ("Forwarded", &["for=6.6.6.6;proto=https"]),
    ("X_Forwarded_For", &["6.6.6.6"]),
    ("X-Forwarded_User", &["root"]),
    ("x-forwarded-prefix", &["/p"]),
];

fn usual_of_request(random: &mut Random, fields: &mut Fields) {
    some_of(random, fields, USUAL, 25);
    some_of(random, fields, LIES, 5);
}

fn some_of(random: &mut Random, fields: &mut Fields, all: &[(&str, &[&str])], percent: usize) {
    for (name, values) in all {
        if random.chance(percent) {
            fields.push(((*name).to_owned(), random.pick(values).as_bytes().to_vec()));
        }
    }
}

/// Fields that end at the next hop, and others that a `Connection` field makes so.
fn hop_by_hop(random: &mut Random, fields: &mut Fields, is_request: bool) {
    if random.chance(10) {
        let names = random.pick(&["X-Hop", "x-hop , X-Hop-Too", ",,X-Hop,", "keep-alive, X-HOP"]);
        fields.push(("Connection".into(), names.as_bytes().to_vec()));
        fields.push(("X-Hop".into(), b"1".to_vec()));
        fields.push(("X-Hop-Too".into(), b"2".to_vec()));
    }
    let of_both: [(&str, &[&str]); 3] = [
        ("Keep-Alive", &["timeout=5, max=100"]),
        ("Proxy-Connection", &["keep-alive"]),
        ("Trailer", &["X-Checksum"]),
    ];
    some_of(random, fields, &of_both, 5);
    if is_request {
        let more: [(&str, &[&str]); 4] = [
            ("TE", &["trailers", "trailers, deflate;q=0.5"]),
            ("Proxy-Authorization", &["Basic eDp5"]),
            ("Upgrade", &["h2c", "TLS/1.0, foo"]),
            ("HTTP2-Settings", &["AAMAAABkAAQAAP__"]),
        ];
        some_of(random, fields, &more, 3);
    } else {
        some_of(random, fields, &[("Upgrade", &["h2, h2c"])], 5);
    }
}

/// Fields that nobody knows, with every name and value that is legal (RFC 9110 §5).
fn odd(random: &mut Random, fields: &mut Fields, prefix: &str) {
    let count = if random.chance(2) { random.between(60, 120) } else { random.between(0, 8) };
    let mut room = 12_000_usize;
    for _ in 0..count {
        let mut name = prefix.to_owned();
        for _ in 0..random.between(1, 10) {
            name.push(char::from(*random.pick(b"abcdefgHIJKLMN0123456789!#$%&'*+-.^_`|~")));
        }
        let value = value(random, room.min(8_000));
        room = room.saturating_sub(name.len() + value.len());
        // The same name again, in another case.
        if random.chance(20) {
            fields.push((name.to_ascii_uppercase(), b"again".to_vec()));
        }
        fields.push((name, value));
    }
}

fn value(random: &mut Random, most: usize) -> Vec<u8> {
    let length = match random.below(20) {
        0..3 => return Vec::new(),
        3 => random.between(0, most),
        _ => random.between(0, 40.min(most)),
    };
    let mut out: Vec<u8> = (0..length)
        .map(|_| match random.below(10) {
            0 => *random.pick(b" \t,;\"\\"),
            1 => u8::try_from(random.between(0x80, 0xff)).unwrap(),
            _ => u8::try_from(random.between(0x21, 0x7e)).unwrap(),
        })
        .collect();
    while out.first().is_some_and(u8::is_ascii_whitespace) {
        out.remove(0);
    }
    while out.last().is_some_and(u8::is_ascii_whitespace) {
        out.pop();
    }
    out
}

fn shuffle(random: &mut Random, fields: &mut Fields) {
    for at in (1..fields.len()).rev() {
        let other = random.below(at + 1);
        fields.swap(at, other);
    }
}

const OF_ANSWERS: &[(&str, &[&str])] = &[
    ("Accept-Ranges", &["bytes"]),
    ("Age", &["60"]),
    ("Allow", &["GET, HEAD", ""]),
    ("Alt-Svc", &["h3=\":443\"; ma=1"]),
    ("Cache-Control", &["no-store", "public, max-age=60", "private"]),
    ("Content-Language", &["de, en"]),
    ("Content-Security-Policy", &["default-src 'self'; report-uri /r"]),
    ("Content-Type", &["application/json", "text/html;charset=iso-8859-1", "a/b"]),
    ("Digest", &["sha-256=4REjxQ4yrqUVicfSKYNO/cF9zNj5ANbzgDZt3/h3Qxo="]),
    ("ETag", &["\"strong\"", "W/\"weak\"", "\"\""]),
    ("Expires", &["0", "Sun, 06 Nov 1994 08:49:37 GMT"]),
    ("Forwarded", &["for=a"]),
    ("Last-Modified", &["Sun, 06 Nov 1994 08:49:37 GMT"]),
    ("Link", &["</a>; rel=preload", "</b>; rel=next, </c>"]),
    ("Link", &["</second>"]),
    ("Location", &["/relative?x=y#z", "https://idp.example/a%20b"]),
    ("Proxy-Status", &["edge; error=x"]),
    ("Retry-After", &["120"]),
    ("Server", &["idp/1 (x)", ""]),
    ("Strict-Transport-Security", &["max-age=1"]),
    ("Vary", &["*", "Accept-Encoding, Cookie"]),
    ("Vary", &["Origin"]),
    ("Via", &["1.0 inner", "1.1 a, 2 b"]),
    ("X-Forwarded-For", &["5.5.5.5"]),
];

const STATUSES: &[(u16, &str)] = &[
    (200, "OK"), (200, ""), (200, "Fine by me"), (201, "Created"), (202, "Accepted"),
    (203, "Non-Authoritative Information"), (204, "No Content"), (204, "Nothing"),
    (205, "Reset Content"), (206, "Partial Content"), (299, "Own"), (300, "Multiple Choices"),
    (301, "Moved Permanently"), (302, "Found"), (303, "See Other"), (304, "Not Modified"),
    (307, "Temporary Redirect"), (308, "Permanent Redirect"), (400, "Bad Request"),
    (401, "Unauthorized"), (403, "Forbidden"), (404, "Not Found"), (405, "Method Not Allowed"),
    (409, "Conflict"), (410, "Gone"), (412, "Precondition Failed"), (416, "Range Not Satisfiable"),
    (418, "I'm a teapot"), (429, "Too Many Requests"), (500, "Internal Server Error"),
    (501, "Not Implemented"), (502, "Bad Gateway"), (503, "Service Unavailable"), (599, "Own"),
];

fn answer(random: &mut Random, method: &str, to_http_10: bool) -> Answer {
    let (status, reason) = if random.chance(40) { (200, "OK") } else { *random.pick(STATUSES) };
    let is_http_10 = random.chance(3);
    let mut fields = Fields::new();
    some_of(random, &mut fields, OF_ANSWERS, 20);
    for at in 0..if random.chance(20) { random.between(1, 40) } else { 0 } {
        let name = random.pick(&["Set-Cookie", "Set-Cookie", "set-cookie"]);
        let value = random.pick(&["; Path=/; HttpOnly", "", "; Expires=Sun, 06 Nov 1994 08:49:37 GMT"]);
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
        fields.push(("Connection".into(), b"close".to_vec()));
    }
    shuffle(random, &mut fields);
    let mut hints = Vec::new();
    if !is_http_10 && !to_http_10 && random.chance(5) {
        for _ in 0..random.between(1, 3) {
            let mut hint = Fields::new();
            some_of(random, &mut hint, &[("Link", &["</style.css>; rel=preload"]), ("Link", &["</b>"])], 80);
            odd(random, &mut hint, "h");
            hints.push(hint);
        }
    }
    Answer { is_http_10, status, reason, hints, fields, framing, body }
}
