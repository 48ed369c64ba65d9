//! What the identity provider does for its own clients is the same through Cambio as without it.

use crate::answered::{Answered, Tokens};
use crate::estate::{Caller, Estate};
use crate::idp::{Facts, Kind, secret};
use crate::login::log_in;
use crate::provider::BY_POST;

/// The names of steps, and what each was answered.
type Steps = Vec<(String, Answered)>;

/// Each step is answered in the same way, and by each name at least one is granted.
#[track_caller]
fn assert_same(alone: &Steps, through: &Steps, granted: &[&str]) {
    assert_eq!(alone.len(), through.len());
    for ((name, alone), (_, through)) in alone.iter().zip(through) {
        assert_eq!(through.shape(), alone.shape(), "{name}");
        assert_eq!(through.field("cambio-decision"), None, "{name}");
        // The rest must be refused: else the comparison shows nothing.
        let expected = granted.contains(&name.as_str());
        assert_eq!(alone.status < 400, expected, "{name}: {}", alone.shape());
    }
}

async fn client_credentials(caller: &Caller, facts: &Facts) -> Steps {
    let (path, client) = (facts.token, facts.application);
    let right = secret(client);
    let form = "grant_type=client_credentials&scope=svc";
    let in_body = |id: &str, secret: &str| {
        caller.post(path, &format!("{form}&client_id={id}&client_secret={secret}"))
    };
    let mut steps = Steps::new();
    for (name, secret, form) in [
        ("by Basic", right.as_str(), form),
        ("wrong secret", "wrong", form),
        ("empty secret", "", form),
        ("unknown grant", &right, "grant_type=urn:example:other"),
        ("no grant", &right, "scope=svc"),
        ("two grants", &right, "grant_type=client_credentials&grant_type=client_credentials"),
        ("a scope that it has not", &right, "grant_type=client_credentials&scope=everything"),
    ] {
        steps.push((name.to_owned(), caller.ask(client, secret, path, form).await));
    }
    let other = if facts.issuer.ends_with("/oidc") { client } else { BY_POST };
    steps.push(("in the body".to_owned(), Answered::to(in_body(other, &secret(other))).await));
    steps.push(("wrong, in the body".to_owned(), Answered::to(in_body(other, "wrong")).await));
    steps.push(("nobody".to_owned(), caller.ask("nobody", "x", path, form).await));
    steps.push(("no client".to_owned(), Answered::to(caller.post(path, form)).await));
    steps
}

async fn client_credentials_are_unchanged(kind: Kind) {
    let estate = Estate::of(kind).await;
    let alone = client_credentials(&estate.alone(), &estate.facts).await;
    let through = client_credentials(&estate.through(), &estate.facts).await;
    assert_same(&alone, &through, &["by Basic", "in the body"]);
}

/// A user logs in; the client refreshes, asks about what it got, and ends it.
async fn refreshing(caller: &Caller, facts: &Facts, kind: Kind) -> Steps {
    let (client, path) = (facts.application, facts.token);
    let right = secret(client);
    let (mut steps, first) = log_in(caller, facts, kind).await;
    let form = |token: &str| format!("grant_type=refresh_token&refresh_token={token}");
    let refreshed = async |token: &str| caller.ask(client, &right, path, &form(token)).await;
    let mut step = |name: &str, answer: Answered| steps.push((name.to_owned(), answer));

    let second = refreshed(&first.refresh).await;
    let second_tokens = Tokens::of(&second);
    assert!(!second_tokens.refresh.is_empty() && second_tokens.refresh != first.refresh);
    step("refresh", second);
    let third = refreshed(&second_tokens.refresh).await;
    let third_tokens = Tokens::of(&third);
    step("refresh again", third);
    step("wrong secret", caller.ask(client, "wrong", path, &form(&third_tokens.refresh)).await);
    step("no such token", refreshed("made-up").await);
    let stranger = facts.stranger;
    let answer = caller.ask(stranger, &secret(stranger), path, &form(&third_tokens.refresh)).await;
    step("another client", answer);
    for (name, secret) in [("show", right.as_str()), ("wrong secret", "wrong")] {
        let form = format!("token={}", third_tokens.refresh);
        step(name, caller.ask(client, secret, facts.introspection, &form).await);
    }
    let form = format!("token={}", third_tokens.access);
    step("show access", caller.ask(client, &right, facts.introspection, &form).await);
    step("end access", caller.ask(client, &right, facts.revocation, &form).await);
    // It was used before: the identity provider ends all that came of it.
    step("spent", refreshed(&first.refresh).await);
    step("its descendant", refreshed(&third_tokens.refresh).await);
    let form = format!("token={}", third_tokens.refresh);
    step("end", caller.ask(client, &right, facts.revocation, &form).await);
    steps
}

async fn refreshing_is_unchanged(kind: Kind) {
    let estate = Estate::of(kind).await;
    let alone = refreshing(&estate.alone(), &estate.facts, kind).await;
    let through = refreshing(&estate.through(), &estate.facts, kind).await;
    assert_same(&alone, &through, &[]);
}

/// Else Cambio would be needless.
async fn it_does_not_exchange_tokens_itself(kind: Kind) {
    let estate = Estate::of(kind).await;
    let client = estate.facts.application;
    let form = estate.exchange_form(crate::stage::AUDIENCE);
    let alone = estate.alone().ask(client, &secret(client), estate.facts.token, &form).await;
    assert_eq!(alone.status, 400, "{}", alone.text);
    let through = estate.through().ask(client, &secret(client), estate.facts.token, &form).await;
    assert!(!Tokens::of(&through).access.is_empty());
}

in_front_of_each!(
    client_credentials_are_unchanged,
    refreshing_is_unchanged,
    it_does_not_exchange_tokens_itself,
);
