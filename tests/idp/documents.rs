//! The merged metadata and JWKS: the identity provider's own, with Cambio's grants and key added.

use reqwest::Method;
use serde_json::{Value, json};

use crate::answered::{Answered, part};
use crate::estate::Estate;
use crate::idp::Kind;
use crate::stage::AUDIENCE;

async fn documents_are_its_own_with_ours_added(kind: Kind) {
    let estate = Estate::of(kind).await;
    let minted = estate.exchange(AUDIENCE).await.access;
    let signer = part(&minted, 0).unwrap()["kid"].clone();

    let mut own = estate.alone().get(estate.facts.metadata).await.json();
    let merged = estate.document(estate.facts.metadata).await;
    let grants = own["grant_types_supported"].as_array_mut().unwrap();
    for grant in ["urn:ietf:params:oauth:grant-type:token-exchange", "refresh_token"] {
        if !grants.contains(&json!(grant)) {
            grants.push(json!(grant));
        }
    }
    // Neither leaves an endpoint out that Cambio serves.
    assert_eq!(merged, own);
    assert_eq!(merged["issuer"], estate.facts.issuer);
    for (name, path) in [
        ("token_endpoint", estate.facts.token),
        ("jwks_uri", estate.facts.jwks),
        ("introspection_endpoint", estate.facts.introspection),
        ("revocation_endpoint", estate.facts.revocation),
    ] {
        let expected = format!("{}{path}", estate.origin());
        assert_eq!(merged[name], expected, "{name}");
    }

    let mut own = estate.alone().get(estate.facts.jwks).await.json();
    let merged = estate.document(estate.facts.jwks).await;
    let ours: Vec<&Value> =
        merged["keys"].as_array().unwrap().iter().filter(|key| key["kid"] == signer).collect();
    let [ours] = ours.as_slice() else { panic!("{merged}") };
    assert!(ours.get("d").is_none(), "a private key is published");
    own["keys"].as_array_mut().unwrap().push((*ours).clone());
    assert_eq!(merged, own);

    for path in [estate.facts.metadata, estate.facts.jwks] {
        is_served_as_documents_are(&estate, path).await;
    }
}

/// Length, validator and HEAD are those of the merged document.
async fn is_served_as_documents_are(estate: &Estate, path: &str) {
    let whole = estate.through().get(path).await;
    assert_eq!(whole.field("content-length"), Some(whole.text.len().to_string().as_str()));
    let tag = whole.field("etag").unwrap();
    let head = Answered::to(estate.through().request(Method::HEAD, path)).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    for name in ["content-length", "content-type", "etag"] {
        assert_eq!(head.field(name), whole.field(name), "{path}: {name}");
    }
    let again = estate.through().request(Method::GET, path).header("if-none-match", tag);
    assert_eq!(Answered::to(again).await.status, 304, "{path}");
    let other = estate.through().request(Method::GET, path).header("if-none-match", "\"other\"");
    assert_eq!(Answered::to(other).await.text, whole.text, "{path}");
}

in_front_of_each!(documents_are_its_own_with_ours_added);
