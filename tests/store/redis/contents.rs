//! What is in the server: nothing secret, nothing for ever, nothing that somebody else wrote.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::clock;
use cambio::exchange::cut_off::{Ancestor, CutOff};
use cambio::exchange::family::End;
use cambio::exchange::opaque::{OpaqueAccessToken, OpaqueId, PREFIX};
use cambio::store::StoreError;
use redis::Value;

use super::{open, single};
use crate::servers::Server;
use crate::suite;
use crate::support::{HOUR, begin, family, grant, kept, once, opaque_of, random, rotate};

fn keys(server: &Server) -> Vec<String> {
    let mut keys: Vec<String> = server.command(&["KEYS", "*"]);
    keys.sort();
    keys
}

/// All keys and all values, as they are.
fn dump(server: &Server) -> Vec<u8> {
    fn write(value: Value, out: &mut Vec<u8>) {
        match value {
            Value::BulkString(bytes) => out.extend(bytes),
            Value::SimpleString(text) => out.extend(text.into_bytes()),
            Value::Int(number) => out.extend(number.to_string().into_bytes()),
            Value::Array(values) => values.into_iter().for_each(|value| write(value, out)),
            other => panic!("{other:?}"),
        }
        out.push(b'\n');
    }
    let mut out = Vec::new();
    for key in keys(server) {
        out.extend(key.as_bytes());
        out.push(b'\n');
        let kind: String = server.command(&["TYPE", &key]);
        let read = if kind == "hash" { "HGETALL" } else { "GET" };
        write(server.command(&[read, &key]), &mut out);
    }
    out
}

