//! Exchanges by the identity provider's own clients, whose secrets it alone knows.

use crate::answered::{Answered, Tokens};
use crate::estate::Estate;
use crate::idp::{Kind, secret};
use crate::layer::Manner;
use crate::relying::LIBRARIES;
use crate::software::run;
use crate::stage::AUDIENCE;

/// By Basic, or in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Basic,
    Body,
}

impl Estate {
    async fn exchange_by(&self, way: Way, client: &str, secret: &str) -> Answered {
        let (path, form) = (self.facts.token, self.exchange_form(AUDIENCE));
        match way {
            Way::Basic => self.through().ask(client, secret, path, &form).await,
            Way::Body => {
                let credentials = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("client_id", client)
                    .append_pair("client_secret", secret)
                    .finish();
                let request = self.through().post(path, &format!("{form}&{credentials}"));
                Answered::to(request).await
            }
        }
    }
}

#[track_caller]
fn assert_refused(answer: &Answered, what: &str) {
    let seen = (answer.status, answer.error());
    assert_eq!(seen, (401, "invalid_client".to_owned()), "{what}: {}", answer.text);
    assert!(!answer.text.contains("access_token"), "{what}: {}", answer.text);
}

/// Credentials that are not a client's, but look like them.
fn wrong_ones(estate: &Estate, client: &str) -> Vec<(String, String)> {
    let right = secret(client);
    let with = |secret: &str| (client.to_owned(), secret.to_owned());
    let by = |client: &str| (client.to_owned(), right.clone());
    vec![
        with("wrong"),
        with(""),
        with(&secret(estate.facts.stranger)),
        with(&right[..right.len() - 1]),
        with(&right.to_uppercase()),
        by("nobody"),
        by(estate.facts.stranger),
        by(&client.to_uppercase()),
    ]
}

async fn the_right_secret_exchanges_and_no_other(kind: Kind) {
    let estate = Estate::of(kind).await;
    let ways = [(Way::Basic, estate.facts.application), (Way::Body, estate.facts.by_post)];
    let mut granted = 0;
    for (way, client) in ways {
        let answer = estate.exchange_by(way, client, &secret(client)).await;
        let token = Tokens::of(&answer).access;
        granted += 1;
        for library in LIBRARIES {
            let seen = run(library, &[&estate.facts.issuer, AUDIENCE, &token]);
            assert_eq!(seen[0]["claims"]["sub"], "alice", "{library}");
            assert_eq!(seen[0]["claims"]["client_id"], client, "{library}");
        }
        for (id, wrong) in wrong_ones(&estate, client) {
            let what = format!("{way:?} {id} {wrong}");
            assert_refused(&estate.exchange_by(way, &id, &wrong).await, &what);
        }
        // What came in between has changed nothing.
        assert_eq!(estate.exchange_by(way, client, &secret(client)).await.status, 200);
        granted += 1;
    }
    assert_eq!(estate.granted().await, granted);
}

/// Whatever it answers to a wrong secret.
async fn a_wrong_secret_is_never_accepted(kind: Kind) {
    let (mut estate, layer) = Estate::behind_a_layer(kind).await;
    let client = estate.facts.application;
    for manner in Manner::ALL {
        layer.behave(manner);
        // What was found before must not help.
        estate.restart().await;
        for (id, wrong) in wrong_ones(&estate, client).into_iter().take(4) {
            let answer = estate.exchange_by(Way::Basic, &id, &wrong).await;
            let what = format!("{manner:?}: {id} {wrong}: {} {}", answer.status, answer.text);
            assert!(matches!(answer.status, 401 | 503), "{what}");
            assert!(!answer.text.contains("access_token"), "{what}");
        }
        assert_eq!(estate.granted().await, 0, "{manner:?}");
        let right = estate.exchange_by(Way::Basic, client, &secret(client)).await;
        // Whoever does not refuse the wrong ones proves nothing by a yes.
        let proves = matches!(manner, Manner::Own | Manner::Forbidden | Manner::BadRequest);
        let expected = if proves { 200 } else { 503 };
        assert_eq!(right.status, expected, "{manner:?}: {}", right.text);
        // A right one that came before does not help a wrong one.
        let wrong = estate.exchange_by(Way::Basic, client, "wrong").await;
        assert!(matches!(wrong.status, 401 | 503), "{manner:?}: {}", wrong.text);
        assert_eq!(estate.granted().await, u64::from(proves), "{manner:?}");
    }
}

in_front_of_each!(the_right_secret_exchanges_and_no_other, a_wrong_secret_is_never_accepted);
