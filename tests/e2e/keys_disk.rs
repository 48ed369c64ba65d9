//! The last good keys on disk: a restart while the issuer is down, and what must never be used.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cambio::clock;
use cambio::config::{Config, FetchedKeys};
use cambio::exchange::error::Failure;
use cambio::jwt::key_set::KeySetError;
use cambio::jwt::sign::SigningKey;
use cambio::keys::last_good::{Label, LastGood, Refused};
use cambio::keys::{KeyRing, KeyState, Origin};
use cambio::telemetry::log::Format;
use cambio::telemetry::metrics::Metrics;
use cambio::time::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use crate::issuer::{Issuer, status, whole};
use crate::leap::{at_once, leap, settle, until};
use crate::setting::{config, endpoint, is_granted, issuer, jwks, key, pending};
use crate::telemetry::Lines;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// An issuer, `partner`, and a folder in which its keys are kept.
struct Estate {
    server: Issuer,
    key: SigningKey,
    config: Config,
    folder: TempDir,
}

impl Estate {
    async fn new() -> Self {
        let key = key("a");
        let set = jwks(&[&key]);
        let server = Issuer::start(move |_| whole(set.clone())).await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(vec![
            issuer("partner", endpoint(server.url("/jwks"))),
            issuer("other", endpoint(server.url("/other"))),
        ]);
        let cache = Some(folder.path().join("keys"));
        config.fetched_keys = FetchedKeys { max_stale: DAY, cache };
        Self { server, key, config, folder }
    }

