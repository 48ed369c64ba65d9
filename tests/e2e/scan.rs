//! A search for secrets in what was said: of one process, or of the whole suite (`make secrecy`).

use std::fs;
use std::io::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Names the folder with what the suite has said. Where it is set, tests say all that there is.
pub const SAID: &str = "CAMBIO_SAID";

/// Secrets of the tests' configurations and clients, or what all of a kind have in them.
const REGISTERED: [&str; 9] = [
    "canary",
    "of-many-bytes",
    "alicepassword",
    "sesame-sesame",
    "the-secret-of-another-application",
    "a-secret-of-the-portal",
    "-secret-at-the-idp",
    "-secret-in-our-file",
    "correct horse: battery",
];

/// What a secret in a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any part of one, as its header always begins alike (RFC 7515 §3.1).
    Jwt,
    /// The value of an `Authorization` field (RFC 6750 §2.1, RFC 7617 §2).
    Authorization,
    RefreshToken,
    OpaqueToken,
    /// In PEM (RFC 7468 §10), or a member of a JWK (RFC 7518 §6).
    PrivateKey,
    /// A PHC string.
    PasswordHash,
    /// One that the tests have given somebody.
    Registered,
    /// One of these in Base64, such as in the value of a field of which the rest is cut off.
    RegisteredInBase64,
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_".contains(c)
}

/// How many characters of a token begin there.
fn run(text: &str, is_in: impl Fn(char) -> bool) -> usize {
    text.chars().take_while(|c| is_in(*c)).count()
}

/// Every place where `mark` is followed by at least `most` characters of a token.
fn marked(text: &str, mark: &str, least: usize) -> bool {
    text.match_indices(mark).any(|(at, _)| {
        run(&text[at + mark.len()..], |c| is_token_char(c) || "+/.=".contains(c)) >= least
    })
}

/// Whether a JSON object begins somewhere in Base64, as every part of a JWT does that can be read. Of
/// random names some have the first three characters in them.
fn has_jwt(line: &str) -> bool {
    line.match_indices("eyJ").any(|(at, _)| {
        let token = &line[at..];
        let token = &token[..run(token, is_token_char).min(16)];
        let begin = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        begin.len() == 12 && begin.iter().all(|octet| octet.is_ascii_graphic() || *octet == b' ')
    })
}

/// How a private member of a JWK begins, in JSON and in JSON in a text.
const MEMBERS: [&str; 14] = [
    "\"d\":\"",
    "\"p\":\"",
    "\"q\":\"",
    "\"dp\":\"",
    "\"dq\":\"",
    "\"qi\":\"",
    "\"k\":\"",
    "\\\"d\\\":\\\"",
    "\\\"p\\\":\\\"",
    "\\\"q\\\":\\\"",
    "\\\"dp\\\":\\\"",
    "\\\"dq\\\":\\\"",
    "\\\"qi\\\":\\\"",
    "\\\"k\\\":\\\"",
];

/// Of every registered secret that is long enough for no random name to have it.
static ENCODED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let long = REGISTERED.iter().filter(|secret| secret.len() > 10);
    long.flat_map(|secret| in_base64(secret)).collect()
});

/// What stands in every text that is the Base64 of something with `secret` in it.
fn in_base64(secret: &str) -> [String; 3] {
    [0, 1, 2].map(|before| {
        let encoded = STANDARD_NO_PAD.encode([&vec![0; before], secret.as_bytes()].concat());
        // At both ends there are bits of what stands beside it.
        encoded[if before == 0 { 0 } else { 4 }..encoded.len() - 2].to_owned()
    })
}

