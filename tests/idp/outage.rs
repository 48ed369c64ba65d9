//! The identity provider goes down and comes back.

use crate::answered::{Answered, Tokens};
use crate::estate::Estate;
use crate::idp::{Kind, secret};
use crate::relying::LIBRARIES;
use crate::software::run;
use crate::stage::AUDIENCE;

const OWN: &str = "grant_type=client_credentials&scope=svc";

async fn own_token(estate: &Estate) -> Answered {
    let client = estate.facts.application;
    estate.through().ask(client, &secret(client), estate.facts.token, OWN).await
}

async fn while_it_is_down_what_is_ours_goes_on(kind: Kind) {
    let mut estate = Estate::of(kind).await;
    let (application, paths) =
        (estate.facts.application, [estate.facts.jwks, estate.facts.metadata]);
    let mut before = Vec::new();
    for path in paths {
        before.push(estate.document(path).await);
    }
    let earlier = estate.exchange(AUDIENCE).await;
    assert_eq!(estate.introspect(application, &earlier.access).await.json()["active"], true);

    estate.idp.go_down();
    assert_eq!(own_token(&estate).await.status, 502);
    for (path, before) in paths.into_iter().zip(&before) {
        assert_eq!(estate.document(path).await, *before);
    }
    let minted = estate.exchange(AUDIENCE).await;
    for library in LIBRARIES {
        let seen = run(library, &[&estate.facts.issuer, AUDIENCE, &minted.access]);
        assert_eq!(seen[0]["claims"]["sub"], "alice", "{library}");
    }
    let second = Tokens::of(&estate.refresh(&minted.refresh).await);
    // Who asks is for the identity provider to say: nothing is shown, and nothing is ended.
    for token in [&earlier.access, &second.refresh] {
        for answer in
            [estate.introspect(application, token).await, estate.revoke(application, token).await]
        {
            assert_eq!(
                (answer.status, answer.error()),
                (503, "temporarily_unavailable".to_owned())
            );
        }
    }

    estate.idp.come_up().await;
    let own = Tokens::of(&own_token(&estate).await);
    assert!(!own.access.is_empty());
    for (path, before) in paths.into_iter().zip(&before) {
        // The key that it signs with may be another after a start.
        assert_eq!(estate.document(path).await, *before, "{path}");
    }
    for token in [&earlier.access, &second.access] {
        assert_eq!(estate.introspect(application, token).await.json()["active"], true);
    }
    assert_eq!(estate.revoke(application, &second.refresh).await.status, 200);
    assert_eq!(estate.introspect(application, &second.access).await.json()["active"], false);
}

/// Our keys alone would make resource servers take the identity provider's for withdrawn.
async fn until_it_has_answered_once_no_document_is_served(kind: Kind) {
    let mut estate = Estate::of(kind).await;
    estate.idp.go_down();
    estate.restart().await;
    for path in [estate.facts.jwks, estate.facts.metadata] {
        let answer = estate.through().get(path).await;
        assert_eq!((answer.status, answer.text.contains("\"keys\"")), (502, false), "{path}");
    }
    assert!(!estate.exchange(AUDIENCE).await.access.is_empty());
    estate.idp.come_up().await;
    let keys = estate.document(estate.facts.jwks).await;
    assert!(keys["keys"].as_array().unwrap().len() > 1, "{keys}");
}

in_front_of_each!(
    while_it_is_down_what_is_ours_goes_on,
    until_it_has_answered_once_no_document_is_served,
);
