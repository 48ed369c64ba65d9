//! A configuration with everything in order and the files that it names, of which a test changes
//! one thing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cambio::config::{self, Config, Fault, Severity, Surroundings};
use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::{SigningKey, generate_pem};
use cambio::time::Timestamp;
use serde_json::json;
use tempfile::TempDir;

/// 2026-07-01T00:00:00Z.
pub const NOW: u64 = 1_782_864_000;
/// In every secret place there is one of these. None may be seen outside.
pub const CANARY: &str = "canary-7f3a";

pub const BASE: &str = r#"listen:
  - address: 127.0.0.1:8080
admin: { address: 127.0.0.1:9464 }
upstream:
  url: https://idp.internal:8443
  timeouts: { connect: 2s, read: 30s }
authorization_server:
  issuer: https://idp.example.com/oauth2/token
  overlay: false
  endpoints:
    token: [/oauth2/token]
    jwks: /oauth2/jwks
    metadata: []
    revocation: /oauth2/revoke
  unknown_issuers: reject
signing_keys:
  - algorithm: ES256
    private_key: { file: signing.pem }
trusted_token_issuers:
  - name: partner
    issuer: https://partner.example/token
    alias: https://partner.example/our-name
    jwks_endpoint: https://partner.example/jwks
    clock_skew: 30s
    subject_prefix: "p:"
  - name: batch
    issuer: urn:example:batch
    certificate: { file: partner.pem }
    subject_prefix: "b:"
applications:
  - name: Portal
    client_id: portal
    client_secret: { env: PORTAL_SECRET }
    type: traditional_web
    allowed_grant_types:
      - urn:ietf:params:oauth:grant-type:token-exchange
    trusted_token_issuers: [partner]
    audiences: [https://api.example.com]
    scopes: [read, write]
    access_token: { lifetime: 1h }
  - client_id: phone
    type: mobile
    allowed_grant_types: [client_credentials]
limits: { connections: 100 }
"#;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    folder
});

/// Where the files lie that [`BASE`] and the tests name.
pub fn folder() -> &'static Path {
    FOLDER.path()
}

pub fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A self-signed certificate and its key, both in PEM.
pub fn certificate(
    algorithm: &'static rcgen::SignatureAlgorithm,
    years: (i32, i32),
) -> (String, String) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Every file that [`BASE`], the tests and `config/example.yaml` name.
pub fn fill(folder: &Path) {
    let at = |name: &str| folder.join(name);
    let es256 = generate_pem(Algorithm::ES256).unwrap();
    write(&at("signing.pem"), es256.as_bytes(), 0o600);
    write(&at("shared.pem"), es256.as_bytes(), 0o640);
    write(&at("ed25519.pem"), generate_pem(Algorithm::EdDSA).unwrap().as_bytes(), 0o600);
    write(&at("garbage.pem"), CANARY, 0o600);
    let valid = (2025, 2036);
    let (tls, key) = certificate(&rcgen::PKCS_ECDSA_P256_SHA256, valid);
    write(&at("tls.crt"), &tls, 0o644);
    write(&at("tls.key"), &key, 0o600);
    write(&at("tls-shared.key"), &key, 0o644);
    write(&at("ca.pem"), &tls, 0o644);
    let (partner, key) = certificate(&rcgen::PKCS_ECDSA_P256_SHA256, valid);
    write(&at("partner.pem"), &partner, 0o644);
    write(&at("other.key"), &key, 0o600);
    for (name, years) in [("expired.pem", (2020, 2026)), ("future.pem", (2027, 2036))] {
        write(&at(name), certificate(&rcgen::PKCS_ECDSA_P256_SHA256, years).0, 0o644);
    }
    let jwk = SigningKey::from_pkcs8_pem(es256.as_bytes(), Algorithm::ES256, None, None).unwrap();
    let good = serde_json::to_value(jwk.jwk()).unwrap();
    let symmetric = json!({"kty": "oct", "k": CANARY});
    let jwks = |name: &str, keys: serde_json::Value| {
        write(&at(name), json!({ "keys": keys }).to_string(), 0o644);
    };
    jwks("partner-jwks.json", json!([good]));
    jwks("half-jwks.json", json!([symmetric, good]));
    jwks("useless-jwks.json", json!([symmetric]));
    write(&at("portal-secret"), format!("{CANARY}-in-a-file\n"), 0o600);
    write(&at("secret-shared"), format!("{CANARY}-in-a-file\n"), 0o604);
    write(&at("secret-empty"), "\n", 0o600);
    // The line end is no part of it: of 15 bytes, and of 16.
    write(&at("secret-short"), format!("{CANARY}-123\n"), 0o600);
    write(&at("secret-of-16"), format!("{CANARY}-1234\r\n"), 0o600);
    write(&at("token"), format!("{CANARY}-token\n"), 0o644);
    write(&at("binary"), b"\xff\xfe", 0o600);
    write(&at("large"), vec![b'x'; 2 * 1024 * 1024], 0o600);
}

