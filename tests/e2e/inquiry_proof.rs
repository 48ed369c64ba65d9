//! About whom the identity provider is believed by its 200: some say it to any secret, and some
//! know the caller by something else.

use crate::inquiry_support::{
    CALLER_UNPROVEN, Estate, INTROSPECT, ITS_INACTIVE, REVOKE, Says, assert_its_own, assert_ours,
    assert_unavailable, basic, its_secret, tampered, with_another_bit,
};
use crate::support::response;

/// To these credentials the identity provider's own answers pass, and there is no other.
async fn assert_nothing_is_done_for(estate: &Estate, fields: &str, token: &str) {
    assert_its_own(&estate.ask(INTROSPECT, fields, token).await, 200, ITS_INACTIVE);
    assert_its_own(&estate.ask(REVOKE, fields, token).await, 200, b"");
}

/// Its own client is shown the token, and ends it.
async fn assert_shown_and_ended(estate: &Estate, client_id: &str, token: &str) {
    assert!(estate.is_active(client_id, token).await, "{client_id}");
    assert_its_own(&estate.revoke(client_id, token).await, 200, b"");
    assert!(!estate.is_active(client_id, token).await, "{client_id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_one_that_takes_any_secret_nothing_is_shown_and_nothing_ends() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let opaque = estate.exchange("vault", "").await.access;
    let all = [("portal", &*tokens.access), ("portal", tokens.refresh()), ("vault", &*opaque)];
    estate.idp.says(Says::Welcoming);
    for (client_id, token) in all {
        for secret in ["x", &its_secret(client_id)] {
            assert_nothing_is_done_for(&estate, &basic(client_id, secret), token).await;
        }
    }
    assert_eq!(estate.answered("introspections").await, (0, 6));
    assert_eq!(estate.answered("revocations").await, (0, 6));
    assert_eq!((estate.probes("unclear").await, estate.probes("accepted").await), (12, 0));
    // Each endpoint was tried once, with somebody whom nobody knows.
    assert_eq!(estate.idp.upstream.requests().len(), estate.idp.passed().len() + 2);
    // Another process has found nothing out about it, and it refuses wrong ones by now.
    let estate = estate.restart().await;
    for (client_id, token) in all {
        assert_shown_and_ended(&estate, client_id, token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_every_secret_it_takes_is_nobody_and_takes_no_other_along() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let opaque = estate.exchange("vault", "").await.access;
    // There it is a public client.
    estate.idp.says(Says::WelcomingTo("portal"));
    for token in [&*tokens.access, tokens.refresh()] {
        for secret in ["x", &its_secret("portal")] {
            assert_nothing_is_done_for(&estate, &basic("portal", secret), token).await;
        }
    }
    assert_eq!(estate.answered("introspections").await, (0, 4));
    assert_eq!(estate.answered("revocations").await, (0, 4));
    // Of others it refuses wrong ones.
    let shown = estate.introspect("api-server", &tokens.access).await;
    assert_ours(&shown, 200);
    assert_eq!(shown.json()["active"], true);
    estate.refresh("portal", tokens.refresh()).await;
    assert_eq!(estate.introspect("vault", &opaque).await.json()["active"], true);
    assert_its_own(&estate.revoke("vault", &opaque).await, 200, b"");
    assert_its_own(&estate.introspect("vault", &opaque).await, 200, ITS_INACTIVE);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_does_not_say_whose_a_secret_is_nobody_is_told_of_an_end() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let both = [&*tokens.access, tokens.refresh()];
    let welcome = response("200 OK", &[("X-IdP", "yes")], ITS_INACTIVE);
    for silent in [
        response("500 Internal Server Error", &[], b""),
        response("429 Too Many Requests", &[], b""),
        Vec::new(),
        response("302 Found", &[("Location", "/login")], b""),
        response("200 OK", &[("Content-Type", "text/html")], b"<form action=/login>"),
    ] {
        estate.idp.says(Says::Both(welcome.clone(), silent));
        for token in both {
            assert_unavailable(&estate.introspect("portal", token).await, CALLER_UNPROVEN);
            assert_unavailable(&estate.revoke("portal", token).await, CALLER_UNPROVEN);
            // Whose business the token is not is told what everybody is.
            assert_its_own(&estate.introspect("stranger", token).await, 200, ITS_INACTIVE);
            assert_its_own(&estate.revoke("stranger", token).await, 200, ITS_INACTIVE);
        }
    }
    assert_eq!(estate.answered("introspections").await, (10, 10));
    assert_eq!(estate.answered("revocations").await, (10, 10));
    // One that refuses to look will not say it later, either.
    let refuses = response("403 Forbidden", &[], b"");
    estate.idp.says(Says::Both(welcome, refuses));
    for token in both {
        assert_its_own(&estate.introspect("portal", token).await, 200, ITS_INACTIVE);
        assert_its_own(&estate.revoke("portal", token).await, 200, ITS_INACTIVE);
    }
    for token in both {
        assert_shown_and_ended(&estate, "portal", token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_it_did_not_look_at_has_to_be_right() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let both = [&*tokens.access, tokens.refresh()];
    // It knows whoever asks by something else of the request.
    estate.idp.says(Says::Exactly(response("200 OK", &[("X-IdP", "yes")], ITS_INACTIVE)));
    for path in [INTROSPECT, REVOKE] {
        for token in both {
            let refused = estate.ask(path, &basic("portal", "x"), token).await;
            assert_ours(&refused, 401);
            assert_eq!(refused.json()["error"], "invalid_client");
            assert!(refused.header("www-authenticate").is_some());
        }
    }
    assert_eq!((estate.probes("rejected").await, estate.probes("accepted").await), (4, 0));
    for token in both {
        assert_eq!(estate.introspect("portal", token).await.json()["active"], true);
        assert_its_own(&estate.revoke("portal", token).await, 200, ITS_INACTIVE);
        assert_its_own(&estate.introspect("portal", token).await, 200, ITS_INACTIVE);
    }
    assert_eq!((estate.probes("rejected").await, estate.probes("accepted").await), (4, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_about_a_caller_on_whom_nothing_depends() {
    let estate = Estate::start().await;
    let tokens = estate.exchange("portal", "").await;
    let phone = estate.exchange("phone", "").await;
    let forged = tampered(&tokens.access, |claims| claims["scope"] = "write".into());
    for (caller, token) in [
        ("stranger", &*tokens.access),
        ("plain", &tokens.access),
        ("api-server", tokens.refresh()),
        ("portal", &forged),
        ("portal", &with_another_bit(tokens.refresh())),
        ("portal", "theirs"),
    ] {
        assert_nothing_is_done_for(&estate, &basic(caller, &its_secret(caller)), token).await;
    }
    // A public client has no secret that could be tried.
    let named = format!("{}&client_id=phone", phone.refresh());
    assert_its_own(&estate.ask(REVOKE, "", &named).await, 200, b"");
    assert_eq!(estate.try_refresh("phone", phone.refresh()).await.status, 400);
    let probed = || estate.idp.upstream.requests().len() - estate.idp.passed().len();
    assert_eq!(probed(), 0);
    // About one on whom it does depend it is asked once: somebody unknown, the caller, and a
    // wrong secret in its name.
    for _ in 0..3 {
        assert_eq!(estate.introspect("portal", &tokens.access).await.json()["active"], true);
        assert_eq!(probed(), 3);
    }
    assert_its_own(&estate.revoke("portal", &tokens.access).await, 200, b"");
    // Nobody is shown what is over.
    assert_its_own(&estate.introspect("api-server", &tokens.access).await, 200, ITS_INACTIVE);
    assert_eq!(probed(), 3);
}
