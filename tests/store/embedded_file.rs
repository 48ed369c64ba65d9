//! The file of the embedded store: what stands in it, which file is refused, and a disk that fails.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cambio::exchange::family::{End, PREFIX};
use cambio::exchange::opaque::OpaqueId;
use cambio::store::embedded::{Embedded, Settings};
use cambio::store::{Store, StoreError};
use redb::TableDefinition;
use tokio::task::JoinSet;

use super::disk::Disk;
use super::support::{begin, family, grant, kept, once, opaque, rotate, tell};

const FILE: &str = "cambio.redb";

async fn open(folder: &Path) -> Result<Embedded, String> {
    Embedded::open(folder, Duration::ZERO).await.map_err(|error| error.to_string())
}

/// Everything that stands in the folder.
fn contents(folder: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).unwrap();
    files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

/// In which of the ways that one may write octets they stand there.
fn spellings(contents: &[u8], octets: &[u8]) -> Vec<&'static str> {
    let hex = octets.iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"));
    let has = |needle: &[u8]| memchr::memmem::find(contents, needle).is_some();
    let lower = contents.to_ascii_lowercase();
    // Base64 of something longer has them in one of three ways, but for a few bits at each end.
    let in_base64 = |encode: &dyn Fn(&[u8]) -> String| {
        (0..3).any(|by| {
            let encoded = encode(&[&vec![0; by], octets].concat());
            has(encoded.as_bytes().get(4..encoded.len() - 4).unwrap())
        })
    };
    let found = [
        ("raw", has(octets)),
        ("hex", memchr::memmem::find(&lower, hex.as_bytes()).is_some()),
        ("base64url", in_base64(&|octets| URL_SAFE_NO_PAD.encode(octets))),
        ("base64", in_base64(&|octets| STANDARD_NO_PAD.encode(octets))),
    ];
    found.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_stands_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    let mut hashes: Vec<[u8; 32]> = Vec::new();
    for at in 0..20_u8 {
        let secret: Vec<u8> = (0..32).map(|i| at.wrapping_mul(37) ^ (i * 7 + 13)).collect();
        let text =
            format!("cambio_at_{}", URL_SAFE_NO_PAD.encode([&[at; 16][..], &secret].concat()));
        let grant = grant();
        let mut token = opaque(&grant, None, grant.granted_at.plus(Duration::from_secs(3600)));
        token.id = OpaqueId::parse(&text).unwrap();
        hashes.push(token.id.hash);
        let (mut family, mut refresh) = begin(grant);
        store.issue(&kept(Some(&family), Some(&token))).await.unwrap();
        secrets.push(secret);
        texts.push(text);
        // The successor is kept sealed, for as long as there is grace.
        for _ in 0..3 {
            texts.push(refresh.to_text().to_string());
            let (rotated, successor) = rotate(&family, &refresh);
            assert!(store.rotate(&kept(Some(&rotated), None)).await.unwrap());
            (family, refresh) = (rotated, successor);
        }
        texts.push(refresh.to_text().to_string());
    }
    for text in texts.iter().filter(|text| text.starts_with(PREFIX)) {
        // Family, secret, tag: the name of the family is no secret.
        let octets = URL_SAFE_NO_PAD.decode(&text[PREFIX.len()..]).unwrap();
        secrets.push(octets[16..48].to_vec());
        secrets.push(octets[48..].to_vec());
    }
    store.close().await;
    let contents = contents(folder.path());
    for text in &texts {
        assert!(memchr::memmem::find(&contents, text.as_bytes()).is_none(), "a token in clear");
    }
    for secret in &secrets {
        assert_eq!(spellings(&contents, secret), [""; 0], "the octets of a token");
    }
    // What is there is found, so that what is not found is not there.
    for hash in &hashes {
        assert_eq!(spellings(&contents, hash), ["raw"]);
    }
    tell(&format!("{} octets searched for {} tokens: none found", contents.len(), texts.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_its_owners_alone_and_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("deep/state");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let family = family();
    let store = open(&state).await.unwrap();
    store.issue(&kept(Some(&family), None)).await.unwrap();
    assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
    // Nobody else may have it meanwhile.
    let held = open(&state).await.unwrap_err();
    assert!(held.ends_with("can't be used as a store: another process holds it"), "{held}");
    store.close().await;
    assert_eq!(store.family(family.id).await, Err(StoreError::Closed));
    assert_eq!(store.ping().await, Err(StoreError::Closed));
    let store = open(&state).await.unwrap();
    assert_eq!(store.family(family.id).await.unwrap(), Some(family));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_gets_it_when_the_other_one_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await.unwrap();
    let path = folder.path().to_owned();
    let second = tokio::spawn(async move { Embedded::open(&path, Duration::from_secs(20)).await });
    first.close().await;
    second.await.unwrap().unwrap().ping().await.unwrap();
}

/// Opens what stands in the file, which must stay as it is.
async fn refused(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, content).unwrap();
    let error = open(folder.path()).await.unwrap_err();
    assert!(std::fs::read(&path).unwrap() == content, "it was changed: {error}");
    let path = path.display().to_string();
    error
        .strip_prefix(&path)
        .and_then(|rest| rest.strip_prefix(" can't be used as a store: "))
        .unwrap_or_else(|| panic!("{error}"))
        .to_owned()
}

