//! A Cambio that is started while an issuer is down, and what its callers and operators are told.

use std::fs;
use std::time::Duration;

use cambio::clock;
use cambio::jwt::sign::SigningKey;
use cambio::keys::last_good::{Label, LastGood};
use cambio::time::Timestamp;
use serde_json::json;

use crate::issuer::{Issuer, status, whole};
use crate::leap::until;
use crate::process::Process;
use crate::setting::{jwks, key};
use crate::support::{self, Cambio, Connection, Upstream, get, post};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const OURS: &str = "https://idp.example/oauth2/token";

fn lines(server: &Issuer) -> String {
    format!(
        "applications:\n  - client_id: phone\n    type: mobile\n    allowed_grant_types: \
         [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n\
         authorization_server:\n  issuer: {OURS}\n  endpoints: {{ token: [/oauth2/token] }}\n\
         trusted_token_issuers:\n  - {{ name: partner, issuer: \"https://partner.example\", \
         jwks_endpoint: \"{}\" }}\n",
        server.url("/jwks")
    )
}

fn exchange(key: &SigningKey) -> Vec<u8> {
    let now = clock::now().as_secs();
    let claims = json!({
        "iss": "https://partner.example", "sub": "alice", "aud": OURS, "exp": now + 600,
    });
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", "phone")
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .append_pair("subject_token", &key.sign("JWT", &claims).unwrap())
        .finish();
    post("/oauth2/token", "", &form)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_get_200_after_a_restart_in_an_outage_and_503_beyond_the_bound() {
    let upstream = Upstream::start().await;
    let own = key("a");
    let server = Issuer::start(|_| status(503)).await;
    let lines = lines(&server);
    for (ago, expected) in [(HOUR, 200), (25 * HOUR, 503)] {
        let folder = support::folder();
        let config = support::load(folder.path(), &upstream.url(), &lines);
        // Loading writes nothing.
        let cache = config.fetched_keys.cache.as_ref().unwrap();
        assert_eq!(*cache, folder.path().join("state/issuer-keys"));
        assert!(!folder.path().join("state").exists());
        let last_good = LastGood::open(cache, &config.signing_keys, DAY).unwrap();
        let label = Label::of(&config.trusted_token_issuers[0]).unwrap();
        let at = Timestamp::from_secs(clock::now().as_secs() - ago.as_secs());
        last_good.keep(&label, jwks(&[&own]).as_bytes(), at).unwrap();

        let cambio = Cambio::start_in(folder, &upstream.url(), &lines).await;
        let answer = cambio.request(exchange(&own)).await;
        assert_eq!(answer.status, expected, "{}", answer.text());
        let admin = cambio.running.admin_address();
        let show = async |path| Connection::open(admin).await.request(get(path, "")).await;
        let shown = show("/status").await.json()["trusted_token_issuers"][0].clone();
        if expected == 200 {
            assert_eq!((&shown["keys_from"], &shown["state"]), (&json!("disk"), &json!("stale")));
        } else {
            assert_eq!(answer.json()["error"], "temporarily_unavailable");
            assert_eq!(shown["keys_from"], json!(null));
            let metrics = show("/metrics").await.text().to_owned();
            assert!(
                metrics.contains("outcome=\"failed\",reason=\"keys_unavailable\"} 1"),
                "{metrics}"
            );
        }
        // A key that nobody has ever seen is the caller's fault in neither case while it can't be
        // known better.
        let answer = cambio.request(exchange(&key("b"))).await;
        assert_eq!(answer.status, if expected == 200 { 400 } else { 503 }, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_what_was_not_used_and_why() {
    let upstream = Upstream::start().await;
    let own = key("a");
    let set = jwks(&[&own]);
    let server = Issuer::start(move |_| whole(set.clone())).await;
    let folder = support::folder();
    let config = support::write(folder.path(), &upstream.url(), &lines(&server));
    let mut process = Process::start(folder.path(), &config).await;
    let keys = folder.path().join("state/issuer-keys");
    let file = || {
        let mut files = fs::read_dir(&keys).into_iter().flatten();
        files.find_map(|file| {
            Some(file.ok()?.path()).filter(|file| file.extension().is_some_and(|e| e == "keys"))
        })
    };
    until(|| file().is_some()).await;
    process.signal("TERM").await;
    process.ended().await;

    server.answer(|_| status(503));
    let mut process = Process::start(folder.path(), &config).await;
    let answer = Connection::open(process.address).await.request(exchange(&own)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    process.signal("TERM").await;
    process.ended().await;

    let mut bytes = fs::read(file().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file().unwrap(), bytes).unwrap();
    let mut child = crate::process::serve(folder.path(), &config, &[]);
    let mut said =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stderr.take().unwrap()));
    let line = loop {
        let line = said.next_line().await.unwrap().expect("it never said so");
        if line.contains("what was kept of the issuer's keys is not used") {
            break line;
        }
    };
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["issuer"]), (&json!("WARN"), &json!("partner")));
    assert!(line["why"].as_str().unwrap().starts_with("its tag is not ours"), "{line}");
}
