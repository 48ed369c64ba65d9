//! Redis, with real servers.

mod contents;
mod outages;
mod refusals;
mod several;

use std::sync::Arc;
use std::time::Duration;

use cambio::config::{RedisSettings, RedisTopology};
use cambio::store::redis::RedisStore;
use cambio::store::{OpenError, Store};
use url::Url;

use super::servers::{Authority, Server, Watched, cluster};
use super::suite;

/// Everything that the store's user needs, as the README says.
const RULE: &str = "~cambio:* +ping +eval +evalsha +get +set +mget +exists +hset +hmget +expireat \
                    +scan +time +info";
const RULE_OF_CLUSTER: &str = "+cluster|slots +asking";
const PASSWORD: &str = "canary-password-of-the-store";

fn settings(topology: RedisTopology, urls: Vec<Url>) -> RedisSettings {
    RedisSettings {
        urls,
        topology,
        username: None,
        password: None,
        ca: None,
        connect_timeout: Duration::from_secs(10),
        command_timeout: Duration::from_secs(10),
        prefix: "cambio:".to_owned(),
    }
}

fn single(server: &Server) -> RedisSettings {
    settings(RedisTopology::Single, vec![server.url()])
}

fn with_user(settings: RedisSettings) -> RedisSettings {
    let (username, password) = (Some("cambio".to_owned()), Some(PASSWORD.into()));
    RedisSettings { username, password, ..settings }
}

/// Lines of a server's configuration.
fn user(rule: &str) -> String {
    format!("user cambio on >{PASSWORD} {rule}\n")
}

async fn open(settings: &RedisSettings) -> Arc<dyn Store> {
    Arc::new(RedisStore::open(settings).await.unwrap())
}

/// The address that is named, and why it can't be used.
async fn refused(settings: &RedisSettings) -> (String, String) {
    match RedisStore::open(settings).await {
        Err(OpenError::Redis { address, why }) => (address, why),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_is_a_store() {
    let server = Server::start("");
    suite::whole(open(&single(&server)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_and_a_prefix_keep_others_apart() {
    let server = Server::start("databases 4");
    let url: Url = format!("{}/3", server.url()).parse().unwrap();
    let of = |prefix: &str| RedisSettings {
        prefix: prefix.to_owned(),
        ..settings(RedisTopology::Single, vec![url.clone()])
    };
    let (one, other) = (open(&of("one:")).await, open(&of("other/")).await);
    suite::whole(one).await;
    let once = super::support::once();
    assert_eq!(other.remember_once(&once).await, Ok(true));
    let keyspace: String = server.command(&["INFO", "keyspace"]);
    assert!(keyspace.contains("\r\ndb3:") && !keyspace.contains("db0:"), "{keyspace}");
    suite::whole(other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_with_tls_and_a_user_is_a_store() {
    let authority = Authority::new();
    let server = Server::start(&format!("{}{}", authority.lines(), user(RULE)));
    let settings = RedisSettings {
        ca: Some(vec![authority.certificate.clone()]),
        ..with_user(settings(RedisTopology::Single, vec![server.tls_url()]))
    };
    suite::whole(open(&settings).await).await;
    assert_eq!(server.command::<Vec<String>>(&["ACL", "LOG"]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_a_store() {
    let servers = cluster(3, 0, "");
    let urls = servers[..1].iter().map(Server::url).collect();
    suite::whole(open(&settings(RedisTopology::Cluster, urls)).await).await;
    for server in &servers {
        assert!(server.command::<u64>(&["DBSIZE"]) > 0, "all is on some of the servers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_tls_and_a_user_is_a_store() {
    let authority = Authority::new();
    let user = user(&format!("{RULE} {RULE_OF_CLUSTER}"));
    let servers = cluster(3, 0, &format!("tls-cluster yes\n{}{user}", authority.lines()));
    let urls = servers.iter().map(Server::tls_url).collect();
    let settings = RedisSettings {
        ca: Some(vec![authority.certificate.clone()]),
        ..with_user(settings(RedisTopology::Cluster, urls))
    };
    suite::whole(open(&settings).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sentinels_watch_is_a_store() {
    let watched = Watched::start(&user(RULE), "");
    let topology = RedisTopology::Sentinel { master: "ours".to_owned() };
    suite::whole(open(&with_user(settings(topology, watched.urls()))).await).await;
}
