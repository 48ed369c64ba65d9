//! Servers that can't be used: said at once, exactly, and without a secret.

use std::io;
use std::sync::{Arc, Mutex};

use cambio::config::{RedisSettings, RedisTopology};
use cambio::store::redis::RedisStore;
use cambio::store::{OpenError, StoreError};
use url::Url;

use super::{PASSWORD, RULE, RULE_OF_CLUSTER, open, refused, settings, single, user, with_user};
use crate::servers::{Authority, Server, Watched, cluster};

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_right() {
    let server = Server::start(&user(RULE));
    let right = with_user(single(&server));
    open(&right).await;
    let wrong = "canary-wrong-password";
    let cases = [
        (Some("cambio"), Some(wrong)),
        (Some("nobody"), Some(PASSWORD)),
        (Some("canary-user"), Some(wrong)),
        (None, Some(wrong)),
    ];
    for (username, password) in cases {
        let settings = RedisSettings {
            username: username.map(str::to_owned),
            password: password.map(Into::into),
            ..right.clone()
        };
        let error = RedisStore::open(&settings).await.unwrap_err();
        let address = format!("redis://127.0.0.1:{}", server.port);
        assert_eq!(
            error.to_string(),
            format!("the store at {address} can't be used: it refuses the credentials")
        );
        assert!(!format!("{error:?}").contains("canary"));
    }
    server.command::<()>(&["CONFIG", "SET", "requirepass", "canary-default"]);
    let none = single(&server);
    assert_eq!(refused(&none).await.1, "it wants credentials");
    let default = RedisSettings { password: Some("canary-default".into()), ..none };
    open(&default).await;
}

/// Each command of the rule is needed, and nothing that is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_right_that_is_needed() {
    let server = Server::start(&user(RULE));
    let settings = with_user(single(&server));
    let set = |rule: &str| {
        let mut words = vec!["ACL", "SETUSER", "cambio", "reset", "on"];
        let password = format!(">{PASSWORD}");
        words.push(&password);
        words.extend(rule.split_whitespace());
        server.command::<()>(&words);
    };
    // Without these it goes on, and is not told what they tell.
    let optional = ["+time", "+info"];
    let rights: Vec<_> = RULE.split_whitespace().filter(|word| word.starts_with('+')).collect();
    assert_eq!(rights.len(), 13);
    for right in rights {
        let rest: Vec<_> = RULE.split_whitespace().filter(|word| *word != right).collect();
        set(&rest.join(" "));
        if optional.contains(&right) {
            open(&settings).await;
            continue;
        }
        let name = right[1..].to_uppercase();
        let why = format!("its user may not run {name} on keys of this prefix");
        assert_eq!(refused(&settings).await, (address(&server), why));
    }
    set(&RULE.replace("~cambio:*", "~other:*"));
    let why = "its user may not run EVALSHA on keys of this prefix";
    assert_eq!(refused(&settings).await.1, why);
    set(&RULE.replace("~cambio:*", "%R~cambio:*"));
    assert_eq!(refused(&settings).await.1, why);
    set(RULE);
    open(&settings).await;
}

