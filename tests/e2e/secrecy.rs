//! What the real binary says at its most talkative: no token, no secret, no credential.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cambio::clock;
use cambio::dev::issuer::StandInIssuer;
use cambio::jwt::algorithm::Algorithm;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::inquiry_support::credentials;
use crate::process::command;
use crate::scan::{Kind, secrets_in};
use crate::support::{
    Connection, PATIENCE, Recorded, Upstream, folder, get, install_crypto, post, response, write,
    write_private,
};

const OURS: &str = "https://idp.example/oauth2/token";
const SECRET: &str = "canary-secret-of-the-portal";
/// Whatever a client, the issuer or the upstream sends that is none of a log's business.
const CANARIES: [&str; 11] = [
    SECRET,
    "canary-wrong-secret",
    "canary-cookie",
    "canary-bearer",
    "canary-query",
    "canary-body",
    "canary-set-cookie",
    "canary-subject",
    "canary-claim",
    "canary-secret-at-the-upstream",
    "canary-caller",
];

async fn exchange(address: SocketAddr, secret: &str, token: &str) -> Value {
    exchange_as("portal", address, secret, token).await
}

async fn exchange_as(client_id: &str, address: SocketAddr, secret: &str, token: &str) -> Value {
    let basic = STANDARD.encode(format!("{client_id}:{secret}"));
    let fields = format!("Authorization: Basic {basic}\r\nCookie: s=canary-cookie\r\n");
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token", token)
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .finish();
    let request = post("/oauth2/token", &fields, &body);
    Connection::open(address).await.request(request).await.json()
}

/// Whether the upstream knows the caller.
fn is_its_client(request: &Recorded) -> bool {
    credentials(request).is_some_and(|(_, secret)| secret == "canary-secret-at-the-upstream")
}

fn holds_jwt(body: &[u8]) -> bool {
    secrets_in(&String::from_utf8_lossy(body)).contains(&Kind::Jwt)
}

