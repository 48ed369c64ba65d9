//! One exchange from end to end over real sockets, told step by step.

use std::io::{self, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use thiserror::Error;

use super::stage::{AUDIENCE, Stage};
use super::{StandInError, idp};
use crate::clock;
use crate::jwt::algorithm::{Algorithm, AlgorithmSet};
use crate::jwt::key_set::KeySet;
use crate::jwt::unverified::UnverifiedToken;
use crate::jwt::verify::{Candidate, MediaType, Rules, verify};

/// Why a rehearsal did not come to its end.
#[derive(Debug, Error)]
pub enum RehearsalError {
    #[error(transparent)]
    StandIn(#[from] StandInError),
    #[error("a request failed: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Unexpected(String),
}

const FORM: &str = "application/x-www-form-urlencoded";
const EXCHANGE: [(&str, &str); 3] = [
    ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
];

/// A `curl` that exchanges `subject_token`, to be pasted into a shell.
pub fn curl(stage: &Stage, subject_token: &str) -> String {
    // The line end after the token is there because it is in the examples that people copy.
    let token = format!("{subject_token}\n");
    token_curl(stage, [("subject_token", token.as_str())].into_iter().chain(EXCHANGE))
}

/// A `curl` that uses a refresh token.
pub fn refresh_curl(stage: &Stage, refresh_token: &str) -> String {
    token_curl(stage, refresh(refresh_token))
}

fn token_curl<'a>(
    stage: &Stage,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let parameters = parameters.into_iter();
    let parameters: Vec<_> =
        parameters.map(|(name, value)| format!("  --data-urlencode '{name}={value}'")).collect();
    format!(
        "curl --location '{}/oauth2/token' \\
  --header 'Content-Type: {FORM}' \\
  --header 'Authorization: {}' \\
{}",
        stage.origin(),
        stage.authorization(),
        parameters.join(" \\\n"),
    )
}

const fn refresh(refresh_token: &str) -> [(&str, &str); 2] {
    [("refresh_token", refresh_token), ("grant_type", "refresh_token")]
}

/// The refresh token of an exchange that is made for it.
pub async fn refresh_token(stage: &Stage) -> Result<String, RehearsalError> {
    let form = exchange_form(&stage.subject_token()?);
    let exchanged = post(&client()?, &stage.origin(), &stage.authorization(), form).await?;
    text_member(&exchanged.body, "refresh_token")
}

fn client() -> Result<reqwest::Client, RehearsalError> {
    Ok(reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?)
}

/// Asks the identity provider alone, then Cambio, and shows what comes of it.
pub async fn rehearse(stage: &Stage, out: &mut impl Write) -> Result<(), RehearsalError> {
    let http = client()?;
    let subject_token = stage.subject_token()?;
    let body = exchange_form(&subject_token);

    writeln!(out, "1. A token of the third party, {}:\n", stage.issuer.issuer())?;
    show(out, &subject_token)?;

    let alone = post(&http, &stage.idp.origin(), &idp_authorization(stage), body.clone()).await?;
    writeln!(out, "2. The identity provider alone, asked to exchange it:\n")?;
    writeln!(out, "   {} {}\n", alone.status, alone.body)?;
    expect(alone.status == 400, "the identity provider knows token exchange after all")?;

    let exchanged = post(&http, &stage.origin(), &stage.authorization(), body).await?;
    writeln!(out, "3. Cambio in front of it, asked the same:\n")?;
    writeln!(out, "   {} {}\n", exchanged.status, abridged(&exchanged.body))?;
    expect(exchanged.status == 200, "Cambio did not exchange the token")?;
    let minted = text_member(&exchanged.body, "access_token")?;

    writeln!(out, "4. The token that Cambio minted:\n")?;
    show(out, &minted)?;

    let jwks = http.get(format!("{}/oauth2/jwks", stage.origin())).send().await?.bytes().await?;
    let keys = key_set(&jwks)?;
    verified(&minted, &keys, &stage.origin(), AUDIENCE, Algorithm::ES256)?;
    writeln!(out, "5. The identity provider's JWKS, fetched through Cambio:\n")?;
    show_keys(out, stage, &jwks)?;
    writeln!(out, "   The minted token verifies with it.\n")?;

    let refresh = form(refresh(&text_member(&exchanged.body, "refresh_token")?));
    let refreshed = post(&http, &stage.origin(), &stage.authorization(), refresh).await?;
    writeln!(out, "6. The refresh token of that answer, used:\n")?;
    writeln!(out, "   {} {}\n", refreshed.status, abridged(&refreshed.body))?;
    expect(refreshed.status == 200, "Cambio did not refresh the token")?;
    let token = text_member(&refreshed.body, "access_token")?;
    verified(&token, &keys, &stage.origin(), AUDIENCE, Algorithm::ES256)?;
    writeln!(out, "   The new token verifies, too, and the next refresh token came with it.\n")?;

    let own = format!("grant_type=client_credentials&scope={}", idp::SCOPE);
    let own = post(&http, &stage.origin(), &idp_authorization(stage), own).await?;
    writeln!(out, "7. The identity provider's own client_credentials grant, through Cambio:\n")?;
    writeln!(out, "   {} {}\n", own.status, abridged(&own.body))?;
    expect(own.status == 200, "the identity provider's own grant did not pass")?;
    let token = text_member(&own.body, "access_token")?;
    verified(&token, &keys, &stage.origin(), idp::AUDIENCE, Algorithm::RS256)?;
    writeln!(out, "   Its token verifies with the same JWKS.")?;
    Ok(())
}

fn exchange_form(subject_token: &str) -> String {
    form([("subject_token", subject_token)].into_iter().chain(EXCHANGE))
}

fn form<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn idp_authorization(stage: &Stage) -> String {
    let pair = format!("{}:{}", idp::CLIENT_ID, stage.idp.client_secret());
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

struct Answered {
    status: u16,
    body: Value,
}

async fn post(
    http: &reqwest::Client,
    origin: &str,
    authorization: &str,
    form: String,
) -> Result<Answered, RehearsalError> {
    let request = http
        .post(format!("{origin}/oauth2/token"))
        .header("authorization", authorization)
        .header("content-type", FORM)
        .body(form);
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answered { status, body })
}

fn expect(holds: bool, otherwise: &str) -> Result<(), RehearsalError> {
    if holds { Ok(()) } else { Err(RehearsalError::Unexpected(otherwise.to_owned())) }
}

fn text_member(body: &Value, name: &str) -> Result<String, RehearsalError> {
    let text = body.get(name).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| RehearsalError::Unexpected(format!("the answer has no `{name}`")))
}