pub fn environment(name: &str) -> Option<String> {
    match name {
        "PORTAL_SECRET" => Some(format!("{CANARY}-in-the-environment")),
        "NEXT_SIGNING_KEY" => Some(fs::read_to_string(folder().join("ed25519.pem")).unwrap()),
        "ADMIN_TOKEN" => Some(format!("{CANARY}-of-the-operators")),
        "REDIS_PASSWORD" => Some(format!("{CANARY}: of Redis\n")),
        "SHORT" => Some(CANARY.to_owned()),
        "OF_15_BYTES" => Some(format!("{CANARY}-123")),
        "OF_16_BYTES" => Some(format!("{CANARY}-1234")),
        "EMPTY" => Some(String::new()),
        "GARBAGE" => Some(format!("{CANARY} garbage")),
        _ => None,
    }
}

pub fn file() -> PathBuf {
    folder().join("cambio.yaml")
}

pub fn load(text: impl AsRef<[u8]>) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
    let now = Timestamp::from_secs(NOW);
    let file = file();
    let result = config::parse(text, &Surroundings { file: &file, environment: &environment, now });
    let (Ok((_, findings)) | Err(findings)) = &result;
    for finding in findings {
        let told = format!("{finding} {finding:?}");
        assert!(!told.contains(CANARY), "a secret stands in: {told}");
    }
    result
}

/// [`BASE`] with one thing changed.
pub fn changed(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} must stand in the base exactly once");
    BASE.replacen(from, to, 1)
}

/// Takes the mark `§` out of a text and gives its line and column.
pub fn unmark(text: &str) -> (String, usize, usize) {
    let (before, after) = text.split_once('§').expect("the text has a mark");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (format!("{before}{after}"), line, column)
}

pub fn of(findings: &[Fault], severity: Severity) -> Vec<&Fault> {
    findings.iter().filter(|finding| finding.severity == severity).collect()
}

/// What stands in the base, what is put there (with `§` before the place that is to be named), the
/// path that is to be named, and a part of the sentence.
pub type Case = (&'static str, &'static str, &'static str, &'static str);

/// Each change is found, at its very place, and nothing else of that severity is.
pub fn each(severity: Severity, cases: &[Case]) {
    for (from, to, path, part) in cases {
        one(severity, from, to, path, part);
    }
}

/// As [`each`], of faults: of changes to one thing, whose paths begin alike.
pub fn each_of(from: &str, begin: &str, cases: &[(&str, &str, &str)]) {
    for (to, end, part) in cases {
        one(Severity::Fault, from, to, &format!("{begin}{end}"), part);
    }
}

fn one(severity: Severity, from: &str, to: &str, path: &str, part: &str) {
    let (text, line, column) = unmark(&changed(from, to));
    let (findings, is_loaded) = match load(&text) {
        Ok((_, warnings)) => (warnings, true),
        Err(findings) => (findings, false),
    };
    assert_eq!(is_loaded, severity == Severity::Warning, "{to:?}: {findings:#?}");
    let found = of(&findings, severity);
    let [found] = found.as_slice() else { panic!("{to:?}: one is expected: {findings:#?}") };
    assert_eq!((found.line, found.column), (line, column), "{to:?}: {found}");
    assert_eq!(found.path, path, "{to:?}: {found}");
    assert!(found.message.contains(part), "{to:?}: {found}");
}