/// Asks about a token, as the client and as somebody else.
async fn inquire(address: SocketAddr, token: &str) {
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        for (caller, more) in
            [("canary-caller", ""), ("portal", ""), ("portal", "DPoP: canary-bearer\r\n")]
        {
            let basic = STANDARD.encode(format!("{caller}:canary-secret-at-the-upstream"));
            let fields = format!("Authorization: Basic {basic}\r\nCookie: canary-cookie\r\n{more}");
            let body = format!("token={token}&x=canary-body");
            Connection::open(address).await.request(post(path, &fields, &body)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_ever_said() {
    install_crypto();
    let issuer = StandInIssuer::start(&[Algorithm::RS256]).await.unwrap();
    let is_open = Arc::new(AtomicBool::new(false));
    let has_opened = Arc::clone(&is_open);
    let upstream = Upstream::answering(move |request| match request.target() {
        "/broken" => b"HTTP/1.1 canary-body\r\n\r\n".to_vec(),
        "/gone" => Vec::new(),
        "/oauth2/introspect" if request.header("dpop").is_some() => Vec::new(),
        "/oauth2/introspect" | "/oauth2/revoke"
            if !has_opened.load(Ordering::SeqCst) && !is_its_client(request) =>
        {
            response("401 Unauthorized", &[], br#"{"error":"invalid_client"}"#)
        }
        // It looks at no JWT.
        "/oauth2/introspect" | "/oauth2/revoke" if holds_jwt(&request.body) => {
            response("400 Bad Request", &[], br#"{"error":"unsupported_token_type"}"#)
        }
        "/oauth2/revoke" => response("200 OK", &[("Set-Cookie", "s=canary-set-cookie")], b""),
        "/oauth2/introspect" => {
            let set_cookie = [("Set-Cookie", "s=canary-set-cookie")];
            response("200 OK", &set_cookie, br#"{"active":false}"#)
        }
        _ => response("200 OK", &[("Set-Cookie", "s=canary-set-cookie")], b"canary-body"),
    })
    .await;
    let folder = folder();
    write_private(&folder.path().join("secret"), SECRET);
    let lines = format!(
        r#"
trusted_token_issuers:
  - {{ name: partner, issuer: "{}", jwks_endpoint: "{}", claims: {{ mail: email }} }}
applications:
  - client_id: portal
    client_secret: {{ file: secret }}
    type: traditional_web
    allowed_grant_types: ["urn:ietf:params:oauth:grant-type:token-exchange", refresh_token]
  - {{ client_id: "*", authentication: upstream }}
"#,
        issuer.issuer(),
        issuer.jwks_url(),
    );
    let config = write(folder.path(), &upstream.url(), &lines);
    let mut serving = command(folder.path(), &["serve", "--config", config.to_str().unwrap()])
        .env("CAMBIO_LOG", "trace")
        .spawn()
        .unwrap();
    let mut said = BufReader::new(serving.stderr.take().unwrap()).lines();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut all = String::new();
    while addresses.len() < 2 {
        let line = timeout(PATIENCE, said.next_line()).await.unwrap().unwrap().unwrap();
        let parsed: Value = serde_json::from_str(&line).unwrap();
        if parsed["message"].as_str().is_some_and(|message| message.starts_with("listening")) {
            addresses.push(parsed["address"].as_str().unwrap().parse().unwrap());
        }
        all += &line;
        all.push('\n');
    }
    let rest = tokio::spawn(async move {
        while let Ok(Some(line)) = said.next_line().await {
            all += &line;
            all.push('\n');
        }
        all
    });
    let [address, admin] = addresses[..] else { panic!("{addresses:?}") };

    let now = clock::now().as_secs();
    let mut claims = issuer.claims("canary-subject", OURS, now);
    claims["email"] = json!("canary-claim");
    claims["jti"] = json!("the-name-of-a-token-may-be-said");
    let good = issuer.mint(Algorithm::RS256, &claims).unwrap();
    let granted = exchange(address, SECRET, &good).await;
    let minted = granted["access_token"].as_str().unwrap().to_owned();
    let refresh = granted["refresh_token"].as_str().unwrap().to_owned();
    for token in [&minted, &refresh, &format!("{minted}x"), &format!("{refresh}x")] {
        inquire(address, token).await;
    }
    claims["aud"] = json!("canary-claim");
    let refused = issuer.mint(Algorithm::RS256, &claims).unwrap();
    assert_eq!(exchange(address, SECRET, &refused).await["error"], "invalid_request");
    let forged = format!("{}A", &good[..good.len() - 4]);
    assert_eq!(exchange(address, SECRET, &forged).await["error"], "invalid_request");
    assert_eq!(exchange(address, "canary-wrong-secret", &good).await["error"], "invalid_client");
    // The upstream says yes to whatever is tried all of a sudden, so that it is not believed.
    is_open.store(true, Ordering::SeqCst);
    let vouched = exchange_as("a-canary-caller", address, "canary-secret-at-the-upstream", &good);
    assert_eq!(vouched.await["error"], "temporarily_unavailable");
    let mut guesses = (0..1000).map(|guess| format!("canary-wrong-secret-{guess}"));
    let is_throttled = async |guess: String| {
        let answer = exchange(address, &guess, &good).await;
        answer["error_description"].as_str().unwrap().contains("too often")
    };
    while !is_throttled(guesses.next().expect("guesses are not limited")).await {}
    for target in ["/a?token=canary-query", "/broken", "/gone"] {
        let fields = "Authorization: Bearer canary-bearer\r\nCookie: s=canary-cookie\r\n";
        let request = post(target, fields, "password=canary-body");
        Connection::open(address).await.request(request).await;
    }
    let garbage =
        format!("GET /?canary-query HTTP/9\r\nAuthorization: canary-bearer{good}\r\n\r\n");
    let mut connection = Connection::open(address).await;
    connection.send(garbage).await;
    let _ = connection.receive().await;
    let metrics = Connection::open(admin).await.request(get("/metrics", "")).await;
    let status = Connection::open(admin).await.request(get("/status", "")).await;

    let process = serving.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-s", "TERM", &process]).status().unwrap();
    assert!(timeout(PATIENCE, serving.wait()).await.unwrap().unwrap().success());
    let said = timeout(PATIENCE, rest).await.unwrap().unwrap();
    // It did speak: of the exchanges, each with its reason.
    assert!(said.contains("takes a wrong secret for right"), "{said}");
    for message in ["exchange", "introspection", "revocation"] {
        assert!(said.contains(&format!("\"message\":\"{message}\"")), "{message}: {said}");
    }
    for reason in [
        "none",
        "audience_mismatch",
        "signature_invalid",
        "client_secret_wrong",
        "client_throttled",
        "refresh_other_client",
        "upstream_unavailable",
    ] {
        assert!(said.contains(&format!("\"reason\":\"{reason}\"")), "{reason}: {said}");
    }
    for text in [&said, metrics.text(), status.text()] {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
        assert!(!text.contains(refresh.trim_start_matches("cambio_rt_")));
        assert!(!text.contains("cambio_rt_"), "a refresh token in {text}");
        for token in [&good, &refused, &minted] {
            for part in token.split('.') {
                assert!(!text.contains(part), "a part of a token in {text}");
            }
            // Nor the beginning of one that is cut off. Random names have its first letters, but not ten.
            assert!(!text.contains(&token[..10]), "a token in {text}");
        }
        for line in text.lines() {
            assert_eq!(secrets_in(line), [], "{line}");
        }
    }
}
