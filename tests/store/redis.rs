//! Redis, with real servers.

use std::time::Duration;

use cambio::config::{RedisSettings, RedisTopology};
use cambio::exchange::cut_off::{Ancestor, CutOff};
use cambio::exchange::family::{End, Family, RefreshTokenSettings};
use cambio::exchange::grant::Grant;
use cambio::exchange::mint::Kept;
use cambio::exchange::subject::Once;
use cambio::exchange::token_id::Entropy;
use cambio::oauth::scope::Scope;
use cambio::store::Store as _;
use cambio::store::redis::RedisStore;
use cambio::time::Timestamp;

use crate::servers::Server;

fn settings(server: &Server) -> RedisSettings {
    RedisSettings {
        urls: vec![server.url()],
        topology: RedisTopology::Single,
        username: None,
        password: None,
        ca: None,
        connect_timeout: Duration::from_secs(1),
        command_timeout: Duration::from_secs(1),
        prefix: "cambio:".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_rotates_once_and_ends() {
    let server = Server::start(&[]);
    let store = RedisStore::open(&settings(&server)).await.unwrap();
    let now = cambio::clock::now();
    let settings = RefreshTokenSettings {
        lifetime: Duration::from_secs(60),
        idle: None,
        grace: Duration::ZERO,
    };
    let grant = Grant {
        client_id: "portal".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        subject_of_issuer: "alice".to_owned(),
        subject: "alice".to_owned(),
        audiences: vec!["https://api.example.com".to_owned()],
        scope: Scope::default(),
        claims: Vec::new(),
        granted_at: now,
    };
    let entropy = Entropy::from_octets([7; Entropy::OCTETS]);
    let (family, token) = Family::begin(grant, &settings, now, &entropy);
    let kept = |family: &Family| Kept { family: Some(family.clone()), opaque: None };
    assert_eq!(store.family(family.id).await, Ok(None));
    assert_eq!(store.issue(&kept(&family)).await, Ok(()));
    assert_eq!(store.family(family.id).await, Ok(Some(family.clone())));
    let (next, _) = family.rotated(&token, &settings, &entropy, now);
    assert_eq!(store.rotate(&kept(&next)).await, Ok(true));
    assert_eq!(store.rotate(&kept(&next)).await, Ok(false));
    assert_eq!(store.family(family.id).await, Ok(Some(next.clone())));

    let once = Once { key: [1; 32], until: now.plus(Duration::from_secs(60)) };
    assert_eq!(store.remember_once(&once).await, Ok(true));
    assert_eq!(store.remember_once(&once).await, Ok(false));

    assert_eq!(store.is_access_token_revoked("x").await, Ok(false));
    assert_eq!(store.revoke_access_token("x", now.plus(Duration::from_secs(60))).await, Ok(()));
    assert_eq!(store.is_access_token_revoked("x").await, Ok(true));

    let alice = Ancestor::Subject("alice".to_owned());
    assert_eq!(store.cut_off_of(&[alice.clone()]).await, Ok(None));
    let hit = store.cut_off(&CutOff { ancestor: alice.clone(), before: now }, now).await.unwrap();
    assert_eq!((hit.families, hit.opaque_access_tokens), (1, 0));
    let client = Ancestor::Client("portal".to_owned());
    assert_eq!(store.cut_off_of(&[client, alice]).await, Ok(Some(now)));

    assert_eq!(store.end_family(family.id, End::Revoked).await, Ok(()));
    assert_eq!(store.end_family(family.id, End::Expired).await, Ok(()));
    let ended = store.family(family.id).await.unwrap().unwrap();
    assert_eq!(ended.ended, Some(End::Revoked));
    assert_eq!(ended.sequence, 1);
    let _ = Timestamp::from_secs(0);
}