/// The kinds of secrets that stand in a line.
pub fn secrets_in(line: &str) -> Vec<Kind> {
    let lower = line.to_ascii_lowercase();
    // A scheme, and something that is no word of a sentence.
    let has_credentials = |scheme: &str| {
        lower.match_indices(scheme).any(|(at, _)| {
            let value = &line[at + scheme.len()..];
            let length = run(value, |c| is_token_char(c) || "+/.=~".contains(c));
            let value = &value[..length];
            length >= 8 && value.chars().any(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
        })
    };
    let has_field = lower.match_indices("authorization").any(|(at, found)| {
        let rest = lower[at + found.len()..].trim_start_matches(['"', '\\', ' ']);
        rest.strip_prefix([':', '=']).is_some_and(|value| {
            let value = value.trim_start_matches(['"', '\\', ' ']);
            let value = &value[..run(value, |c| !"\"`,}".contains(c))];
            // Which scheme there should be is no secret.
            !["", "basic", "bearer"].contains(&value.trim_end())
        })
    });
    let has_private_member = MEMBERS.iter().any(|member| marked(line, member, 16));
    let checks = [
        (Kind::Jwt, has_jwt(line)),
        (Kind::Authorization, has_field || has_credentials("basic ") || has_credentials("bearer ")),
        (Kind::RefreshToken, marked(line, "cambio_rt_", 8)),
        (Kind::OpaqueToken, marked(line, "cambio_at_", 8)),
        (Kind::PrivateKey, line.contains("PRIVATE KEY-----") || has_private_member),
        (Kind::PasswordHash, line.contains("$argon2")),
        (Kind::Registered, REGISTERED.iter().any(|secret| line.contains(secret))),
        (Kind::RegisteredInBase64, ENCODED.iter().any(|part| line.contains(part))),
    ];
    checks.into_iter().filter(|(_, is_there)| *is_there).map(|(kind, _)| kind).collect()
}

#[test]
fn every_kind_of_secret_is_found_where_it_is_planted() {
    let basic = |pair: &str| base64::engine::general_purpose::STANDARD.encode(pair);
    for (planted, kind) in [
        ("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln", Kind::Jwt),
        ("{\\\"token\\\":\\\"eyJhbGciOiJFUzI1NiJ9\\\"}", Kind::Jwt),
        ("authorization: x", Kind::Authorization),
        ("{\"Authorization\":\"Negotiate x\"}", Kind::Authorization),
        (&format!("sent Basic {}", basic("a:b1c2d3")), Kind::Authorization),
        ("with Bearer mF_9.B5f-4.1JqM", Kind::Authorization),
        ("cambio_rt_AAECAwQFBgcICQ", Kind::RefreshToken),
        ("cambio_at_AAECAwQFBgcICQ", Kind::OpaqueToken),
        ("-----BEGIN PRIVATE KEY-----", Kind::PrivateKey),
        ("-----BEGIN EC PRIVATE KEY-----", Kind::PrivateKey),
        (r#"{"kty":"EC","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#, Kind::PrivateKey),
        ("$argon2id$v=19$m=19456,t=2,p=1$AQ$AQ", Kind::PasswordHash),
        ("password=canary-of-a-test", Kind::Registered),
        ("portal-secret-at-the-idp", Kind::Registered),
        (&basic("a:portal-secret-of-many-bytes"), Kind::RegisteredInBase64),
        (&basic("ab:portal-secret-of-many-bytes"), Kind::RegisteredInBase64),
        (&basic("abc:portal-secret-of-many-bytes"), Kind::RegisteredInBase64),
    ] {
        let line = format!("{{\"message\":\"a {planted} in it\"}}");
        assert!(secrets_in(&line).contains(&kind), "{kind:?}: {line}");
    }
    // What is said all the time is none.
    for fine in [
        "{\"message\":\"exchange\",\"jti\":\"E23BD04b3ALB7FOVpWdOSh5GMBBrh3FWplScokB0acfbSO3KMpC2mg\"}",
        "{\"reason\":\"client_secret_wrong\",\"sub_hash\":\"hm8GJs6M8Q0fv64vbayghGxAvbvFM7LDC9XG0pQmeno\"}",
        "the bearer token is missing, and basic authentication is not used; no Authorization field",
        "cambio_exchanges_total{issuer=\"partner\",outcome=\"granted\",reason=\"none\"} 1",
        "{\"jti\":\"n93ccseTFE8Y2_wIkRWDCkWiz5B1hxKeyJ3SG5--7NskN5zv0-8aeg\",\"family\":\"yJ3SG5--7Ns\"}",
        "{\"why\":\"`Authorization: Bearer` with the configured `admin.token` is needed\"}",
        "test secrecy::nothing_secret_is_ever_said ... ok",
    ] {
        assert_eq!(secrets_in(fine), [], "{fine}");
    }
}

/// Prints past the harness, which keeps what passing tests print to itself.
fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

#[test]
fn what_the_suite_has_said_holds_no_secret() {
    let Some(folder) = std::env::var_os(SAID).filter(|_| std::env::var_os("CAMBIO_SCAN").is_some())
    else {
        return tell("NOT SEARCHED: what the whole suite says, at trace level (make secrecy)");
    };
    let (mut files, mut lines, mut bytes) = (0_usize, 0_usize, 0_usize);
    let (mut audited, mut talkative, mut series) = (0_usize, 0_usize, 0_usize);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        let content = String::from_utf8_lossy(&content);
        files += 1;
        bytes += content.len();
        for line in content.lines() {
            lines += 1;
            audited += usize::from(line.contains("\"target\":\"audit\""));
            talkative += usize::from(
                line.contains("\"level\":\"DEBUG\"") || line.contains("\"level\":\"TRACE\""),
            );
            series += usize::from(line.starts_with("cambio_"));
            let kinds = secrets_in(line);
            if !kinds.is_empty() {
                found.push(format!("{}: {kinds:?}: {line}", path.display()));
            }
        }
    }
    tell(&format!(
        "searched: {files} files, {lines} lines, {bytes} bytes; {audited} audit events, \
         {talkative} lines below info, {series} series of metrics; with secrets in them: {} lines",
        found.len()
    ));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    // Silence would hold no secret either.
    assert!(audited > 1000 && talkative > 0 && series > 1000, "hardly anything was said");
}
