//! `cambio init` as operators run it, before several kinds of identity providers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cambio::clock;
use cambio::config::{self, Config};
use cambio::dev::idp::StandInIdp;
use cambio::dev::issuer::StandInIssuer;
use cambio::dev::loopback::Reservation;
use cambio::jwt::algorithm::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, command};
use super::support::{
    Connection, Recorded, Upstream, install_crypto, post, response, write_private,
};

struct Ran {
    code: Option<i32>,
    out: String,
    told: String,
}

async fn cambio(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = command(folder, arguments);
    command.current_dir(folder).stdout(std::process::Stdio::piped());
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), told: text(output.stderr) }
}

async fn init(folder: &Path, upstream: &str, more: &[&str]) -> Ran {
    cambio(folder, &[&["init", "--upstream", upstream], more].concat()).await
}

fn load(folder: &Path) -> Config {
    config::load(&folder.join("cambio.yaml")).unwrap_or_else(|faults| panic!("{faults:#?}")).0
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An identity provider that has these documents, by their paths, and nothing else.
async fn provider(
    documents: impl Fn(&Recorded) -> Vec<(&'static str, Value)> + Send + Sync + 'static,
) -> Upstream {
    Upstream::answering(move |request| {
        let found = documents(request);
        let document = found.iter().find(|(path, _)| *path == request.target());
        match document {
            Some((_, document)) => {
                let fields = [("Content-Type", "application/json")];
                response("200 OK", &fields, document.to_string().as_bytes())
            }
            None => response("404 Not Found", &[], b""),
        }
    })
    .await
}

fn metadata(issuer: &str, origin: &str) -> Value {
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{origin}/token"),
        "jwks_uri": format!("{origin}/jwks"),
        "introspection_endpoint": format!("{origin}/introspect"),
    })
}

/// A key set that some verifier could use.
fn keys() -> Value {
    json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "theirs", "use": "sig", "alg": "ES256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})
}