fn key_set(jwks: &[u8]) -> Result<KeySet, RehearsalError> {
    let (keys, _) = KeySet::from_jwks(jwks).map_err(|error| {
        RehearsalError::Unexpected(format!("the JWKS served is not usable: {error}"))
    })?;
    Ok(keys)
}

/// Verifies as a resource server does.
fn verified(
    token: &str,
    keys: &KeySet,
    issuer: &str,
    audience: &str,
    algorithm: Algorithm,
) -> Result<(), RehearsalError> {
    let refused = |why: &dyn std::fmt::Display| {
        RehearsalError::Unexpected(format!("a token does not verify: {why}"))
    };
    let rules = Rules {
        issuer: issuer.to_owned(),
        audiences: vec![audience.to_owned()],
        algorithms: AlgorithmSet::of(&[algorithm]),
        token_types: vec![MediaType::new("at+jwt")],
        clock_skew: Duration::ZERO,
        max_age: None,
        max_lifetime: None,
    };
    let token = UnverifiedToken::parse(token).map_err(|error| refused(&error))?;
    let candidate = Candidate::new(token, &rules).map_err(|error| refused(&error))?;
    verify(candidate, &rules, keys, clock::now()).map_err(|error| refused(&error))?;
    Ok(())
}

/// Header and claims of a token, with its times also as people write them.
fn show(out: &mut impl Write, token: &str) -> Result<(), RehearsalError> {
    let parts = token.split('.').zip(["header", "claims"]);
    for (part, name) in parts {
        let decoded = URL_SAFE_NO_PAD.decode(part).ok();
        let value: Option<Value> = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let value = value.ok_or_else(|| RehearsalError::Unexpected("no JWT came".to_owned()))?;
        writeln!(out, "   {name} {}", indented(&value))?;
    }
    writeln!(out)?;
    Ok(())
}

