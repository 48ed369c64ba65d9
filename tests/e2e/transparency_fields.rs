//! Header fields in every legal form.

use super::transparency_wire::Fields;
use crate::random::Random;

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

pub fn usual_of_request(random: &mut Random, fields: &mut Fields) {
    some_of(random, fields, USUAL, 25);
    some_of(random, fields, LIES, 5);
}

pub fn some_of(random: &mut Random, fields: &mut Fields, all: &[(&str, &[&str])], percent: usize) {
    for (name, values) in all {
        if random.chance(percent) {
            fields.push(((*name).to_owned(), random.pick(values).as_bytes().to_vec()));
        }
    }
}

/// Fields that end at the next hop, and others that a `Connection` field makes so.
pub fn hop_by_hop(random: &mut Random, fields: &mut Fields, is_request: bool) {
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
pub fn odd(random: &mut Random, fields: &mut Fields, prefix: &str) {
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

pub fn shuffle(random: &mut Random, fields: &mut Fields) {
    for at in (1..fields.len()).rev() {
        let other = random.below(at + 1);
        fields.swap(at, other);
    }
}

pub const OF_ANSWERS: &[(&str, &[&str])] = &[
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
