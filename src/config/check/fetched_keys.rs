//! What becomes of issuers' keys once they are fetched. Nothing is written while that is checked.

use std::path::PathBuf;
use std::time::Duration;

use super::store::FOLDER;
use super::{Check, given};
use crate::config::raw::{self, Maybe};
use crate::config::shape::Field;
use crate::config::{FetchedKeys, MAX_STALE, StoreSettings};

const DEFAULT: Duration = Duration::from_hours(24);
const CACHE: &str = "issuer-keys";

impl Check<'_> {
    /// `None` where there was a fault.
    pub(super) fn fetched_keys(
        &self,
        section: Option<&Field<raw::FetchedKeys>>,
        store: Option<&StoreSettings>,
    ) -> Option<FetchedKeys> {
        let raw = section.map(|field| field.value.as_ref());
        let (max_stale, cache) = match raw {
            None => (&None, &None),
            Some(raw) => raw.map(|raw| (&raw.max_stale, &raw.cache))?,
        };
        let max_stale = self.duration(max_stale, DEFAULT, MAX_STALE);
        let cache = self.key_cache(cache, store).ok()?;
        Some(FetchedKeys { max_stale, cache })
    }

    /// `None` where none is wanted; an error where there was a fault.
    fn key_cache(
        &self,
        cache: &Maybe<raw::KeyCache>,
        store: Option<&StoreSettings>,
    ) -> Result<Option<PathBuf>, ()> {
        let default = || match store {
            Some(StoreSettings::Embedded { folder }) => folder.join(CACHE),
            Some(StoreSettings::Redis(_)) | None => self.beside(FOLDER).join(CACHE),
        };
        if cache.is_none() {
            return Ok(Some(default()));
        }
        let (node, cache) = given(cache).ok_or(())?;
        match cache {
            raw::KeyCache::Switch(wanted) => Ok(wanted.then(default)),
            raw::KeyCache::Folder(path) => {
                let folder = self.beside(path.as_str());
                if folder.exists() && !folder.is_dir() {
                    self.fault(node, format!("{} is no folder: name one", folder.display()));
                    return Err(());
                }
                Ok(Some(folder))
            }
        }
    }
}
