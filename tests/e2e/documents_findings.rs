//! What operators are told of the upstream's documents, and of their own keys.

use cambio::jwt::algorithm::Algorithm;
use cambio::jwt::sign::generate_pem;
use serde_json::json;

use super::documents_support::{
    GRANT, Idp, JWKS, METADATA, ask, findings, json, keys, kids, overlay_of, settled, status,
};
use super::support::{Cambio, get, response, write, write_private};

const ISSUER: &str = "http://idp.example";

#[tokio::test]
async fn what_is_wrong_is_shown_as_long_as_it_is_so() {
    let fine = || json(format!("{{\"issuer\":\"{ISSUER}\"}}"));
    for (path, body, finding) in [
        (
            METADATA,
            r#"{"issuer":"http://idp.example","signed_metadata":"a.b.c"}"#,
            "signed_metadata",
        ),
        (METADATA, r#"{"issuer":"https://other.example"}"#, "other_issuer"),
        (
            METADATA,
            r#"{"issuer":"http://idp.example","grant_types_supported":"x"}"#,
            "grants_mistyped",
        ),
        (
            METADATA,
            r#"{"issuer":"http://idp.example","token_endpoint":"http://idp.example/t"}"#,
            "endpoint_elsewhere",
        ),
        (METADATA, "{}", "no_metadata"),
        (JWKS, r#"{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB","d":"very-secret"}]}"#, "private_key"),
        (JWKS, r#"{"keys":[{"kty":"oct","k":"very-secret"}]}"#, "private_key"),
        (JWKS, "{}", "no_key_set"),
    ] {
        let idp = Idp::start(
            move |request| {
                if request.target() == METADATA { fine() } else { keys(request) }
            },
        )
        .await;
        let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, METADATA, "")).await;
        settled(&cambio, &idp).await;
        assert_eq!(findings(&cambio).await, [], "before {finding}");
        idp.answers(move |_| json(body));
        let answer = ask(&cambio, get(path, "")).await;
        assert_eq!(answer.status, 200);
        let all = findings(&cambio).await;
        assert!(all.contains(&(path.to_owned(), finding.to_owned())), "{all:?}");
        assert!(!status(&cambio).await.to_string().contains("very-secret"));
        match finding {
            // The signed form would say otherwise, so that it passes to the byte.
            "signed_metadata" => assert_eq!(answer.text(), body),
            // It is the upstream's own, and everybody has it already.
            "private_key" => assert!(answer.text().contains("very-secret")),
            "no_metadata" | "no_key_set" => assert!(answer.body.len() > 2),
            _ => assert!(answer.text().contains(GRANT)),
        }
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
    }
}

#[tokio::test]
async fn nothing_is_said_of_what_others_see() {
    let fine = || json(format!("{{\"issuer\":\"{ISSUER}\"}}"));
    let idp = Idp::start(move |_| fine()).await;
    let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, METADATA, "")).await;
    settled(&cambio, &idp).await;
    idp.answers(|_| response("404 Not Found", &[], b""));
    assert_eq!(ask(&cambio, get(METADATA, "")).await.status, 404);
    assert!(findings(&cambio).await.contains(&(METADATA.to_owned(), "not_served".to_owned())));
    // What others see, or another tenant has, is not said of ours.
    idp.answers(|_| json(r#"{"issuer":"https://other.example"}"#));
    cambio.request(format!("GET {METADATA} HTTP/1.1\r\nHost: other.example\r\n\r\n")).await;
    cambio.request(get(&format!("{METADATA}?tenant=other"), "")).await;
    assert!(findings(&cambio).await.contains(&(METADATA.to_owned(), "not_served".to_owned())));
}

#[tokio::test]
async fn without_overlay_there_is_nothing_to_find() {
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), "").await;
    assert_eq!(status(&cambio).await["overlay"], json!(null));
}

/// Writes a key, and gives the lines of configuration with these ones instead of the usual.
fn signing_keys(folder: &std::path::Path, upstream: &str, keys: &str) {
    let config = write(folder, upstream, &overlay_of(ISSUER, METADATA, ""));
    let more = "applications:\n  - { client_id: app, type: mobile, access_token: { lifetime: 1h }, \
                allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"] }\n";
    let text = std::fs::read_to_string(&config).unwrap();
    let usual = "signing_keys: [{ algorithm: ES256, private_key: { file: signing.pem } }]\n";
    assert!(text.contains(usual));
    std::fs::write(&config, text.replace(usual, &format!("signing_keys: [{keys}]\n")) + more)
        .unwrap();
}

#[tokio::test]
async fn a_signing_key_that_is_taken_out_too_early_is_told_of() {
    const OLD: &str = "{ algorithm: ES256, kid: old, private_key: { file: signing.pem } }";
    const NEW: &str = "{ algorithm: EdDSA, kid: new, private_key: { file: new.pem } }";
    const SOON: &str = "{ algorithm: EdDSA, kid: new, private_key: { file: new.pem }, not_before: 2100-01-01T00:00:00Z }";
    let idp = Idp::start(keys).await;
    let cambio = Cambio::start(&idp.upstream.url(), &overlay_of(ISSUER, METADATA, "")).await;
    let folder = cambio.folder.path();
    write_private(&folder.join("new.pem"), &generate_pem(Algorithm::EdDSA).unwrap());
    let reload = async |keys: String| {
        signing_keys(folder, &idp.upstream.url(), &keys);
        let config = cambio::config::load(&folder.join("cambio.yaml"));
        let (config, _) = config.unwrap_or_else(|faults| panic!("{faults:#?}"));
        cambio.running.reload(config).await.unwrap();
    };
    let published = async || kids_of(&cambio).await;
    let missed = async || -> Vec<String> {
        let status = status(&cambio).await;
        let all = status["missed_signing_keys"].as_array().unwrap().clone();
        all.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let signing = async || -> String {
        let status = status(&cambio).await;
        let keys = status["signing_keys"].as_array().unwrap().clone();
        let active = keys.iter().find(|key| key["active"] == true).unwrap();
        active["kid"].as_str().unwrap().to_owned()
    };
    reload(OLD.to_owned()).await;
    // Published before it signs, and of another algorithm than any of theirs.
    reload(format!("{SOON}, {OLD}")).await;
    assert_eq!(published().await, ["theirs", "new", "old"]);
    assert_eq!((signing().await, missed().await), ("old".to_owned(), vec![]));
    // It signs, and the one before it stays.
    reload(format!("{NEW}, {OLD}")).await;
    assert_eq!(published().await, ["theirs", "new", "old"]);
    assert_eq!((signing().await, missed().await), ("new".to_owned(), vec![]));
    // Taken out it is not published any more, as it may be stolen; but that is told.
    reload(NEW.to_owned()).await;
    assert_eq!(
        (published().await, missed().await),
        (vec!["theirs".into(), "new".into()], vec!["old".to_owned()])
    );
    let until = status(&cambio).await["missed_signing_keys"][0]["tokens_until"].clone();
    let until: jiff::Timestamp = until.as_str().unwrap().parse().unwrap();
    let ahead = until.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((3000..=3600).contains(&ahead), "{ahead}");
    // Back again, nobody misses it.
    reload(format!("{NEW}, {OLD}")).await;
    assert_eq!(missed().await, Vec::<String>::new());
}

async fn kids_of(cambio: &Cambio) -> Vec<String> {
    let document = cambio.request(get(JWKS, "")).await.json();
    kids(&document).into_iter().map(str::to_owned).collect()
}