fn address(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_not_right() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start(&authority.lines());
    let of = |urls: Vec<Url>, ca: Option<&Authority>| RedisSettings {
        ca: ca.map(|ca| vec![ca.certificate.clone()]),
        ..settings(RedisTopology::Single, urls)
    };
    let unknown = "TLS fails: invalid peer certificate: UnknownIssuer";
    let address = format!("rediss://127.0.0.1:{}", server.tls_port);
    let url = server.tls_url();
    open(&of(vec![url.clone()], Some(&authority))).await;
    for ca in [Some(&other), None] {
        let refused = refused(&of(vec![url.clone()], ca)).await;
        assert_eq!(refused, (address.clone(), unknown.to_owned()));
    }
    // By a name that its certificate does not have.
    let localhost: Url = format!("rediss://localhost:{}", server.tls_port).parse().unwrap();
    let (_, why) = refused(&of(vec![localhost], Some(&authority))).await;
    assert!(why.starts_with("TLS fails: invalid peer certificate: certificate not valid"), "{why}");
    // TLS where there is none, or none where there is: the server hangs up or waits, as one may that
    // will know better soon.
    for url in [
        format!("rediss://127.0.0.1:{}", server.port),
        format!("redis://127.0.0.1:{}", server.tls_port),
    ] {
        let store = open(&of(vec![url.parse().unwrap()], Some(&authority))).await;
        let answer = store.ping().await;
        assert!(
            matches!(answer, Err(StoreError::Unreachable | StoreError::TimedOut)),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_somebody_else() {
    let server = Server::start("");
    let settings = single(&server);
    let version = "cambio:{schema}:version";
    let else_ = "it holds something else under this prefix";
    let cases = [
        ("2", "what it holds is of version 2, and this is version 1"),
        ("0", "what it holds is of version 0, and this is version 1"),
        ("canary", else_),
        ("", else_),
    ];
    for (kept, why) in cases {
        server.command::<()>(&["SET", version, kept]);
        assert_eq!(refused(&settings).await, (address(&server), why.to_owned()));
        assert_eq!(server.command::<String>(&["GET", version]), kept);
        assert_eq!(server.command::<u64>(&["DBSIZE"]), 1, "something was written");
    }
    server.command::<()>(&["DEL", version]);
    server.command::<()>(&["HSET", version, "a", "b"]);
    assert_eq!(refused(&settings).await.1, else_);
    server.command::<()>(&["DEL", version]);
    open(&settings).await;
    assert_eq!(server.command::<String>(&["GET", version]), "1");
    open(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_another_kind() {
    let server = Server::start("databases 2");
    let with_path: Url = format!("{}/2", server.url()).parse().unwrap();
    let (_, why) = refused(&settings(RedisTopology::Single, vec![with_path])).await;
    assert_eq!(why, "it has no such database");
    let as_cluster = settings(RedisTopology::Cluster, vec![server.url()]);
    assert_eq!(refused(&as_cluster).await.1, "it is not part of a cluster");
    let ours = RedisTopology::Sentinel { master: "ours".to_owned() };
    let as_sentinel = settings(ours.clone(), vec![server.url()]);
    assert_eq!(refused(&as_sentinel).await.1, "it does not know the command SENTINEL");

    let without = Server::start("rename-command EVALSHA \"\"");
    let why = "it does not know the command EVALSHA";
    assert_eq!(refused(&single(&without)).await, (address(&without), why.to_owned()));

    let watched = Watched::start("", "");
    let theirs = RedisTopology::Sentinel { master: "theirs".to_owned() };
    let why = "the sentinel knows no master of this name";
    let at = address(&watched.sentinels[0]);
    let refused_by = refused(&settings(theirs, watched.urls()[..1].to_vec())).await;
    assert_eq!(refused_by, (at, why.to_owned()));
    open(&settings(ours, watched.urls())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_as_one_server_and_a_user_without_its_rights() {
    let servers = cluster(3, 0, &user(RULE));
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    // None of the three has all slots.
    let mut whys = Vec::new();
    for url in &urls {
        if let Err(OpenError::Redis { why, .. }) =
            RedisStore::open(&settings(RedisTopology::Single, vec![url.clone()])).await
        {
            whys.push(why);
        }
    }
    assert_eq!(whys, ["it is part of a cluster"; 3]);
    let settings = with_user(settings(RedisTopology::Cluster, urls));
    let why = "its user may not run CLUSTER SLOTS on keys of this prefix";
    assert_eq!(refused(&settings).await.1, why);
    for server in &servers {
        let rule = RULE_OF_CLUSTER.split_whitespace();
        let words: Vec<_> = ["ACL", "SETUSER", "cambio"].into_iter().chain(rule).collect();
        server.command::<()>(&words);
    }
    open(&settings).await;
    let wrong = RedisSettings { password: Some("canary".into()), ..settings };
    assert_eq!(refused(&wrong).await.1, "it refuses the credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_with_a_password() {
    let watched = Watched::start("", "");
    let password = format!(">{PASSWORD}");
    for server in watched.sentinels.iter().chain([&watched.master]) {
        server.command::<()>(&["ACL", "SETUSER", "default", "resetpass", &password]);
    }
    let topology = RedisTopology::Sentinel { master: "ours".to_owned() };
    let none = settings(topology, watched.urls());
    assert_eq!(refused(&none).await.1, "it wants credentials");
    let wrong = RedisSettings { password: Some("canary".into()), ..none.clone() };
    assert_eq!(refused(&wrong).await.1, "it refuses the credentials");
    let right = RedisSettings { password: Some(PASSWORD.into()), ..none };
    open(&right).await;
}

/// What is logged on one thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn what_is_logged_names_the_server_and_the_fault_alone() {
    let lines = Lines::default();
    let subscriber = |writer: Lines| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish()
    };
    // While there is but one, what other threads come by first is taken for what nobody wants.
    let _second = tracing::Dispatch::new(subscriber(Lines::default()));
    let _guard = tracing::subscriber::set_default(subscriber(lines.clone()));
    let options = format!("maxmemory 100mb\nmaxmemory-policy volatile-lru\n{}", user(RULE));
    let mut server = Server::start(&options);
    let store = open(&with_user(single(&server))).await;
    let text = lines.text();
    assert!(text.contains("`maxmemory-policy` is not `noeviction`"), "{text}");
    assert!(text.contains("`appendonly` is not `yes`"), "{text}");
    assert_eq!(store.ping().await, Ok(()));
    server.kill();
    assert!(store.ping().await.is_err());
    let text = lines.text();
    assert!(text.contains("it refuses connections"), "{text}");
    assert!(text.contains(&address(&server)), "{text}");
    assert!(server.run(), "its port is taken");
    let began = std::time::Instant::now();
    while store.ping().await.is_err() {
        assert!(began.elapsed() < crate::servers::PATIENCE);
        tokio::task::yield_now().await;
    }
    let text = lines.text();
    assert!(text.contains("the store can be used again"), "{text}");
    assert!(text.contains("the store has lost all that it kept"), "{text}");
    server.command::<()>(&["ACL", "SETUSER", "cambio", "-get"]);
    assert!(store.is_access_token_revoked("canary-jti").await.is_ok());
    assert!(store.revoke_access_token("canary-jti", cambio::clock::now()).await.is_err());
    server.command::<()>(&["ACL", "SETUSER", "cambio", "resetpass", ">canary-other"]);
    server.command::<u64>(&["CLIENT", "KILL", "USER", "cambio"]);
    assert!(store.ping().await.is_err());
    let text = lines.text();
    assert!(text.contains("the store answers with an error"), "{text}");
    assert!(text.contains("it refuses the credentials"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
