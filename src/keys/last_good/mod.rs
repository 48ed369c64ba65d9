//! The last good key set of each issuer, kept on disk, so that a restart while the issuer is down
//! serves on.
//!
//! Whoever could put keys of their own here could sign as anybody. So a file is only bytes until
//! its tag holds (`record`), and then no more than an answer of the issuer's would be: a document
//! that goes the same way as one that was just fetched. What remains to somebody who can write to
//! the folder is to take files away, or to put an older one of the same issuer back for as long as
//! `max_stale` lets it count.

mod folder;
mod record;

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use self::folder::Folder;
pub use self::folder::FolderError;
use self::record::Secrets;
pub use self::record::{Label, Refused};
use crate::config::{Config, IssuerKeys, KeySource};
use crate::jwt::sign::SigningKeys;
use crate::time::Timestamp;

/// Between two looks at what is no longer used.
const TIDY: Duration = Duration::from_hours(1);

/// A folder of last good key sets.
#[derive(Debug)]
pub struct LastGood {
    folder: Folder,
    secrets: Secrets,
    max_stale: Duration,
    tidied: Mutex<Option<Instant>>,
}

impl PartialEq for LastGood {
    fn eq(&self, other: &Self) -> bool {
        let Self { folder, secrets, max_stale, tidied: _ } = self;
        *folder == other.folder && *secrets == other.secrets && *max_stale == other.max_stale
    }
}

impl Label {
    /// Of an issuer whose keys are fetched: who it is, and all that says which document they are.
    /// How that is asked for, such as with which token, is no part of it.
    pub fn of(keys: &IssuerKeys) -> Option<Self> {
        let (kind, urls, ca) = match &keys.source {
            KeySource::Endpoint(endpoint) => ("endpoint", vec![&endpoint.url], &endpoint.ca),
            KeySource::Discovery(discovery) => {
                let urls = discovery.metadata.iter().chain(&discovery.origins).collect();
                ("discovery", urls, &discovery.ca)
            }
            KeySource::Fixed(_) => return None,
        };
        let roots = if ca.is_some() { "own roots" } else { "system roots" };
        let texts = [&*keys.issuer.name, &keys.issuer.rules.issuer, kind, roots];
        let texts = texts.into_iter().chain(urls.into_iter().map(Url::as_str)).map(str::as_bytes);
        Some(Self::new(texts.chain(ca.iter().flatten().map(AsRef::as_ref))))
    }
}

/// A document that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    pub document: Vec<u8>,
    pub confirmed_at: Timestamp,
}

impl LastGood {
    /// As the configuration has it. `None` where it wants none, or nothing is fetched. A folder that
    /// can't be used is told, and is none: it must not keep Cambio from starting, all the less while
    /// an issuer is down.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let is_fetched = config.trusted_token_issuers.iter().any(|keys| match keys.source {
            KeySource::Endpoint(_) | KeySource::Discovery(_) => keys.issuer.enabled,
            KeySource::Fixed(_) => false,
        });
        let folder = config.fetched_keys.cache.as_ref().filter(|_| is_fetched)?;
        let opened = Self::open(folder, &config.signing_keys, config.fetched_keys.max_stale);
        let tell = |why: &FolderError| {
            let folder = folder.display();
            tracing::warn!(%folder, %why, "issuers' keys are not kept on disk: after a restart they must be fetched before anything is exchanged");
        };
        opened.inspect_err(tell).ok()
    }

    /// The folder at `path`, which is made where there is none.
    pub fn open(
        path: &Path,
        signing_keys: &SigningKeys,
        max_stale: Duration,
    ) -> Result<Self, FolderError> {
        let folder = Folder::open(path)?;
        let underivable = || io::Error::other("no secret can be derived");
        let secrets = Secrets::of(signing_keys).ok_or_else(underivable)?;
        Ok(Self { folder, secrets, max_stale, tidied: Mutex::default() })
    }

    /// Whether both are the same folder.
    pub(super) fn is_where(&self, other: &Self) -> bool {
        self.folder == other.folder
    }

    /// Keeps a document that was confirmed then, in the place of an earlier one.
    pub fn keep(&self, label: &Label, document: &[u8], confirmed_at: Timestamp) -> io::Result<()> {
        let record = record::seal(&self.secrets, label, confirmed_at, document)
            .ok_or_else(|| io::Error::other("no secret"))?;
        self.folder.write(label.digest(), &record)?;
        self.tidy(confirmed_at)
    }

    /// What was kept, if it may still serve. `None` where there is nothing.
    pub fn recall(&self, label: &Label, now: Timestamp) -> Result<Option<Recalled>, Refused> {
        let Some(record) = self.folder.read(label.digest())? else { return Ok(None) };
        let (confirmed_at, document) =
            record::open(&self.secrets, label, &record, now, self.max_stale)?;
        Ok(Some(Recalled { document: document.to_vec(), confirmed_at }))
    }

    /// Keeps nothing under this label any more.
    pub fn forget(&self, label: &Label) -> io::Result<()> {
        self.folder.remove(label.digest())
    }

    /// Now and then removes what can never be used again.
    fn tidy(&self, now: Timestamp) -> io::Result<()> {
        let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if tidied.is_some_and(|at| at.elapsed() < TIDY) {
            return Ok(());
        }
        *tidied = Some(Instant::now());
        drop(tidied);
        self.folder.tidy(self.max_stale, now)
    }
}