fn indented(value: &Value) -> String {
    let pretty = format!("{value:#}");
    let lines: Vec<_> = pretty.lines().map(|line| format!("{line}{}", date_of(line))).collect();
    lines.join("\n   ")
}

/// For a line such as `"exp": 1700000000,` the date that it means.
fn date_of(line: &str) -> String {
    let member = line.trim().trim_end_matches(',').split_once(": ");
    let seconds = match member {
        Some(("\"exp\"" | "\"iat\"" | "\"nbf\"", number)) => number.parse().ok(),
        _ => None,
    };
    let date = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    date.map_or_else(String::new, |date| format!("   ← {date}"))
}

/// An answer with its tokens cut short: what stands in one is shown elsewhere.
fn abridged(body: &Value) -> Value {
    let mut body = body.clone();
    for name in ["access_token", "refresh_token"] {
        if let Some(Value::String(token)) = body.get_mut(name)
            && let Some(start) = token.get(..16)
        {
            *token = format!("{start}…");
        }
    }
    body
}

fn show_keys(out: &mut impl Write, stage: &Stage, jwks: &[u8]) -> Result<(), RehearsalError> {
    let set: Value = serde_json::from_slice(jwks).unwrap_or_default();
    for key in set.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let member = |name| key.get(name).and_then(Value::as_str).unwrap_or("?");
        let kid = member("kid");
        let owner = if kid == stage.idp.kid() { "the identity provider's" } else { "Cambio's" };
        writeln!(out, "   {:<6} {kid}   {owner}", member("alg"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_shown_as_people_write_them() {
        assert_eq!(date_of("  \"exp\": 1700000000,"), "   ← 2023-11-14T22:13:20Z");
        assert_eq!(date_of("  \"iat\": 0"), "   ← 1970-01-01T00:00:00Z");
        for other in ["  \"exp\": \"1700000000\"", "  \"n\": 1700000000", "{", ""] {
            assert_eq!(date_of(other), "", "{other:?}");
        }
    }

    #[test]
    fn a_long_token_is_cut_and_nothing_else() {
        let body = json!({ "access_token": "eyJhbGciOiJFUzI1NiJ9.e30.AA", "expires_in": 1 });
        let cut = json!({ "access_token": "eyJhbGciOiJFUzI1…", "expires_in": 1 });
        assert_eq!(abridged(&body), cut);
        let body =
            json!({ "refresh_token": "cambio_rt_AAAAAAAAAAAA", "scope": "cambio_rt_AAAAAAAA" });
        let cut = json!({ "refresh_token": "cambio_rt_AAAAAA…", "scope": "cambio_rt_AAAAAAAA" });
        assert_eq!(abridged(&body), cut);
        assert_eq!(
            abridged(&json!({ "access_token": "short" })),
            json!({ "access_token": "short" })
        );
    }

    #[tokio::test]
    async fn the_command_has_a_line_end_after_the_token() {
        let nowhere = ([127, 0, 0, 1], 1).into();
        let stage = Stage::set(nowhere, nowhere).await.unwrap();
        let command = curl(&stage, "e30.e30.AA");
        assert!(command.contains("'subject_token=e30.e30.AA\n' \\\n"), "{command}");
        assert!(command.starts_with("curl --location 'http://127.0.0.1:1/oauth2/token' \\\n"));
        assert!(command.ends_with("grant-type:token-exchange'"));
        let command = refresh_curl(&stage, "cambio_rt_AAAA");
        assert!(command.contains("'refresh_token=cambio_rt_AAAA' \\\n"), "{command}");
        assert!(command.ends_with("'grant_type=refresh_token'"));
    }
}
