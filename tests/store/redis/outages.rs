//! Servers that are slow, stopped, gone, back again, or no longer the ones to ask.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cambio::clock;
use cambio::config::{RedisSettings, RedisTopology};
use cambio::dev::loopback::Reservation;
use cambio::exchange::cut_off::CutOff;
use cambio::exchange::family::{End, Family};
use cambio::store::{Store, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::interval;

use super::{open, settings, single};
use crate::servers::{PATIENCE, Server, Watched, cluster, wait};
use crate::support::{HOUR, begin, family, kept, once, opaque_of, rotate};

/// Of each command.
const LIMIT: Duration = Duration::from_millis(500);
/// How much later than after [`LIMIT`] a test may see an answer, on a machine that does much else.
const SLACK: Duration = Duration::from_millis(700);

fn impatient(settings: RedisSettings) -> RedisSettings {
    RedisSettings { connect_timeout: LIMIT, command_timeout: LIMIT, ..settings }
}

/// Lets time pass until `attempt` is `Some`.
async fn eventually<T, F>(what: &str, attempt: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    let mut pause = interval(Duration::from_millis(10));
    loop {
        if let Some(result) = attempt().await {
            return result;
        }
        assert!(began.elapsed() < PATIENCE, "it never came to be: {what}");
        pause.tick().await;
    }
}

/// Until the replica has all that the master has now.
fn replicated(master: &Server, replica: &Server) {
    let offset = |server: &Server, field: &str| server.info("replication", field).parse::<u64>();
    let written = offset(master, "master_repl_offset").unwrap();
    wait("replication", || offset(replica, "slave_repl_offset").is_ok_and(|read| read >= written));
}

/// Until all that the store is made of answers.
async fn works_again(store: &Arc<dyn Store>) {
    eventually("a store that works", async || {
        let family = family();
        store.issue(&kept(Some(&family), Some(&opaque_of(&family)))).await.ok()?;
        (store.family(family.id).await.ok()? == Some(family)).then_some(())?;
        store.ping().await.ok()
    })
    .await;
}

/// What one of each kind of call is answered with, and after how long.
async fn everything(store: &Arc<dyn Store>) -> Vec<(Result<(), StoreError>, Duration)> {
    type Answer = Result<(), StoreError>;
    async fn timed(call: impl Future<Output = Answer>) -> (Answer, Duration) {
        let began = Instant::now();
        (call.await, began.elapsed())
    }
    let mut calls = JoinSet::new();
    let (first, token) = begin(crate::support::grant());
    let rotated = rotate(&first, &token).0;
    let access = opaque_of(&first);
    let ancestor = first.descent().ancestors[0].clone();
    let cut_off = CutOff { ancestor: ancestor.clone(), before: clock::now() };
    let [one, two, three, four, five, six, seven, eight, nine, ten, eleven] =
        std::array::from_fn(|_| Arc::clone(store));
    calls.spawn(timed(async move { one.issue(&kept(Some(&first), None)).await }));
    let id = rotated.id;
    calls.spawn(timed(async move { two.family(id).await.map(drop) }));
    calls.spawn(timed(async move { three.rotate(&kept(Some(&rotated), None)).await.map(drop) }));
    calls.spawn(timed(async move { four.end_family(id, End::Revoked).await }));
    calls.spawn(timed(async move { five.opaque_claims(&access.id).await.map(drop) }));
    calls.spawn(timed(async move { six.revoke_access_token("jti", clock::now()).await }));
    calls.spawn(timed(async move { seven.is_access_token_revoked("jti").await.map(drop) }));
    calls.spawn(timed(async move { eight.remember_once(&once()).await.map(drop) }));
    calls.spawn(timed(async move { nine.cut_off(&cut_off, clock::now()).await.map(drop) }));
    calls.spawn(timed(async move { ten.cut_off_of(&[ancestor]).await.map(drop) }));
    calls.spawn(timed(async move { eleven.ping().await }));
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_keeps_nobody_waiting_and_nothing_piles_up() {
    let server = Server::start("");
    let store = open(&impatient(single(&server))).await;
    works_again(&store).await;
    let clients = || server.info("clients", "connected_clients").parse::<u32>().unwrap();
    let before = clients();
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    server.signal("-STOP");

    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < 8 * LIMIT {
        for (answer, took) in everything(&store).await {
            assert_eq!(answer, Err(StoreError::TimedOut));
            assert!(took < LIMIT + SLACK, "{took:?}");
        }
        rounds += 1;
    }
    assert!(rounds > 8, "only {rounds} rounds");

    server.signal("-CONT");
    let began = Instant::now();
    works_again(&store).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Of all those calls the server has got only the first few: what was under way when it stopped.
    let stats: String = server.command(&["INFO", "commandstats"]);
    let calls = |command: &str| {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        let calls = line.and_then(|line| line.split_once("calls=")?.1.split_once(','));
        calls.map_or(0, |(calls, _)| calls.parse::<u32>().unwrap())
    };
    assert!(calls("exists") <= 20, "{stats}");
    assert!(calls("mget") <= 20, "{stats}");
    wait("connections that are closed", || clients() <= before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_may_be_under_way_still_end_in_time() {
    let server = Server::start("");
    let store = open(&impatient(single(&server))).await;
    works_again(&store).await;
    server.signal("-STOP");
    let mut calls = JoinSet::new();
    for _ in 0..3000 {
        let store = Arc::clone(&store);
        calls.spawn(async move {
            let began = Instant::now();
            (store.is_access_token_revoked("jti").await, began.elapsed())
        });
    }
    for (answer, took) in calls.join_all().await {
        assert_eq!(answer, Err(StoreError::TimedOut));
        assert!(took < LIMIT + 2 * SLACK, "{took:?}");
    }
    server.signal("-CONT");
    works_again(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let mut server = Server::start("appendonly yes\nappendfsync always");
    let store = open(&single(&server)).await;
    let (first, token) = begin(crate::support::grant());
    store.issue(&kept(Some(&first), None)).await.unwrap();
    let before = clock::now();
    let [ancestor, ..] = family().descent().ancestors;
    let cut_off = CutOff { ancestor: ancestor.clone(), before };
    store.cut_off(&cut_off, before).await.unwrap();
    store.revoke_access_token("jti", before.plus(HOUR)).await.unwrap();
    let seen = once();
    assert_eq!(store.remember_once(&seen).await, Ok(true));

    for _ in 0..5 {
        // Killed in the middle of it.
        let is_over = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let mut writers = JoinSet::new();
        for at in 0..8 {
            let (store, is_over) = (Arc::clone(&store), Arc::clone(&is_over));
            let count = Arc::clone(&count);
            writers.spawn(async move {
                let mut acknowledged: Vec<Family> = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let (first, token) = begin(crate::support::grant());
                    if store.issue(&kept(Some(&first), None)).await.is_err() {
                        continue;
                    }
                    let (mut rotated, _) = rotate(&first, &token);
                    if store.rotate(&kept(Some(&rotated), None)).await != Ok(true) {
                        continue;
                    }
                    if at % 2 == 0 {
                        if store.end_family(first.id, End::Revoked).await.is_err() {
                            continue;
                        }
                        rotated.ended = Some(End::Revoked);
                    }
                    acknowledged.push(rotated);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                acknowledged
            });
        }
        wait("work", || count.load(Ordering::Relaxed) > 50);
        server.kill();
        is_over.store(true, Ordering::Relaxed);
        let acknowledged = writers.join_all().await.concat();
        assert!(acknowledged.len() > 50);
        assert!(server.run(), "its port is taken");
        works_again(&store).await;
        for family in acknowledged {
            assert_eq!(store.family(family.id).await, Ok(Some(family)));
        }
    }
    assert_eq!(store.family(first.id).await, Ok(Some(first.clone())));
    let (rotated, _) = rotate(&first, &token);
    assert_eq!(store.rotate(&kept(Some(&rotated), None)).await, Ok(true));
    assert_eq!(store.cut_off_of(&[ancestor]).await, Ok(Some(before)));
    assert_eq!(store.is_access_token_revoked("jti").await, Ok(true));
    assert_eq!(store.remember_once(&seen).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_at_the_start_is_used_once_it_is_up() {
    let reserved = Reservation::make().unwrap();
    let url = format!("redis://{}", reserved.address()).parse().unwrap();
    let settings = settings(RedisTopology::Single, vec![url]);
    let store = open(&settings).await;
    // At once, however long a command may take.
    for (answer, took) in everything(&store).await {
        assert_eq!(answer, Err(StoreError::Unreachable));
        assert!(took < settings.command_timeout / 2, "{took:?}");
    }
    let server = Server::start_at("", reserved.address().port(), false);
    assert_eq!(server.port, reserved.address().port());
    works_again(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_at_the_start_is_used_once_it_goes_on() {
    let server = Server::start("");
    server.signal("-STOP");
    let began = Instant::now();
    let store = open(&impatient(single(&server))).await;
    assert!(began.elapsed() < 3 * LIMIT + SLACK, "{:?}", began.elapsed());
    assert_eq!(store.ping().await, Err(StoreError::TimedOut));
    server.signal("-CONT");
    works_again(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_its_scripts_is_told_them_again() {
    let server = Server::start("");
    let store = open(&single(&server)).await;
    for _ in 0..3 {
        server.command::<()>(&["SCRIPT", "FLUSH"]);
        let (first, token) = begin(crate::support::grant());
        store.issue(&kept(Some(&first), None)).await.unwrap();
        server.command::<()>(&["SCRIPT", "FLUSH"]);
        let (rotated, _) = rotate(&first, &token);
        assert_eq!(store.rotate(&kept(Some(&rotated), None)).await, Ok(true));
        server.command::<()>(&["SCRIPT", "FLUSH"]);
        store.end_family(first.id, End::Revoked).await.unwrap();
        server.command::<()>(&["SCRIPT", "FLUSH"]);
        assert_eq!(store.remember_once(&once()).await, Ok(true));
        server.command::<()>(&["SCRIPT", "FLUSH"]);
        store.revoke_access_token("jti", clock::now().plus(HOUR)).await.unwrap();
        // Known again, so that the text is not sent each time.
        assert_eq!(store.remember_once(&once()).await, Ok(true));
        server.command::<()>(&["CONFIG", "RESETSTAT"]);
        assert_eq!(store.remember_once(&once()).await, Ok(true));
        let stats: String = server.command(&["INFO", "commandstats"]);
        assert!(stats.contains("cmdstat_evalsha:calls=1,"), "{stats}");
        assert!(!stats.contains("cmdstat_eval:"), "{stats}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_made_again_and_nobody_notices() {
    let server = Server::start("");
    let store = open(&single(&server)).await;
    let (mut family, mut token) = begin(crate::support::grant());
    store.issue(&kept(Some(&family), None)).await.unwrap();
    for _ in 0..50 {
        server.command::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let (rotated, successor) = rotate(&family, &token);
        assert_eq!(store.rotate(&kept(Some(&rotated), None)).await, Ok(true));
        assert_eq!(store.family(family.id).await, Ok(Some(rotated.clone())));
        (family, token) = (rotated, successor);
    }
}

/// Stands between a store and its server. Told so, it cuts the connection off instead of passing the
/// next answer on.
async fn loses_answers(server: &Server) -> (url::Url, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap()).parse().unwrap();
    let loses = Arc::new(AtomicBool::new(false));
    let (told, port) = (Arc::clone(&loses), server.port);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(pass_on(client, server, Arc::clone(&told)));
        }
    });
    (url, loses)
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, told: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let answers = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if told.swap(false, Ordering::AcqRel) {
                return;
            }
            to_client.write_all(&bytes[..count]).await.unwrap();
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => (),
        () = answers => (),
    }
}

/// The second attempt must not be taken for somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_asked_for_again_and_nothing_is_done_twice() {
    let server = Server::start("");
    let (url, loses) = loses_answers(&server).await;
    let store = open(&settings(RedisTopology::Single, vec![url])).await;
    let lose = || loses.store(true, Ordering::Release);
    let was_lost = || assert!(!loses.load(Ordering::Acquire), "nothing was lost");
    for _ in 0..10 {
        let (first, token) = begin(crate::support::grant());
        lose();
        assert_eq!(store.issue(&kept(Some(&first), Some(&opaque_of(&first)))).await, Ok(()));
        was_lost();
        let (rotated, _) = rotate(&first, &token);
        let access = opaque_of(&rotated);
        lose();
        assert_eq!(store.rotate(&kept(Some(&rotated), Some(&access))).await, Ok(true));
        was_lost();
        assert_eq!(store.family(first.id).await, Ok(Some(rotated.clone())));
        assert_eq!(store.opaque_claims(&access.id).await, Ok(Some(access.claims)));
        assert_eq!(store.rotate(&kept(Some(&rotated), None)).await, Ok(false));
        lose();
        let (other, _) = rotate(&first, &token);
        assert_eq!(store.rotate(&kept(Some(&other), None)).await, Ok(false));
        was_lost();
        let once = once();
        lose();
        assert_eq!(store.remember_once(&once).await, Ok(true));
        was_lost();
        assert_eq!(store.remember_once(&once).await, Ok(false));
        lose();
        assert_eq!(store.end_family(first.id, End::Revoked).await, Ok(()));
        was_lost();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_written_to_until_it_is_a_master() {
    let server = Server::start("");
    let store = open(&impatient(single(&server))).await;
    // Its master is not there.
    let reserved = Reservation::make().unwrap();
    let port = reserved.address().port().to_string();
    server.command::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    assert_eq!(store.remember_once(&once()).await, Err(StoreError::Unreachable));
    server.command::<()>(&["REPLICAOF", "NO", "ONE"]);
    works_again(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_memory_keeps_all_or_nothing() {
    let server = Server::start("maxmemory-policy noeviction");
    let store = open(&single(&server)).await;
    let (first, token) = begin(crate::support::grant());
    store.issue(&kept(Some(&first), None)).await.unwrap();
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let (rotated, _) = rotate(&first, &token);
    let access = opaque_of(&rotated);
    let rotation = kept(Some(&rotated), Some(&access));
    assert_eq!(store.rotate(&rotation).await, Err(StoreError::Failed));
    assert_eq!(store.family(first.id).await, Ok(Some(first)));
    assert_eq!(store.opaque_claims(&access.id).await, Ok(None));
    assert_eq!(store.remember_once(&once()).await, Err(StoreError::Failed));
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.rotate(&rotation).await, Ok(true));
    assert_eq!(store.opaque_claims(&access.id).await, Ok(Some(access.claims)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_are_asked_again_when_the_master_fails() {
    let mut watched = Watched::start("", "");
    let topology = RedisTopology::Sentinel { master: "ours".to_owned() };
    let store = open(&impatient(settings(topology, watched.urls()))).await;
    let (first, token) = begin(crate::support::grant());
    store.issue(&kept(Some(&first), None)).await.unwrap();
    replicated(&watched.master, &watched.replica);
    watched.master.kill();
    works_again(&store).await;
    assert_eq!(watched.replica.info("replication", "role"), "master");
    // What was replicated is there, and it goes on from that.
    assert_eq!(store.family(first.id).await, Ok(Some(first.clone())));
    let (rotated, _) = rotate(&first, &token);
    assert_eq!(store.rotate(&kept(Some(&rotated), None)).await, Ok(true));
}

/// A master that was replaced while it did not answer goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_replaced_is_left() {
    let watched = Watched::start("", "");
    let topology = RedisTopology::Sentinel { master: "ours".to_owned() };
    let store = open(&impatient(settings(topology, watched.urls()))).await;
    works_again(&store).await;
    // Nobody asks the store meanwhile, so that its connection is still the old one.
    watched.master.signal("-STOP");
    wait("a new master", || watched.replica.info("replication", "role") == "master");
    watched.master.signal("-CONT");
    eventually("the new master is written to", async || {
        let family = family();
        store.issue(&kept(Some(&family), None)).await.ok()?;
        let key = format!("cambio:{{{}}}:family", family.id);
        (watched.replica.command::<u64>(&["EXISTS", &key]) == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_when_one_of_its_masters_fails() {
    let mut servers = cluster(3, 3, "");
    let urls = servers.iter().map(Server::url).collect();
    let store = open(&impatient(settings(RedisTopology::Cluster, urls))).await;
    let families: Vec<_> = (0..30).map(|_| begin(crate::support::grant())).collect();
    for (family, _) in &families {
        store.issue(&kept(Some(family), None)).await.unwrap();
    }
    for at in 0..3 {
        replicated(&servers[at], &servers[at + 3]);
    }
    // One that hangs, then one that is gone.
    servers[0].signal("-STOP");
    wait("a new master", || servers[3].info("replication", "role") == "master");
    for (family, _) in &families {
        let found = eventually("a family", async || store.family(family.id).await.ok()).await;
        assert_eq!(found.as_ref(), Some(family));
    }
    servers[0].signal("-CONT");
    wait("a replica", || servers[0].info("replication", "master_link_status") == "up");
    servers[1].kill();
    wait("a new master", || servers[4].info("replication", "role") == "master");
    for (family, token) in &families {
        let (rotated, _) = rotate(family, token);
        let rotation = kept(Some(&rotated), None);
        let rotate = async || store.rotate(&rotation).await.ok();
        assert!(eventually("a rotation", rotate).await);
        assert_eq!(store.family(family.id).await, Ok(Some(rotated)));
    }
    works_again(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_and_back_is_used_again() {
    let mut servers = cluster(3, 0, "appendonly yes\nappendfsync always");
    let urls = servers.iter().map(Server::url).collect();
    let store = open(&impatient(settings(RedisTopology::Cluster, urls))).await;
    let family = family();
    store.issue(&kept(Some(&family), None)).await.unwrap();
    servers.iter_mut().for_each(Server::kill);
    let began = Instant::now();
    while began.elapsed() < 4 * LIMIT {
        for (answer, took) in everything(&store).await {
            assert!(
                matches!(answer, Err(StoreError::Unreachable | StoreError::TimedOut)),
                "{answer:?}"
            );
            assert!(took < LIMIT + SLACK, "{took:?}");
        }
    }
    for server in &mut servers {
        assert!(server.run(), "its port is taken");
    }
    works_again(&store).await;
    assert_eq!(store.family(family.id).await, Ok(Some(family)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_of_a_cluster_that_stops_does_not_stop_the_others() {
    let servers = cluster(3, 0, "cluster-require-full-coverage no");
    let urls = servers.iter().map(Server::url).collect();
    // Those that go on have to answer in time, on a machine that does much else.
    let limit = 6 * LIMIT;
    let settings = settings(RedisTopology::Cluster, urls);
    let settings = RedisSettings { connect_timeout: limit, command_timeout: limit, ..settings };
    let store = open(&settings).await;
    let mut families: Vec<(Family, bool)> = Vec::new();
    // Chance decides which server has a family: as many as it takes until each kind is there.
    let is_there = |families: &[(Family, bool)], kind| families.iter().any(|one| one.1 == kind);
    while families.len() < 24 || !is_there(&families, true) || !is_there(&families, false) {
        assert!(families.len() < 1000, "one server has them all");
        let family = family();
        store.issue(&kept(Some(&family), None)).await.unwrap();
        let slot: u32 = servers[0].command(&["CLUSTER", "KEYSLOT", &family.id.to_string()]);
        families.push((family, slot < 16384 / 3));
    }
    servers[0].signal("-STOP");
    let began = Instant::now();
    while began.elapsed() < 2 * limit {
        let mut calls = JoinSet::new();
        for (family, is_gone) in families.clone() {
            let store = Arc::clone(&store);
            calls.spawn(async move { (store.family(family.id).await, family, is_gone) });
        }
        for (answer, family, is_gone) in calls.join_all().await {
            let expected = if is_gone { Err(StoreError::TimedOut) } else { Ok(Some(family)) };
            assert_eq!(answer, expected);
        }
    }
    servers[0].signal("-CONT");
    works_again(&store).await;
    for (family, _) in families {
        let found = eventually("a family", async || store.family(family.id).await.ok()).await;
        assert_eq!(found, Some(family));
    }
}
