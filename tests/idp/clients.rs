//! Other people's clients ask for an exchange, and other people's libraries verify what they get.

use std::process::Command;

use serde_json::Value;

use crate::relying::LIBRARIES;
use crate::software::{complete, run};
use crate::stage::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, SCOPE, Stage};

/// What every client must have got, and every resource server must make of it.
fn assert_exchanged(stage: &Stage, answer: &Value) {
    assert_eq!(answer["token_type"].as_str().unwrap().to_lowercase(), "bearer");
    assert_eq!(answer["scope"], SCOPE);
    let token = answer["access_token"].as_str().unwrap();
    for library in LIBRARIES {
        let verified = run(library, &[&stage.issuer(), AUDIENCE, token]);
        let [verified] = verified.as_slice() else { panic!("{library}: {verified:?}") };
        assert_eq!(verified["header"]["typ"], "at+jwt", "{library}");
        assert_eq!(verified["claims"]["sub"], "alice", "{library}");
        assert_eq!(verified["claims"]["client_id"], CLIENT_ID, "{library}");
        assert_eq!(verified["claims"]["scope"], SCOPE, "{library}");
    }
}

async fn exchanged_by(script: &str) {
    let stage = Stage::set().await;
    let token = stage.subject_token("alice");
    let answers = run(script, &[&stage.token(), CLIENT_ID, CLIENT_SECRET, &token, SCOPE]);
    assert_exchanged(&stage, &answers[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_exchanges() {
    exchanged_by("exchange_oauth4webapi.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_exchanges() {
    exchanged_by("exchange_authlib.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_oauth2client_exchanges() {
    exchanged_by("exchange_requests_oauth2client.py").await;
}

/// As the example goes that people copy, with a line end after the token.
#[tokio::test(flavor = "multi_thread")]
async fn curl_exchanges_with_a_line_end_after_the_token() {
    let stage = Stage::set().await;
    let script = format!(
        "curl --silent --show-error --fail --location '{}' \\
  --header 'Content-Type: application/x-www-form-urlencoded' \\
  --header \"Authorization: Basic $(printf %s '{CLIENT_ID}:{CLIENT_SECRET}' | base64 -w0)\" \\
  --data-urlencode 'subject_token={}
' \\
  --data-urlencode 'subject_token_type=urn:ietf:params:oauth:token-type:jwt' \\
  --data-urlencode 'requested_token_type=urn:ietf:params:oauth:token-type:access_token' \\
  --data-urlencode 'grant_type=urn:ietf:params:oauth:grant-type:token-exchange' \\
  --data-urlencode 'scope={SCOPE}'",
        stage.token(),
        stage.subject_token("alice"),
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    let answer: Value = serde_json::from_str(&complete(shell)).unwrap();
    assert_exchanged(&stage, &answer);
    // RFC 8693 §2.2.1.
    assert_eq!(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert!(answer["expires_in"].as_u64().is_some_and(|seconds| seconds > 3000));
}