const FOREIGN: &str = "it is a file of something else";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_something_else_is_left_as_it_is() {
    assert_eq!(refused(b"# notes\n").await, FOREIGN);
    assert_eq!(refused(&[b"SQLite format 3\0".to_vec(), vec![7; 8192]].concat()).await, FOREIGN);
    assert_eq!(refused(&vec![0; 1 << 20]).await, FOREIGN);
    // The same database, and none of ours.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other");
    let other = redb::Database::create(&path).unwrap();
    let transaction = other.begin_write().unwrap();
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("accounts");
    transaction.open_table(table).unwrap().insert("a", 1).unwrap();
    transaction.commit().unwrap();
    drop(other);
    assert_eq!(refused(&std::fs::read(&path).unwrap()).await, FOREIGN);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await.unwrap().close().await;
    let path = folder.path().join(FILE);
    let ours = redb::Database::create(&path).unwrap();
    let transaction = ours.begin_write().unwrap();
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("cambio");
    transaction.open_table(table).unwrap().insert("schema", 2).unwrap();
    transaction.commit().unwrap();
    drop(ours);
    let why = refused(&std::fs::read(&path).unwrap()).await;
    assert_eq!(why, "it is of format 2, and this version of Cambio reads and writes format 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused_or_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let revoked = family();
    store.issue(&kept(Some(&revoked), None)).await.unwrap();
    store.end_family(revoked.id, End::Revoked).await.unwrap();
    store.close().await;
    let whole = std::fs::read(folder.path().join(FILE)).unwrap();
    let (mut refusals, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(whole.len() / 400) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, &damaged).unwrap();
        match open(folder.path()).await {
            Err(_) => {
                refusals += 1;
                assert!(std::fs::read(&path).unwrap() == damaged, "octet {at} was mended");
            }
            Ok(store) => {
                harmless += 1;
                let found = store.family(revoked.id).await.unwrap().unwrap();
                assert_eq!(found.ended, Some(End::Revoked), "octet {at}");
            }
        }
    }
    tell(&format!(
        "damaged at {} places: {refusals} refused, {harmless} harmless",
        refusals + harmless
    ));
    assert!(refusals > 0);
    for cut in [1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..cut]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_rotations_one_is_first() {
    const ROUNDS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).await.unwrap());
    let (mut family, mut token) = begin(grant());
    store.issue(&kept(Some(&family), None)).await.unwrap();
    for _ in 0..ROUNDS {
        let mut racers = JoinSet::new();
        for _ in 0..64 {
            let (store, successor) = (Arc::clone(&store), rotate(&family, &token));
            racers.spawn(async move {
                let is_first = store.rotate(&kept(Some(&successor.0), None)).await.unwrap();
                is_first.then_some(successor)
            });
        }
        let mut first: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(first.len(), 1);
        (family, token) = first.remove(0);
        assert_eq!(store.family(family.id).await.unwrap().as_ref(), Some(&family));
    }
    let counts = store.counts();
    tell(&format!("{ROUNDS} rounds of 64: one success each; {counts:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_heals() {
    let disk = Disk::new(Vec::new());
    let store = Embedded::over(disk.source(), Settings::default()).await.unwrap();
    let before = family();
    store.issue(&kept(Some(&before), None)).await.unwrap();
    for left in 0..12 {
        disk.fail_after(Some(left));
        let one = once();
        // With enough left it may still have been done.
        let during = store.remember_once(&one).await;
        assert!(matches!(during, Ok(true) | Err(StoreError::Failed)), "{during:?}");
        disk.fail_after(None);
        let began = Instant::now();
        let after = loop {
            match store.remember_once(&one).await {
                Ok(is_first) => break is_first,
                Err(StoreError::Failed) => assert!(began.elapsed() < Duration::from_secs(20)),
                Err(error) => panic!("{error}"),
            }
        };
        // What was acknowledged is not forgotten.
        assert!(during.is_err() || !after, "{left}");
        assert_eq!(store.family(before.id).await.unwrap().as_ref(), Some(&before));
    }
}
