//! The identity provider goes down and comes back.

use crate::answered::{Answered, Tokens};
use crate::estate::Estate;
use crate::idp::{Kind, secret};
use crate::relying::LIBRARIES;
use crate::software::run;
use crate::stage::{AUDIENCE, CLIENT_ID, CLIENT_SECRET};

const OWN: &str = "grant_type=client_credentials&scope=svc";

async fn own_token(estate: &Estate) -> Answered {
    let client = estate.facts.application;
    estate.through().ask(client, &secret(client), estate.facts.token, OWN).await
}

async fn while_it_is_down_what_is_ours_goes_on(kind: Kind) {
    let mut estate = Estate::of(kind).await;
    let (api, paths) = (estate.facts.resource_server, [estate.facts.jwks, estate.facts.metadata]);
    let mut before = Vec::new();
    for path in paths {
        before.push(estate.document(path).await);
    }
    let earlier = estate.exchange(AUDIENCE).await;
    assert_eq!(estate.introspect(api, &earlier.access).await.json()["active"], true);

    estate.idp.go_down();
    assert_eq!(own_token(&estate).await.status, 502);
    for (path, before) in paths.into_iter().zip(&before) {
        assert_eq!(estate.document(path).await, *before);
    }
    let minted = Tokens::of(&estate.exchange_as(CLIENT_ID, CLIENT_SECRET, AUDIENCE).await);
    for library in LIBRARIES {
        let seen = run(library, &[&estate.facts.issuer, AUDIENCE, &minted.access]);
        assert_eq!(seen[0]["claims"]["sub"], "alice", "{library}");
    }
    // What the identity provider said of this client a moment ago is still believed.
    let second = Tokens::of(&estate.refresh(&earlier.refresh).await);
    assert!(!estate.exchange(AUDIENCE).await.access.is_empty());
    // Who asks is for the identity provider to say: nothing is shown, and nothing is ended.
    let application = estate.facts.application;
    for token in [&earlier.access, &second.refresh] {
        assert_come_back(&estate.introspect(application, token).await);
        assert_come_back(&estate.revoke(application, token).await);
    }

    estate.idp.come_up().await;
    let own = Tokens::of(&own_token(&estate).await);
    assert!(!own.access.is_empty());
    for (path, before) in paths.into_iter().zip(&before) {
        assert_eq!(estate.document(path).await, *before, "{path}");
    }
    for token in [&earlier.access, &second.access, &minted.access] {
        assert_eq!(estate.introspect(api, token).await.json()["active"], true);
    }
    assert_eq!(estate.revoke(application, &second.refresh).await.status, 200);
    assert_eq!(estate.introspect(api, &second.access).await.json()["active"], false);
    assert_eq!(estate.introspect(api, &minted.access).await.json()["active"], true);
}

/// Nothing of the identity provider is remembered across a start.
async fn what_was_learnt_of_it_is_not_made_up_while_it_is_down(kind: Kind) {
    let mut estate = Estate::of(kind).await;
    let client = estate.facts.application;
    let earlier = estate.exchange(AUDIENCE).await;
    estate.idp.go_down();
    estate.restart().await;
    // Our keys alone would make resource servers take the identity provider's for withdrawn.
    for path in [estate.facts.jwks, estate.facts.metadata] {
        let answer = estate.through().get(path).await;
        assert_eq!((answer.status, answer.text.contains("\"keys\"")), (502, false), "{path}");
    }
    // Nobody says whether it is the right one.
    for secret in [secret(client).as_str(), "wrong"] {
        assert_come_back(&estate.exchange_as(client, secret, AUDIENCE).await);
    }
    assert_come_back(&estate.refresh(&earlier.refresh).await);
    assert_eq!(estate.granted().await, 0);
    let minted = Tokens::of(&estate.exchange_as(CLIENT_ID, CLIENT_SECRET, AUDIENCE).await);
    assert!(!minted.access.is_empty());

    estate.idp.come_up().await;
    let keys = estate.document(estate.facts.jwks).await;
    assert!(keys["keys"].as_array().unwrap().len() > 1, "{keys}");
    assert_eq!(estate.exchange_as(client, "wrong", AUDIENCE).await.status, 401);
    assert!(!estate.exchange(AUDIENCE).await.access.is_empty());
    // Nothing was spent.
    assert!(!Tokens::of(&estate.refresh(&earlier.refresh).await).refresh.is_empty());
}

#[track_caller]
fn assert_come_back(answer: &Answered) {
    let seen = (answer.status, answer.error());
    assert_eq!(seen, (503, "temporarily_unavailable".to_owned()), "{}", answer.text);
}

in_front_of_each!(
    while_it_is_down_what_is_ours_goes_on,
    what_was_learnt_of_it_is_not_made_up_while_it_is_down,
);
