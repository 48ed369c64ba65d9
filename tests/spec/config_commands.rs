//! The commands about configuration, as an operator runs them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::SigningKey;
use cambio::secret::StoredSecret;

use super::config_support::{BASE, CANARY, environment, fill};

fn cambio(arguments: &[&str], folder: &Path, input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cambio"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PORTAL_SECRET", environment("PORTAL_SECRET").unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn check_says_ok_or_names_every_fault_and_ends_accordingly() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let check = || cambio(&["check", "--config", "cambio.yaml"], folder.path(), b"");
    let file = folder.path().join("cambio.yaml");

    fs::write(&file, BASE).unwrap();
    let sum = "ok (1 listener, 1 signing key, 2 trusted token issuers, 2 applications)";
    assert_eq!(check(), (Some(0), format!("cambio.yaml: {sum}\n"), String::new()));

    fs::write(&file, BASE.replace("url: https", "url: http")).unwrap();
    let (code, out, _) = check();
    assert_eq!(code, Some(0));
    assert!(out.starts_with("cambio.yaml:5:8: warning: upstream.url: ") && out.contains(sum));

    let broken = BASE
        .replace("127.0.0.1:8080", "nowhere")
        .replace("clock_skew: 30s", "clock_skew: 3m")
        .replace("{ env: PORTAL_SECRET }", CANARY)
        .replace("type: mobile", "type: mobil")
        .replace("connections: 100", "connections: 0");
    fs::write(&file, broken).unwrap();
    let (code, out, _) = check();
    assert_eq!(code, Some(78));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 6, "{out}");
    for (line, place) in lines.iter().zip(["2:14", "24:17", "33:20", "42:11", "44:24"]) {
        assert!(line.starts_with(&format!("cambio.yaml:{place}: ")), "{line}");
    }
    assert_eq!(lines[5], "cambio.yaml: 5 faults");
    assert!(!out.contains(CANARY));

    fs::remove_file(&file).unwrap();
    let (code, out, _) = check();
    assert_eq!(code, Some(78));
    assert!(out.starts_with("cambio.yaml:1:1: the file can't be read"), "{out}");
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["check"][..], &["serve"], &["keys", "generate"], &["nonsense"], &["schema", "--x"], &[]]
    {
        assert_eq!(cambio(arguments, folder.path(), b"").0, Some(2), "{arguments:?}");
    }
    let (code, out, _) = cambio(&["--version"], folder.path(), b"");
    assert_eq!((code, out), (Some(0), format!("cambio {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_generated_key_is_private_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let out = format!("{algorithm}.pem");
        let arguments = ["keys", "generate", "--algorithm", algorithm, "--out", &out];
        let (code, kid, _) = cambio(&arguments, folder.path(), b"");
        assert_eq!(code, Some(0));
        let path = folder.path().join(&out);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let pem = fs::read(&path).unwrap();
        let parsed = Algorithm::parse(algorithm).unwrap();
        let key = SigningKey::from_pkcs8_pem(&pem, parsed, None, None).unwrap();
        assert_eq!(kid, format!("{}\n", key.kid()));

        let (code, _, told) = cambio(&arguments, folder.path(), b"");
        assert_eq!(code, Some(1));
        assert!(told.contains("exists already, and is not overwritten"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), pem);
    }
    let arguments = ["keys", "generate", "--algorithm", "ES256", "--out", "nowhere/x.pem"];
    let (code, _, told) = cambio(&arguments, folder.path(), b"");
    assert_eq!(code, Some(1));
    assert!(told.contains("nowhere/x.pem: there is no such folder"), "{told}");
    let arguments = ["keys", "generate", "--algorithm", "HS256", "--out", "x"];
    assert_eq!(cambio(&arguments, folder.path(), b"").0, Some(2));
}

#[test]
fn a_hashed_secret_is_what_the_configuration_takes() {
    let folder = tempfile::tempdir().unwrap();
    let hash = |secret: &[u8]| cambio(&["hash-secret"], folder.path(), secret);
    let mut seen = Vec::new();
    for input in [&b"sixteen bytes ok"[..], b"sixteen bytes ok\n", b"sixteen bytes ok\r\n"] {
        let (code, out, _) = hash(input);
        assert_eq!(code, Some(0));
        let phc = out.strip_prefix("hash: \"").and_then(|rest| rest.strip_suffix("\"\n")).unwrap();
        let stored = StoredSecret::from_hash(phc).unwrap();
        assert!(stored.matches(b"sixteen bytes ok"));
        assert!(!seen.contains(&out), "the salt is random");
        seen.push(out);
    }
    let (code, out, told) = hash(b"fifteen bytes !\n");
    assert_eq!(code, Some(0), "a short secret is better hashed than in the clear");
    let phc = out.strip_prefix("hash: \"").and_then(|rest| rest.strip_suffix("\"\n")).unwrap();
    assert!(StoredSecret::from_hash(phc).unwrap().matches(b"fifteen bytes !"));
    assert!(told.contains("fewer than 16 bytes") && !told.contains("fifteen bytes"), "{told}");
    for none in [&b""[..], b"\n", b"\r\n"] {
        let (code, out, told) = hash(none);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(told.contains("no secret"), "{told}");
    }
    assert_eq!(hash(&[b'x'; 5000]).0, Some(1));
}

#[test]
fn the_schema_is_printed_as_it_is_shipped() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = cambio(&["schema"], folder.path(), b"");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema.json");
    assert_eq!((code, out), (Some(0), fs::read_to_string(shipped).unwrap()));
}