/// In which of the ways that one may write octets they stand in the dump.
fn spellings(dump: &[u8], octets: &[u8]) -> Vec<&'static str> {
    let hex = octets.iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"));
    // Base64 of something longer has them in one of three ways.
    let shifted = |engine: &dyn Fn(&[u8]) -> String| {
        (0..3)
            .map(|by| {
                let text = engine(&[&vec![0; by][..], octets].concat());
                text[4..text.len() - 4].to_owned().into_bytes()
            })
            .collect::<Vec<_>>()
    };
    let all = [
        ("raw", vec![octets.to_vec()]),
        ("hex", vec![hex.clone().into_bytes(), hex.to_uppercase().into_bytes()]),
        ("base64", shifted(&|octets| STANDARD.encode(octets))),
        ("base64url", shifted(&|octets| URL_SAFE_NO_PAD.encode(octets))),
    ];
    let has = |needle: &Vec<u8>| memchr::memmem::find(dump, needle).is_some();
    all.iter().filter(|(_, needles)| needles.iter().any(has)).map(|(name, _)| *name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_can_be_had_from_what_is_kept() {
    let server = Server::start("");
    let store = open(&single(&server)).await;
    let (first, token) = begin(grant());
    let mut texts = vec![token.to_text()];
    store.issue(&kept(Some(&first), None)).await.unwrap();
    let (mut current, mut token) = (first, token);
    for _ in 0..3 {
        let (rotated, successor) = rotate(&current, &token);
        let text = format!("{PREFIX}{}", {
            let octets = [&current.id.0[..], &random::<32>()].concat();
            URL_SAFE_NO_PAD.encode(octets)
        });
        let access =
            OpaqueAccessToken { id: OpaqueId::parse(&text).unwrap(), ..opaque_of(&current) };
        assert_eq!(store.rotate(&kept(Some(&rotated), Some(&access))).await, Ok(true));
        assert_eq!(store.opaque_claims(&access.id).await, Ok(Some(access.claims)));
        texts.extend([successor.to_text(), text.into()]);
        (current, token) = (rotated, successor);
    }

    let secrets: Vec<_> = texts
        .iter()
        .map(|text| {
            let octets = URL_SAFE_NO_PAD.decode(&text["cambio_rt_".len()..]).unwrap();
            octets[16..48].to_vec()
        })
        .collect();
    let found = |secret: &[u8]| spellings(&dump(&server), secret);
    let has = |text: &str| memchr::memmem::find(&dump(&server), text.as_bytes()).is_some();
    for (text, secret) in texts.iter().zip(&secrets) {
        assert!(!has(text));
        assert_eq!(found(secret), [""; 0]);
    }
    // The name of the family is no secret, and is found.
    assert!(has(&current.id.to_string()));
    // Neither would anything else be missed.
    let (text, secret) = (&texts[2], &secrets[2]);
    let set = |value: &str| server.command::<()>(&["SET", "control", value]);
    set(text);
    assert!(has(text));
    assert!(found(secret).contains(&"base64url"));
    set(&secret.iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02X}")));
    assert_eq!(found(secret), ["hex"]);
    set(&STANDARD.encode([b"x", &secret[..]].concat()));
    assert!(found(secret).contains(&"base64"));
    let mut hash = redis::cmd("HSET");
    hash.arg("raw").arg("field").arg(&secret[..]);
    hash.exec(&mut redis::Client::open(server.url()).unwrap().get_connection().unwrap()).unwrap();
    assert!(found(secret).contains(&"raw"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_forgotten_when_its_time_is_over() {
    let server = Server::start("");
    let store = open(&single(&server)).await;
    suite::whole(open(&single(&server)).await).await;
    let lasting: Vec<_> = keys(&server)
        .into_iter()
        .filter(|key| server.command::<i64>(&["TTL", key]) == -1)
        .collect();
    assert_eq!(lasting, ["cambio:{schema}:version"]);

    // Five minutes more than it has to be, for a server whose clock is ahead.
    let until = |key: &str| server.command::<u64>(&["EXPIRETIME", key]).wrapping_sub(300);
    server.command::<()>(&["FLUSHALL"]);
    let (first, token) = begin(grant());
    let access = opaque_of(&first);
    store.issue(&kept(Some(&first), Some(&access))).await.unwrap();
    let name = format!("cambio:{{{}}}", first.id);
    let hash = URL_SAFE_NO_PAD.encode(access.id.hash);
    assert_eq!(until(&format!("{name}:family")), first.kept_until.as_secs());
    assert_eq!(until(&format!("{name}:at:{hash}")), access.expires_at.as_secs());
    let (rotated, _) = rotate(&first, &token);
    store.rotate(&kept(Some(&rotated), None)).await.unwrap();
    store.end_family(first.id, End::Revoked).await.unwrap();
    assert_eq!(until(&format!("{name}:family")), first.kept_until.as_secs());

    server.command::<()>(&["FLUSHALL"]);
    let only = || keys(&server).pop().unwrap();
    let once = once();
    store.remember_once(&once).await.unwrap();
    assert!(only().starts_with("cambio:once:"));
    assert_eq!(until(&only()), once.until.as_secs());
    server.command::<()>(&["FLUSHALL"]);
    let later = clock::now().plus(HOUR);
    store.revoke_access_token("jti", later).await.unwrap();
    assert!(only().starts_with("cambio:revoked:"));
    assert_eq!(until(&only()), later.as_secs());
    server.command::<()>(&["FLUSHALL"]);
    let cut_off = CutOff { ancestor: Ancestor::Client("c".to_owned()), before: clock::now() };
    store.cut_off(&cut_off, clock::now()).await.unwrap();
    assert!(only().starts_with("cambio:cut-off:"));
    assert_eq!(until(&only()), cut_off.kept_until().as_secs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_neither_used_nor_changed() {
    let server = Server::start("");
    let store = open(&single(&server)).await;
    let changes: [&dyn Fn(&str); 5] = [
        &|key| server.command(&["HSET", key, "v", "2"]),
        &|key| server.command(&["HDEL", key, "v"]),
        &|key| server.command(&["HSET", key, "body", "{}"]),
        &|key| server.command(&["HSET", key, "ended", "paused"]),
        &|key| server.command(&["SET", key, "something"]),
    ];
    for (at, change) in changes.iter().enumerate() {
        let (family, token) = begin(grant());
        store.issue(&kept(Some(&family), None)).await.unwrap();
        assert_eq!(store.family(family.id).await, Ok(Some(family.clone())));
        change(&format!("cambio:{{{}}}:family", family.id));
        let before = dump(&server);
        assert_eq!(store.family(family.id).await, Err(StoreError::Foreign), "{at}");
        // A family of our version whose body nobody reads may end.
        if at < 2 || at == 4 {
            let (rotated, _) = rotate(&family, &token);
            let foreign = Err(StoreError::Foreign);
            assert_eq!(store.rotate(&kept(Some(&rotated), None)).await, foreign, "{at}");
            let ended = store.end_family(family.id, End::Revoked).await;
            assert_eq!(ended, Err(StoreError::Foreign), "{at}");
            assert_eq!(dump(&server), before, "{at}");
        }
    }

    let granted = family();
    let [subject, ..] = granted.descent().ancestors;
    let key = format!("cambio:cut-off:{}", URL_SAFE_NO_PAD.encode(subject.key()));
    let cut_off = CutOff { ancestor: subject.clone(), before: clock::now() };
    server.command::<()>(&["SET", &key, "never"]);
    assert_eq!(store.cut_off_of(&[subject.clone()]).await, Err(StoreError::Foreign));
    assert_eq!(store.cut_off(&cut_off, clock::now()).await, Err(StoreError::Foreign));
    server.command::<()>(&["DEL", &key]);
    assert_eq!(store.cut_off_of(&[subject]).await, Ok(None));
}
