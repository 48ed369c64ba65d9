//! Who waits until a secret is checked, where checking takes its time.

use std::sync::Arc;

use cambio::exchange::client::{ClientCheck, SecretCheck};
use cambio::exchange::credentials::Credentials;
use cambio::exchange::error::{Failure, Refusal};
use cambio::exchange::throttle::{GuessLimits, Origin};
use cambio::oauth::form::Form;
use cambio::proxy::client_verdicts::ClientVerdicts;
use cambio::proxy::guesses::{Guess, Guesses, Shown};
use cambio::secret::hash;
use tokio::task::JoinSet;

use crate::support::{folder, load};

const LIMITS: GuessLimits =
    GuessLimits { client_and_address: 10_000, client: 10_000, address: 10_000 };
const SECRET: &str = "a-secret-of-the-portal";

fn guess(waiting: usize) -> Guess<'static> {
    Guess { limits: &LIMITS, origin: Origin::UNKNOWN, waiting }
}

/// Anybody can be as many strangers as they like, and one of them as often as they like.
#[tokio::test]
async fn whoever_was_right_finds_room_among_any_number_of_strangers() {
    let hash = hash(SECRET.as_bytes(), &[1; 16]).unwrap();
    let folder = folder();
    let more = format!(
        "applications:\n  - client_id: portal\n    type: traditional_web\n    client_secret: {{ hash: \"{}\" }}\n    \
         allowed_grant_types: [\"urn:ietf:params:oauth:grant-type:token-exchange\"]\n",
        &*hash
    );
    let config = load(folder.path(), "http://127.0.0.1:9", &more);
    let check = |client_id: &str, secret: &str| -> SecretCheck {
        let form = format!("client_id={client_id}&client_secret={secret}");
        let credentials =
            Credentials::present(&[], &Form::parse(form.as_bytes()).unwrap()).unwrap();
        let ClientCheck::Own(check) = config.policy.client_check(credentials).unwrap() else {
            panic!("the upstream is asked")
        };
        assert!(check.is_costly());
        check
    };
    let guesses = Arc::new(Guesses::new().unwrap());
    let portal = check("portal", SECRET);
    // It was right some time ago, and what was found then is forgotten.
    let tag = guesses.key.tag(&portal.binding());
    let admitted = guesses.admit(guess(3), portal.unverified_client_ids(), tag).unwrap();
    guesses.conclude(admitted, Shown::Right);

    let verdicts = Arc::new(ClientVerdicts::default());
    let mut strangers = JoinSet::new();
    let one_and_the_same = (0..20).map(|_| "same".to_owned());
    for client_id in one_and_the_same.chain((0..20).map(|n| format!("stranger{n}"))) {
        let (verdicts, guesses) = (Arc::clone(&verdicts), Arc::clone(&guesses));
        let check = check(&client_id, "wrong");
        strangers.spawn(async move { verdicts.of(&check, &guesses, guess(3)).await });
    }
    tokio::task::yield_now().await;
    let right = verdicts.of(&portal, &guesses, guess(3)).await.unwrap();
    assert!(right.is_right());
    let answers = strangers.join_all().await;
    let (looked_at, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((looked_at.len(), refused.len()), (3, 37));
    assert!(looked_at.iter().flatten().all(|verdict| !verdict.is_right()));
    let busy = Refusal::from(Failure::Overloaded);
    assert!(refused.into_iter().all(|one| one.is_err_and(|why| why == busy)));
    // Then there is room for others, and the right one is remembered.
    let new = verdicts.of(&check("new", "wrong"), &guesses, guess(3)).await.unwrap();
    assert!(!new.is_right());
    assert!(verdicts.of(&portal, &guesses, guess(0)).await.unwrap().is_right());
}
