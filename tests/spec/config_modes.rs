//! Who may use the file of a key or of a secret: mode by mode.

use std::fs;

use cambio::config::Severity;

use super::config_support::{changed, folder, load, of, write};

const REFUSED: &str =
    "the file that is named here can be used by others than its owner: chmod 600 it";
const TOLD: &str = "the file that is named here can be used by others than its owner: chmod 600 it \
                    where that is possible";

/// What is found where `text` names a file of this content and mode: faults, and warnings.
fn found(text: &str, name: &str, content: &str, mode: u32) -> (Vec<String>, Vec<String>) {
    let path = folder().join(name);
    // One that nobody may write to could not be written anew.
    let _ = fs::remove_file(&path);
    write(&path, content, mode);
    let (Ok((_, findings)) | Err(findings)) = load(text);
    let messages = |severity| {
        of(&findings, severity)
            .iter()
            .map(|found| format!("{}: {}", found.path, found.message))
            .collect()
    };
    (messages(Severity::Fault), messages(Severity::Warning))
}

/// Every mode that gives group or others something.
fn open_modes() -> impl Iterator<Item = u32> {
    [0o400, 0o600].into_iter().flat_map(|owner| (1..=0o77).map(move |others| owner | others))
}

#[test]
fn a_signing_key_that_group_or_others_may_use_is_refused() {
    let pem = fs::read_to_string(folder().join("signing.pem")).unwrap();
    let text = changed("{ file: signing.pem }", "{ file: mode-signing.pem }");
    let found = |mode| found(&text, "mode-signing.pem", &pem, mode);
    for mode in [0o400, 0o600, 0o700] {
        assert_eq!(found(mode), (vec![], vec![]), "{mode:o}");
    }
    let refused = format!("signing_keys[0].private_key.file: {REFUSED}");
    for mode in open_modes() {
        assert_eq!(found(mode).0, [refused.as_str()], "{mode:o}");
    }
}

#[test]
fn a_tls_key_or_a_secret_that_group_or_others_may_use_is_told() {
    let key = fs::read_to_string(folder().join("tls.key")).unwrap();
    let tls = changed(
        "127.0.0.1:8080",
        "127.0.0.1:8080\n    tls: { certificate: { file: tls.crt }, private_key: { file: mode-tls.key } }",
    );
    let secret = changed("{ env: PORTAL_SECRET }", "{ file: mode-secret }");
    for (text, name, content, place) in [
        (&tls, "mode-tls.key", key.as_str(), "listen[0].tls.private_key.file"),
        (
            &secret,
            "mode-secret",
            "a secret of many characters",
            "applications[0].client_secret.file",
        ),
    ] {
        for mode in [0o400, 0o600] {
            assert_eq!(found(text, name, content, mode), (vec![], vec![]), "{name} {mode:o}");
        }
        for mode in open_modes() {
            let told = format!("{place}: {TOLD}");
            assert_eq!(found(text, name, content, mode), (vec![], vec![told]), "{name} {mode:o}");
        }
    }
}