    /// With a set that was confirmed so long ago, and an issuer that is down.
    async fn kept(ago: Duration) -> Self {
        let estate = Self::new().await;
        estate.server.answer(|_| status(503));
        estate.keep(0, &jwks(&[&estate.key]), ago);
        estate
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn last_good(&self) -> LastGood {
        LastGood::open(&self.path(), &self.config.signing_keys, DAY).unwrap()
    }

    fn label(&self, nth: usize) -> Label {
        Label::of(&self.config.trusted_token_issuers[nth]).unwrap()
    }

    fn keep(&self, nth: usize, document: &str, ago: Duration) {
        let at = Timestamp::from_secs(clock::now().as_secs() - ago.as_secs());
        self.last_good().keep(&self.label(nth), document.as_bytes(), at).unwrap();
    }

    fn recall(&self) -> Result<bool, Refused> {
        self.last_good().recall(&self.label(0), clock::now()).map(|recalled| recalled.is_some())
    }

    /// Lets everything else go on until what lies there can be used.
    async fn until_kept(&self) {
        let (last_good, label) = (self.last_good(), self.label(0));
        until(|| matches!(last_good.recall(&label, clock::now()), Ok(Some(_)))).await;
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The only file.
    fn file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    fn ring(&self) -> KeyRing {
        KeyRing::new(&self.config, &Arc::new(Metrics::new()), None)
    }

    async fn exchange(&self, ring: &KeyRing) -> Result<bool, Failure> {
        let keys = ring.resolve(&pending(&self.config, "partner", &self.key)).await?;
        Ok(is_granted(&self.config, pending(&self.config, "partner", &self.key), &keys))
    }
}

#[tokio::test]
async fn a_restart_while_the_issuer_is_down_serves_at_once_and_asks_at_once() {
    let estate = Estate::new().await;
    let ring = estate.ring();
    until(|| ring.status().iter().all(|one| one.keys_from == Some(Origin::Fetched))).await;
    until(|| estate.path().exists() && estate.files().len() == 2).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    until(|| estate.files().iter().all(|file| file.extension().is_some_and(|e| e == "keys"))).await;
    assert_eq!(mode(&estate.path()), 0o700);
    for file in estate.files() {
        assert_eq!(mode(&file), 0o600);
    }
    drop(ring);

    estate.server.answer(|_| status(503));
    let asked = estate.server.count();
    let ring = estate.ring();
    assert_eq!(at_once(estate.exchange(&ring)).await, Ok(true));
    let shown = ring.status().remove(0);
    assert_eq!((shown.state, shown.keys_from), (KeyState::Stale, Some(Origin::Disk)));
    assert!(shown.age_seconds.unwrap() < 60, "{shown:?}");
    until(|| estate.server.count() >= asked + 2).await;
    until(|| ring.status()[0].last_error.is_some()).await;
    assert_eq!(at_once(estate.exchange(&ring)).await, Ok(true));

    // The issuer is back, with another key.
    let next = key("b");
    let set = jwks(&[&next]);
    estate.server.answer(move |_| whole(set.clone()));
    leap(2 * SECOND).await;
    until(|| ring.status()[0].keys_from == Some(Origin::Fetched)).await;
    assert_eq!(estate.exchange(&ring).await, Ok(false));
}

#[tokio::test]
async fn the_age_counts_from_the_last_confirmation_whatever_runs_in_between() {
    let estate = Estate::kept(23 * HOUR).await;
    let ring = estate.ring();
    assert_eq!(at_once(estate.exchange(&ring)).await, Ok(true));
    let age = ring.status()[0].age_seconds.unwrap();
    assert!((23 * 3600..24 * 3600).contains(&age), "{age}");
    leap(HOUR).await;
    assert_eq!(estate.exchange(&ring).await, Err(Failure::KeysUnavailable));
    // It is gone, so that no clock that is set back brings it back.
    leap(10 * SECOND).await;
    until(|| estate.files().is_empty()).await;
}

#[tokio::test]
async fn what_is_too_old_is_not_used_and_does_not_come_back_with_the_clock() {
    let estate = Estate::kept(25 * HOUR).await;
    assert_eq!(estate.recall(), Err(Refused::TooOld));
    let ring = estate.ring();
    assert_eq!(estate.exchange(&ring).await, Err(Failure::KeysUnavailable));
    let earlier = Timestamp::from_secs(clock::now().as_secs() - 2 * 3600);
    assert_eq!(estate.last_good().recall(&estate.label(0), earlier), Ok(None));
    // The bound is the configuration's.
    estate.keep(0, &jwks(&[&estate.key]), HOUR);
    let short = LastGood::open(&estate.path(), &estate.config.signing_keys, HOUR / 2).unwrap();
    assert_eq!(short.recall(&estate.label(0), clock::now()), Err(Refused::TooOld));
    assert_eq!(estate.recall(), Ok(true));
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_nothing_younger() {
    let estate = Estate::new().await;
    let ring = estate.ring();
    until(|| ring.status()[0].keys_from == Some(Origin::Fetched)).await;
    until(|| estate.path().exists() && estate.files().len() == 2).await;
    // Two hours pass, and the wall clock shows none of it.
    estate.server.answer(|_| status(503));
    leap(2 * HOUR).await;
    until(|| estate.files().is_empty()).await;
    // The process itself counts on.
    assert_eq!(at_once(estate.exchange(&ring)).await, Ok(true));
    assert!(ring.status()[0].age_seconds.unwrap() >= 2 * 3600);
    // A date that is yet to come is none.
    let ahead = Timestamp::from_secs(clock::now().as_secs() + 60);
    let document = jwks(&[&estate.key]);
    estate.last_good().keep(&estate.label(0), document.as_bytes(), ahead).unwrap();
    assert_eq!(estate.recall(), Err(Refused::Future));
    let ring = estate.ring();
    assert_eq!(estate.exchange(&ring).await, Err(Failure::KeysUnavailable));
}

type Tamper = fn(&Estate, &Path);

#[tokio::test]
async fn whatever_was_done_to_a_file_it_is_not_used() {
    let cases: [(&str, Refused, Tamper); 13] = [
        ("a changed key", Refused::Tag, |_, file| {
            let mut bytes = fs::read(file).unwrap();
            let at = bytes.len() - 20;
            bytes[at] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("a later date", Refused::Tag, |_, file| {
            let mut bytes = fs::read(file).unwrap();
            let at = bytes.iter().position(|b| *b == b'\n').unwrap() + 32 + 8;
            bytes[at] = bytes[at].wrapping_add(1);
            fs::write(file, bytes).unwrap();
        }),
        ("a cut", Refused::Tag, |_, file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("nothing left", Refused::Malformed, |_, file| fs::write(file, "").unwrap()),
        ("a bare document", Refused::Malformed, |estate, file| {
            fs::write(file, jwks(&[&estate.key])).unwrap();
        }),
        ("far too much", Refused::TooLarge, |_, file| {
            fs::write(file, vec![0; 1 << 20]).unwrap();
        }),
        ("another issuer's", Refused::Tag, |estate, file| {
            fs::remove_file(file).unwrap();
            estate.keep(1, &jwks(&[&estate.key]), HOUR);
            fs::rename(estate.file(), file).unwrap();
        }),
        ("another Cambio's", Refused::Tag, |estate, file| {
            let theirs = config(Vec::new()).signing_keys;
            let last_good = LastGood::open(&estate.path(), &theirs, DAY).unwrap();
            let set = jwks(&[&estate.key]);
            last_good.keep(&estate.label(0), set.as_bytes(), clock::now()).unwrap();
            assert!(file.exists());
        }),
        ("open to others", Refused::Shared, |_, file| {
            fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap();
        }),
        ("open to a group", Refused::Shared, |_, file| {
            fs::set_permissions(file, Permissions::from_mode(0o620)).unwrap();
        }),
        ("a link", Refused::NotAFile, |estate, file| {
            let elsewhere = estate.folder.path().join("elsewhere");
            fs::rename(file, &elsewhere).unwrap();
            symlink(elsewhere, file).unwrap();
        }),
        ("a folder", Refused::NotAFile, |_, file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("a pipe", Refused::NotAFile, |_, file| {
            fs::remove_file(file).unwrap();
            let made = std::process::Command::new("mkfifo").arg(file).status().unwrap();
            assert!(made.success());
        }),
    ];
    for (what, refused, tamper) in cases {
        let estate = Estate::kept(HOUR).await;
        // As it was, it is used.
        assert_eq!(estate.recall(), Ok(true), "{what}");
        assert_eq!(at_once(estate.exchange(&estate.ring())).await, Ok(true), "{what}");
        tamper(&estate, &estate.file());
        assert_eq!(estate.recall(), Err(refused), "{what}");
        let ring = estate.ring();
        assert_eq!(ring.status()[0].keys_from, None, "{what}");
        assert_eq!(estate.exchange(&ring).await, Err(Failure::KeysUnavailable), "{what}");
        // What the issuer brings takes its place.
        if what != "a folder" {
            let set = jwks(&[&estate.key]);
            estate.server.answer(move |_| whole(set.clone()));
            leap(2 * SECOND).await;
            until(|| ring.status()[0].keys_from == Some(Origin::Fetched)).await;
            estate.until_kept().await;
        }
    }
}

#[tokio::test]
async fn a_document_of_ours_is_held_to_what_is_asked_of_one_that_is_fetched() {
    let estate = Estate::kept(HOUR).await;
    let mut private = serde_json::to_value(estate.key.jwk()).unwrap();
    private["d"] = json!("AQ");
    let twice = format!("{{\"keys\":[],{}", &jwks(&[&estate.key])[1..]);
    let many = json!({ "keys": vec![json!({}); 101] }).to_string();
    for (document, error) in [
        ("<html>".to_owned(), KeySetError::Malformed),
        (twice, KeySetError::Malformed),
        (json!({ "keys": [] }).to_string(), KeySetError::NoUsableKey),
        (json!({ "keys": [private] }).to_string(), KeySetError::NoUsableKey),
        (many, KeySetError::TooManyKeys),
    ] {
        assert_eq!(
            cambio::jwt::key_set::KeySet::from_jwks(document.as_bytes()).map(|_| ()),
            Err(error)
        );
        estate.keep(0, &document, HOUR);
        let ring = estate.ring();
        assert_eq!(ring.status()[0].keys_from, None, "{document}");
        assert_eq!(estate.exchange(&ring).await, Err(Failure::KeysUnavailable), "{document}");
    }
}

#[tokio::test]
async fn an_older_copy_that_is_put_back_counts_no_longer_than_it_would_have() {
    let estate = Estate::kept(20 * HOUR).await;
    let (file, copy) = (estate.file(), estate.folder.path().join("copy"));
    fs::copy(&file, &copy).unwrap();
    let next = key("b");
    estate.keep(0, &jwks(&[&next]), Duration::ZERO);
    assert_eq!(estate.exchange(&estate.ring()).await, Ok(false));
    fs::copy(&copy, &file).unwrap();
    let ring = estate.ring();
    assert_eq!(at_once(estate.exchange(&ring)).await, Ok(true));
    leap(4 * HOUR).await;
    assert_eq!(estate.exchange(&ring).await, Err(Failure::KeysUnavailable));
    // The issuer's own word counts more from the moment on that it can be had.
    fs::copy(&copy, &file).unwrap();
    let set = jwks(&[&next]);
    estate.server.answer(move |_| whole(set.clone()));
    let ring = estate.ring();
    until(|| ring.status()[0].keys_from == Some(Origin::Fetched)).await;
    assert_eq!(estate.exchange(&ring).await, Ok(false));
}

#[tokio::test]
async fn another_source_and_another_name_begin_with_nothing() {
    let estate = Estate::kept(HOUR).await;
    let down = estate.server.url("/jwks");
    let mut moved = down.clone();
    moved.set_path("/elsewhere");
    for (name, url, expected) in [
        ("partner", down.clone(), Some(Origin::Disk)),
        ("renamed", down, None),
        ("partner", moved, None),
    ] {
        let mut config = config(vec![issuer(name, endpoint(url))]);
        config.fetched_keys = estate.config.fetched_keys.clone();
        config.signing_keys = Arc::clone(&estate.config.signing_keys);
        let ring = KeyRing::new(&config, &Arc::new(Metrics::new()), None);
        assert_eq!(ring.status()[0].keys_from, expected, "{name}");
    }
}

#[tokio::test]
async fn what_no_issuer_needs_goes_once_it_can_never_be_used_and_nothing_else_does() {
    let estate = Estate::kept(Duration::ZERO).await;
    let gone = config(vec![issuer("gone", endpoint(estate.server.url("/gone")))]);
    let label = Label::of(&gone.trusted_token_issuers[0]).unwrap();
    let own = estate.file();
    estate.last_good().keep(&label, b"{}", clock::now()).unwrap();
    let gone = estate.files().into_iter().find(|file| *file != own).unwrap();
    let unfinished = estate.path().join("4194305-7.new");
    let foreign = [estate.path().join("notes.txt"), estate.path().join("short.keys")];
    for file in foreign.iter().chain([&unfinished]) {
        fs::write(file, "").unwrap();
    }
    let set_age = |age: Duration| {
        for file in foreign.iter().chain([&unfinished, &gone]) {
            let file = fs::File::options().write(true).open(file).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    };
    set_age(23 * HOUR);
    estate.keep(0, "{}", Duration::ZERO);
    assert!(gone.exists() && unfinished.exists());
    set_age(25 * HOUR);
    estate.keep(0, "{}", Duration::ZERO);
    assert!(!gone.exists() && !unfinished.exists());
    assert!(own.exists() && foreign.iter().all(|file| file.exists()));
}

#[tokio::test]
async fn a_new_signing_key_is_what_the_next_file_is_written_under() {
    let mut estate = Estate::kept(HOUR).await;
    let set = jwks(&[&estate.key]);
    estate.server.answer(move |_| whole(set.clone()));
    let ring = estate.ring();
    until(|| ring.status().iter().all(|one| one.keys_from == Some(Origin::Fetched))).await;
    estate.config.signing_keys = config(Vec::new()).signing_keys;
    assert_eq!(estate.recall(), Err(Refused::Tag));
    let asked = estate.server.count();
    let metrics = Arc::new(Metrics::new());
    let reloaded = KeyRing::new(&estate.config, &metrics, Some(&ring));
    drop(ring);
    // What is at hand is written anew; nobody has to be asked for it.
    estate.until_kept().await;
    settle().await;
    assert_eq!(estate.server.count(), asked);
    assert_eq!(at_once(estate.exchange(&reloaded)).await, Ok(true));
}

#[tokio::test]
async fn where_nothing_can_be_written_what_lies_there_is_still_used() {
    let estate = Estate::kept(HOUR).await;
    let file = estate.file();
    let kept = fs::read(&file).unwrap();
    // Not even root gets past names that are taken, as it would past a mode.
    for n in 0..5_000 {
        let taken = estate.path().join(format!("{}-{n}.new", std::process::id()));
        fs::write(taken, "").unwrap();
    }
    let label = estate.label(0);
    let refused = estate.last_good().keep(&label, b"{}", clock::now()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    let ring = estate.ring();
    assert_eq!(at_once(estate.exchange(&ring)).await, Ok(true));
    assert_eq!(ring.status()[0].keys_from, Some(Origin::Disk));
    // The issuer is back: what it says counts, and is not kept.
    let next = key("b");
    let set = jwks(&[&next]);
    estate.server.answer(move |_| whole(set.clone()));
    leap(2 * SECOND).await;
    until(|| ring.status()[0].keys_from == Some(Origin::Fetched)).await;
    assert_eq!(estate.exchange(&ring).await, Ok(false));
    assert_eq!(fs::read(&file).unwrap(), kept);
}

type Prepare = fn(&Path);

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_and_keeps_nobody_from_serving() {
    let mut estate = Estate::new().await;
    let path = estate.path();
    let cases: [(&str, Prepare); 5] = [
        ("it can't be opened or made: Not a directory (os error 20)", |path| {
            fs::write(path.parent().unwrap().join("file"), "").unwrap();
        }),
        ("it can't be opened or made: File exists (os error 17)", |path| {
            fs::write(path, "").unwrap();
        }),
        ("others than its owner can use it: chmod 700 it", |path| {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o750)).unwrap();
        }),
        ("it is no folder, or a link to one", |path| {
            let elsewhere = path.parent().unwrap().join("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            fs::set_permissions(&elsewhere, Permissions::from_mode(0o700)).unwrap();
            symlink(elsewhere, path).unwrap();
        }),
        // The valid twin.
        ("", |_| {}),
    ];
    for (nth, (why, prepare)) in cases.into_iter().enumerate() {
        let tried = if nth == 0 { path.parent().unwrap().join("file/keys") } else { path.clone() };
        prepare(&path);
        estate.config.fetched_keys.cache = Some(tried.clone());
        let (lines, guard) = Lines::capture("warn", Format::Json);
        let ring = estate.ring();
        drop(guard);
        let said = lines.events();
        let expected = [(json!(tried), json!(why))];
        let told: Vec<_> =
            said.iter().map(|line| (line["folder"].clone(), line["why"].clone())).collect();
        assert_eq!(told, if why.is_empty() { &[] } else { &expected[..] }, "{said:?}");
        assert_eq!(estate.exchange(&ring).await, Ok(true), "{why}");
        if why.is_empty() {
            until(|| estate.files().len() == 2).await;
        }
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
    // Without anything to fetch nothing is made.
    let none = estate.folder.path().join("none");
    let mut config = config(Vec::new());
    config.fetched_keys.cache = Some(none.clone());
    KeyRing::new(&config, &Arc::new(Metrics::new()), None);
    assert!(!none.exists());
}