#[tokio::test]
async fn what_it_writes_is_served_and_exchanges_once_an_issuer_and_an_application_are_named() {
    install_crypto();
    let (clients, operators) = (Reservation::make().unwrap(), Reservation::make().unwrap());
    let issuer = format!("http://{}", clients.address());
    let idp = StandInIdp::start(Some(issuer.clone())).await.unwrap();
    let partner = StandInIssuer::start(&[Algorithm::ES256]).await.unwrap();
    let folder = TempDir::new().unwrap();
    let (listen, admin) = (clients.address().to_string(), operators.address().to_string());
    let ran = init(folder.path(), &idp.origin(), &["--listen", &listen, "--admin", &admin]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.told);
    assert!(ran.out.contains(&format!("the issuer is {issuer}.\n")), "{}", ran.out);
    assert!(ran.out.contains("Wrote cambio.yaml, with a new signing key beside it"), "{}", ran.out);
    assert_eq!(files(folder.path()), ["cambio.yaml", "signing.pem"]);
    let file = folder.path().join("cambio.yaml");
    for name in ["cambio.yaml", "signing.pem"] {
        let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let checked = cambio(folder.path(), &["check", "--config", "cambio.yaml"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.out);
    assert!(checked.out.contains("ok (1 listener, 1 signing key, 0 trusted"), "{}", checked.out);

    let mut process = Process::start(folder.path(), &file).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let (name, place) = (partner.issuer(), partner.jwks_url());
    write_private(&folder.path().join("portal.secret"), "a-secret-of-the-portal");
    let more = format!(
        "\ntrusted_token_issuers:\n  - {{ name: partner, issuer: {name}, jwks_endpoint: {place} }}\n\
         applications:\n  - client_id: portal\n    client_secret: {{ file: portal.secret }}\n    \
         type: traditional_web\n    \
         allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange]\n"
    );
    std::fs::write(&file, text + &more).unwrap();
    process.hears("the new configuration serves").await;
    let claims = partner.claims("alice", &issuer, clock::now().as_secs());
    let token = partner.mint(Algorithm::ES256, &claims).unwrap();
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
         &subject_token_type=urn:ietf:params:oauth:token-type:jwt\
         &client_id=portal&client_secret=a-secret-of-the-portal"
    );
    let mut connection = Connection::open(process.address).await;
    let answer = connection.request(post("/oauth2/token", "", &form)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["token_type"], "Bearer");
}

#[tokio::test]
async fn nothing_is_overwritten_and_a_key_that_is_there_is_used() {
    install_crypto();
    let idp = StandInIdp::start(None).await.unwrap();
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("signing.pem");
    let arguments = ["keys", "generate", "--algorithm", "EdDSA", "--out", "signing.pem"];
    assert_eq!(cambio(folder.path(), &arguments).await.code, Some(0));
    let pem = std::fs::read(&key).unwrap();
    let ran = init(folder.path(), &idp.origin(), &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.told);
    assert!(ran.out.contains("with the signing key that was there"), "{}", ran.out);
    assert_eq!(std::fs::read(&key).unwrap(), pem);
    let signing = load(folder.path()).signing_keys;
    assert_eq!(signing.iter().next().unwrap().algorithm(), Algorithm::EdDSA);

    let before = std::fs::read(folder.path().join("cambio.yaml")).unwrap();
    let ran = init(folder.path(), &idp.origin(), &[]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.told.contains("cambio.yaml: exists already, and is not overwritten"),
        "{}",
        ran.told
    );
    assert_eq!(std::fs::read(folder.path().join("cambio.yaml")).unwrap(), before);
    // Nor where it leads nowhere.
    std::os::unix::fs::symlink("nowhere", folder.path().join("link.yaml")).unwrap();
    let ran = init(folder.path(), &idp.origin(), &["--out", "link.yaml"]).await;
    assert!(ran.told.contains("link.yaml: exists already"), "{}", ran.told);

    // Of another algorithm than is wanted, it is neither used nor replaced.
    let ran =
        init(folder.path(), &idp.origin(), &["--out", "b.yaml", "--algorithm", "ES256"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.told.contains("is not a private key for the algorithm"), "{}", ran.told);
    // Readable for others, it makes a configuration that does not hold.
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = init(folder.path(), &idp.origin(), &["--out", "b.yaml"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.told.contains("can be used by others than its owner"), "{}", ran.told);
    assert_eq!(files(folder.path()), ["cambio.yaml", "link.yaml", "signing.pem"]);
    assert_eq!(std::fs::read(&key).unwrap(), pem);
}

#[tokio::test]
async fn it_can_be_printed_instead() {
    install_crypto();
    let idp = StandInIdp::start(None).await.unwrap();
    let folder = TempDir::new().unwrap();
    let ran = init(folder.path(), &idp.origin(), &["--out", "-"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.told);
    assert!(ran.out.starts_with("# Cambio in front of http://127.0.0.1:"), "{}", ran.out);
    assert!(
        ran.told
            .starts_with("Read /.well-known/openid-configuration: the issuer is http://127.0.0.1")
    );
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn metadata_are_found_wherever_servers_have_them() {
    install_crypto();
    const ISSUER: &str = "https://idp.example/realms/x";
    let openid = "/realms/x/.well-known/openid-configuration";
    let oauth = "/.well-known/oauth-authorization-server/realms/x";
    for (given, there, found) in [
        ("/realms/x", vec![openid], vec![openid]),
        ("/realms/x/", vec![oauth], vec![oauth]),
        ("/realms/x", vec![oauth, openid], vec![openid, oauth]),
        // Its document alone is known.
        (openid, vec![oauth, openid], vec![openid, oauth]),
        ("/odd/place.json", vec!["/odd/place.json", oauth], vec!["/odd/place.json", oauth]),
        // The issuer has another path than what was given.
        (
            "",
            vec!["/.well-known/openid-configuration", oauth],
            vec!["/.well-known/openid-configuration", oauth],
        ),
        (
            "/base",
            vec!["/.well-known/openid-configuration"],
            vec!["/.well-known/openid-configuration"],
        ),
    ] {
        let idp = provider(move |_| {
            let documents =
                there.iter().map(|path| (*path, metadata(ISSUER, "https://idp.example")));
            documents.chain([("/jwks", keys())]).collect()
        })
        .await;
        let folder = TempDir::new().unwrap();
        let ran = init(folder.path(), &format!("{}{given}", idp.url()), &[]).await;
        assert_eq!(ran.code, Some(0), "{given}: {}", ran.told);
        let config = load(folder.path());
        assert_eq!(config.endpoints.metadata, found, "{given}");
        assert_eq!(config.endpoints.token, ["/token"]);
        assert_eq!(config.endpoints.jwks.as_deref(), Some("/jwks"));
        assert_eq!(config.policy.authorization_server(), ISSUER);
        let text = std::fs::read_to_string(folder.path().join("cambio.yaml")).unwrap();
        assert!(!text.contains("ATTENTION"), "{text}");
    }
}

/// Another issuer's metadata on the same host are not taken for this one's.
#[tokio::test]
async fn another_issuers_metadata_stay_out() {
    install_crypto();
    let idp = provider(|_| {
        vec![
            (
                "/a/.well-known/openid-configuration",
                metadata("https://idp.example/a", "https://idp.example/a"),
            ),
            (
                "/.well-known/openid-configuration",
                metadata("https://idp.example", "https://idp.example"),
            ),
        ]
    })
    .await;
    let folder = TempDir::new().unwrap();
    assert_eq!(init(folder.path(), &format!("{}/a", idp.url()), &[]).await.code, Some(0));
    let config = load(folder.path());
    assert_eq!(config.endpoints.metadata, ["/a/.well-known/openid-configuration"]);
    assert_eq!(config.policy.authorization_server(), "https://idp.example/a");
}

#[tokio::test]
async fn keys_on_another_host_are_fetched_there() {
    install_crypto();
    let elsewhere = provider(|_| vec![("/set.json", keys())]).await;
    let jwks_uri = format!("{}/set.json", elsewhere.url());
    let expected = jwks_uri.clone();
    let idp = provider(move |_| {
        let mut document = metadata("https://idp.example", "https://idp.example");
        document["jwks_uri"] = json!(jwks_uri);
        vec![("/.well-known/openid-configuration", document)]
    })
    .await;
    let folder = TempDir::new().unwrap();
    let ran = init(folder.path(), &idp.url(), &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.told);
    let config = load(folder.path());
    assert_eq!(config.upstream_jwks.unwrap().url.as_str(), expected);
    assert_eq!(config.endpoints.jwks.as_deref(), Some("/set.json"));
}

#[tokio::test]
async fn who_takes_its_name_from_the_request_is_asked_as_clients_do() {
    install_crypto();
    let idp = provider(|request| {
        let field = |name| request.header(name).unwrap_or_default().to_owned();
        let proto = request.header("X-Forwarded-Proto").unwrap_or("http");
        let origin = format!("{proto}://{}", field("Host"));
        vec![("/.well-known/openid-configuration", metadata(&origin, &origin)), ("/jwks", keys())]
    })
    .await;
    let folder = TempDir::new().unwrap();
    let public = ["--public-url", "https://login.example"];
    assert_eq!(init(folder.path(), &idp.url(), &public).await.code, Some(0));
    assert_eq!(load(folder.path()).policy.authorization_server(), "https://login.example");
    let asked = idp.last();
    assert_eq!(asked.header("X-Forwarded-Host"), Some("login.example"));
    assert_eq!(asked.header("Forwarded"), Some("host=\"login.example\";proto=https"));
    let plain = TempDir::new().unwrap();
    assert_eq!(init(plain.path(), &idp.url(), &[]).await.code, Some(0));
    assert_eq!(load(plain.path()).policy.authorization_server(), idp.url());
    let text = std::fs::read_to_string(plain.path().join("cambio.yaml")).unwrap();
    assert!(text.contains("To decide: only this machine can call it by that name"), "{text}");
}

#[tokio::test]
async fn where_nothing_is_found_every_place_is_named_with_the_reason() {
    install_crypto();
    let idp = Upstream::answering(|request| match request.target() {
        "/x/.well-known/openid-configuration" => {
            response("302 Found", &[("Location", "http://evil.example/")], b"")
        }
        "/.well-known/oauth-authorization-server/x" => response("200 OK", &[], b"<html>"),
        "/x/.well-known/oauth-authorization-server" => {
            response("200 OK", &[], &vec![b' '; 600_000])
        }
        "/.well-known/openid-configuration/x" => response("200 OK", &[], b"{\"issuer\":7}"),
        "/x" => Vec::new(),
        _ => response("404 Not Found", &[], b""),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let ran = init(folder.path(), &format!("{}/x", idp.url()), &[]).await;
    assert_eq!(ran.code, Some(1));
    let no_document = "the metadata is larger than allowed, or not a JSON object";
    for (place, why) in [
        ("/x/.well-known/openid-configuration", "the answer is a redirect, which is not followed"),
        ("/.well-known/oauth-authorization-server/x", no_document),
        ("/x/.well-known/oauth-authorization-server", no_document),
        ("/.well-known/openid-configuration/x", "it has no `issuer` that is a text"),
        ("/x", "the connection broke"),
        ("/.well-known/openid-configuration", "the answer has status 404"),
        ("/.well-known/oauth-authorization-server", "the answer has status 404"),
    ] {
        assert!(ran.told.contains(&format!("\n  {place}: {why}")), "{place}: {}", ran.told);
    }
    assert_eq!(idp.requests().len(), 7);
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn a_hostile_document_leads_to_a_sentence_and_to_no_file() {
    install_crypto();
    for (name, value, said) in [
        (
            "issuer",
            json!("https://idp.example/\u{1b}[2J\nlisten: []"),
            "its `issuer` is no http or https URL",
        ),
        ("issuer", json!("https://user:pass@idp.example"), "its `issuer` is no http or https URL"),
        (
            "token_endpoint",
            json!("https://idp.example/a%0ab"),
            "its `token_endpoint` can't be used",
        ),
        ("token_endpoint", json!("javascript:alert(1)"), "its `token_endpoint` can't be used"),
        ("jwks_uri", json!(["https://idp.example/jwks"]), "its `jwks_uri` can't be used"),
        (
            "jwks_uri",
            json!("https://idp.example/TOKEN"),
            "`jwks_uri` and its `token_endpoint` have the same path",
        ),
    ] {
        let idp = provider(move |_| {
            let mut document = metadata("https://idp.example", "https://idp.example");
            document[name] = value.clone();
            vec![("/.well-known/openid-configuration", document)]
        })
        .await;
        let folder = TempDir::new().unwrap();
        let ran = init(folder.path(), &idp.url(), &[]).await;
        assert_eq!(ran.code, Some(1), "{name}");
        assert!(ran.told.contains(said), "{}", ran.told);
        assert!(!ran.told.trim_end().contains(['\u{1b}', '\n']), "{:?}", ran.told);
        assert!(files(folder.path()).is_empty());
    }
}

#[tokio::test]
async fn a_wrong_url_is_wrong_usage() {
    let folder = TempDir::new().unwrap();
    for url in [
        "idp.example",
        "ftp://idp.example",
        "https://",
        "https://u@idp.example",
        "https://idp.example?x",
        "https://idp.example#x",
    ] {
        let ran = init(folder.path(), url, &[]).await;
        assert_eq!(ran.code, Some(2), "{url}: {}", ran.told);
    }
}
