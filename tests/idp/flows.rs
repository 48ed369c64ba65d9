//! What the identity provider does for its own clients is the same through Cambio as without it.

use crate::answered::{Answered, Tokens};
use crate::estate::{Caller, Estate};
use crate::idp::{Facts, Kind, secret};
use crate::login::log_in;
use crate::stage::AUDIENCE;

/// What was asked, and what was answered.
struct Step {
    name: String,
    /// Whether the identity provider grants it, which is asserted so that the comparison shows
    /// something.
    is_granted: bool,
    answer: Answered,
}

impl Step {
    fn granted(name: &str, answer: Answered) -> Self {
        Self { name: name.to_owned(), is_granted: true, answer }
    }

    fn refused(name: &str, answer: Answered) -> Self {
        Self { name: name.to_owned(), is_granted: false, answer }
    }
}

/// Each step is answered in the same way.
#[track_caller]
fn assert_same(alone: &[Step], through: &[Step]) {
    assert_eq!(alone.len(), through.len());
    for (alone, through) in alone.iter().zip(through) {
        let name = &alone.name;
        assert_eq!(through.answer.shape(), alone.answer.shape(), "{name}");
        assert_eq!(through.answer.field("cambio-decision"), None, "{name}");
        let is_granted = alone.answer.status < 400;
        assert_eq!(is_granted, alone.is_granted, "{name}: {}", alone.answer.shape());
    }
}

async fn client_credentials(caller: &Caller, facts: &Facts) -> Vec<Step> {
    let (path, client) = (facts.token, facts.application);
    let right = secret(client);
    let form = "grant_type=client_credentials&scope=svc";
    let twice = "grant_type=client_credentials&grant_type=client_credentials";
    let by_basic =
        async |id: &str, secret: &str, form: &str| caller.ask(id, secret, path, form).await;
    let in_body = async |id: &str, secret: &str| {
        let form = format!("{form}&client_id={id}&client_secret={secret}");
        Answered::to(caller.post(path, &form)).await
    };
    let other = facts.by_post;
    vec![
        Step::granted("by Basic", by_basic(client, &right, form).await),
        Step::granted("in the body", in_body(other, &secret(other)).await),
        Step::granted(
            "more scope",
            by_basic(client, &right, &format!("{form}%20everything")).await,
        ),
        Step::refused("wrong secret", by_basic(client, "wrong", form).await),
        Step::refused("empty secret", by_basic(client, "", form).await),
        Step::refused("wrong secret in the body", in_body(other, "wrong").await),
        Step::refused("nobody", by_basic("nobody", "x", form).await),
        Step::refused("no client", Answered::to(caller.post(path, form)).await),
        Step::refused("unknown grant", by_basic(client, &right, "grant_type=urn:example:x").await),
        Step::refused("no grant", by_basic(client, &right, "scope=svc").await),
        Step::refused("two grants", by_basic(client, &right, twice).await),
    ]
}

async fn client_credentials_are_unchanged(kind: Kind) {
    let estate = Estate::of(kind).await;
    let alone = client_credentials(&estate.alone(), &estate.facts).await;
    let through = client_credentials(&estate.through(), &estate.facts).await;
    assert_same(&alone, &through);
    // It does not exchange tokens itself; else Cambio would be needless.
    let (client, form) = (estate.facts.application, estate.exchange_form(AUDIENCE));
    let alone = estate.alone().ask(client, &secret(client), estate.facts.token, &form).await;
    assert_eq!(alone.status, 400, "{}", alone.text);
    let through = estate.through().ask(client, &secret(client), estate.facts.token, &form).await;
    assert!(!Tokens::of(&through).access.is_empty());
}

/// A user logs in; the client refreshes, asks about what it got, and ends it.
async fn refreshing(caller: &Caller, facts: &Facts, kind: Kind) -> Vec<Step> {
    let (client, stranger) = (facts.application, facts.stranger);
    let refreshed = async |client: &str, secret: &str, token: &str| {
        let form = format!("grant_type=refresh_token&refresh_token={token}");
        caller.ask(client, secret, facts.token, &form).await
    };
    let asked = async |path: &str, secret: &str, token: &str| {
        caller.ask(client, secret, path, &format!("token={token}")).await
    };
    let (right, shown, ended) = (&secret(client), facts.introspection, facts.revocation);
    let (passed, first) = log_in(caller, facts, kind).await;
    let mut steps: Vec<Step> =
        passed.into_iter().map(|(name, answer)| Step::granted(&name, answer)).collect();

    let answer = refreshed(client, right, &first.refresh).await;
    let second = Tokens::of(&answer);
    assert!(!second.refresh.is_empty() && second.refresh != first.refresh);
    steps.push(Step::granted("refresh", answer));
    let answer = refreshed(client, right, &second.refresh).await;
    let third = Tokens::of(&answer);
    assert!(!third.refresh.is_empty() && third.refresh != second.refresh);
    // It looks at no JWT, not even at its own.
    let of_access = match kind {
        Kind::OidcProvider => Step::refused,
        Kind::Glewlwyd | Kind::OidcProviderOpaque => Step::granted,
    };
    let others = secret(stranger);
    steps.extend([
        Step::granted("refresh again", answer),
        Step::refused("wrong secret", refreshed(client, "wrong", &third.refresh).await),
        Step::refused("no such token", refreshed(client, right, "made-up").await),
        Step::refused("another client", refreshed(stranger, &others, &third.refresh).await),
        Step::granted("show", asked(shown, right, &third.refresh).await),
        Step::refused("show to a wrong secret", asked(shown, "wrong", &third.refresh).await),
        of_access("show access", asked(shown, right, &third.access).await),
        of_access("end access", asked(ended, right, &third.access).await),
        of_access("show what has ended", asked(shown, right, &third.access).await),
        // It was used before: the identity provider ends all that came of it.
        Step::refused("spent", refreshed(client, right, &first.refresh).await),
        Step::refused("its descendant", refreshed(client, right, &third.refresh).await),
        Step::granted("show its descendant", asked(shown, right, &third.refresh).await),
    ]);
    steps
}

async fn refreshing_is_unchanged(kind: Kind) {
    let estate = Estate::of(kind).await;
    let alone = refreshing(&estate.alone(), &estate.facts, kind).await;
    let through = refreshing(&estate.through(), &estate.facts, kind).await;
    assert_same(&alone, &through);
}

in_front_of_each!(client_credentials_are_unchanged, refreshing_is_unchanged);
