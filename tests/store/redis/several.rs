//! Several stores on one server, as several processes have them.

use std::sync::Arc;

use cambio::clock;
use cambio::exchange::cut_off::{Ancestor, CutOff};
use cambio::exchange::family::End;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{open, single};
use crate::servers::Server;
use crate::support::{HOUR, begin, ended, grant, kept, once, opaque_of, rotate};

const RACERS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_rotations_in_two_stores_one_gets_through() {
    let server = Server::start("");
    let stores = [open(&single(&server)).await, open(&single(&server)).await];
    let (mut family, mut token) = begin(grant());
    stores[0].issue(&kept(Some(&family), None)).await.unwrap();
    let mut won = [0; 2];
    for _ in 0..200 {
        let start = Arc::new(Barrier::new(RACERS));
        let mut racers = JoinSet::new();
        for at in 0..RACERS {
            let (store, start) = (Arc::clone(&stores[at % 2]), Arc::clone(&start));
            let (rotated, successor) = rotate(&family, &token);
            racers.spawn(async move {
                let access = opaque_of(&rotated);
                start.wait().await;
                let through = store.rotate(&kept(Some(&rotated), Some(&access))).await.unwrap();
                (at, through, rotated, successor, access)
            });
        }
        let all = racers.join_all().await;
        let through: Vec<_> = all.iter().filter(|(_, through, ..)| *through).collect();
        let [(winner, _, rotated, successor, _)] = through[..] else {
            panic!("{} rotations of {RACERS} got through", through.len())
        };
        for (at, _, _, _, access) in &all {
            let found = stores[(at + 1) % 2].opaque_claims(&access.id).await.unwrap();
            assert_eq!(found.is_some(), at == winner);
        }
        for store in &stores {
            assert_eq!(store.family(family.id).await, Ok(Some(rotated.clone())));
        }
        won[winner % 2] += 1;
        (family, token) = (rotated.clone(), successor.clone());
    }
    assert_eq!(family.sequence, 200);
    assert!(won[0] > 0 && won[1] > 0, "{won:?}: they did not race");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_store_keeps_the_other_knows() {
    let server = Server::start("");
    let (one, other) = (open(&single(&server)).await, open(&single(&server)).await);
    let (family, token) = begin(grant());
    one.issue(&kept(Some(&family), None)).await.unwrap();
    assert_eq!(other.family(family.id).await, Ok(Some(family.clone())));
    one.end_family(family.id, End::Revoked).await.unwrap();
    assert_eq!(other.family(family.id).await, Ok(Some(ended(&family, End::Revoked))));
    let (rotated, _) = rotate(&family, &token);
    assert_eq!(other.rotate(&kept(Some(&rotated), None)).await, Ok(false));

    let once = once();
    assert_eq!(one.remember_once(&once).await, Ok(true));
    assert_eq!(other.remember_once(&once).await, Ok(false));
    one.revoke_access_token("jti", clock::now().plus(HOUR)).await.unwrap();
    assert_eq!(other.is_access_token_revoked("jti").await, Ok(true));
    let ancestor = Ancestor::Client("portal".to_owned());
    let cut_off = CutOff { ancestor: ancestor.clone(), before: clock::now() };
    one.cut_off(&cut_off, clock::now()).await.unwrap();
    assert_eq!(other.cut_off_of(&[ancestor]).await, Ok(Some(cut_off.before)));

    // One that ends leaves the other alone.
    one.close().await;
    assert_eq!(other.ping().await, Ok(()));
}

/// More than a server looks at in one go, among much that is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_finds_descendants_among_many() {
    let server = Server::start("enable-debug-command yes");
    server.command::<()>(&["DEBUG", "POPULATE", "5000", "other"]);
    let store = open(&single(&server)).await;
    let granted = grant();
    let mut writers = JoinSet::new();
    for at in 0..3000 {
        let store = Arc::clone(&store);
        let grant = if at % 3 == 0 { granted.clone() } else { grant() };
        writers.spawn(async move {
            let (family, _) = begin(grant);
            let access = opaque_of(&family);
            store.issue(&kept(Some(&family), Some(&access))).await.unwrap();
        });
    }
    writers.join_all().await;
    let now = clock::now();
    let cut_off = CutOff { ancestor: Ancestor::Subject(granted.subject), before: now };
    let hit = store.cut_off(&cut_off, now).await.unwrap();
    assert_eq!((hit.families, hit.opaque_access_tokens), (1000, 1000));
}
