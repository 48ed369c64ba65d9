//! The folder and its files: ours alone, and never half a file.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use super::record::{MAX_RECORD, Refused};
use crate::time::Timestamp;

/// Of a whole file, and of one that is being written.
const WHOLE: &str = ".keys";
const NEW: &str = ".new";
/// How many files are looked at when what is no longer used is removed.
const MAX_LISTED: usize = 10_000;

/// Why a folder is not used.
#[derive(Debug, Error)]
pub enum FolderError {
    #[error("it is no folder, or a link to one")]
    NotAFolder,
    #[error("others than its owner can use it: chmod 700 it")]
    Shared,
    #[error("it is somebody else's: its owner is not the user that this process runs as")]
    Foreign,
    #[error("it can't be opened or made: {0}")]
    Io(#[from] io::Error),
}

/// A folder that holds what this module wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    path: PathBuf,
    owner: u32,
}

impl Folder {
    /// Makes it where there is none. One in which nothing can be written, as on a disk that is full,
    /// can still be read: that is told once something is to be kept.
    pub(super) fn open(path: &Path) -> Result<Self, FolderError> {
        // Without a slash at the end, which would look behind a link.
        let path: PathBuf = path.components().collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let found = fs::symlink_metadata(&path)?;
        if !found.is_dir() {
            return Err(FolderError::NotAFolder);
        }
        let folder = Self { path, owner: found.uid() };
        let probe = folder.new_name();
        if let Ok(file) = create(&probe) {
            let ours = file.metadata()?.uid();
            fs::remove_file(&probe)?;
            if ours != found.uid() {
                return Err(FolderError::Foreign);
            }
        }
        if found.mode() & 0o077 != 0 {
            return Err(FolderError::Shared);
        }
        Ok(folder)
    }

    fn file(&self, name: [u8; 32]) -> PathBuf {
        self.path.join(URL_SAFE_NO_PAD.encode(name) + WHOLE)
    }

    /// One that no other process and no other call has.
    fn new_name(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!("{}-{next}{NEW}", std::process::id()))
    }

    /// Puts a file in the place of an earlier one, as a whole or not at all.
    pub(super) fn write(&self, name: [u8; 32], content: &[u8]) -> io::Result<()> {
        let new = self.new_name();
        let written = create(&new).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, self.file(name))?;
            File::open(&self.path)?.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// `None` where there is none.
    pub(super) fn read(&self, name: [u8; 32]) -> Result<Option<Vec<u8>>, Refused> {
        let path = self.file(name);
        let failed = |error: io::Error| Refused::Io(error.kind());
        // It is looked at before it is opened: to open a pipe is to wait for its other end.
        let named = match fs::symlink_metadata(&path) {
            Ok(named) => named,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if !named.is_file() {
            return Err(Refused::NotAFile);
        }
        let file = File::open(&path).map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        let identity = |file: &Metadata| (file.dev(), file.ino());
        if identity(&named) != identity(&opened) {
            return Err(Refused::NotAFile);
        }
        if opened.uid() != self.owner || opened.mode() & 0o077 != 0 {
            return Err(Refused::Shared);
        }
        let mut content = Vec::new();
        file.take(MAX_RECORD as u64 + 1).read_to_end(&mut content).map_err(failed)?;
        Ok(Some(content))
    }

    pub(super) fn remove(&self, name: [u8; 32]) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes files of ours that were written longer ago than `age` and so can never be used: of
    /// issuers that are gone, and of writes that came to no end. Other files are left alone.
    pub(super) fn tidy(&self, age: Duration, now: Timestamp) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)?.take(MAX_LISTED) {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
            let written = u64::try_from(entry.metadata()?.mtime()).unwrap_or(0);
            if now.as_secs().saturating_sub(written) > age.as_secs() {
                fs::remove_file(self.path.join(name))?;
            }
        }
        Ok(())
    }
}

fn is_ours(name: &str) -> bool {
    let digest = |stem: &str| URL_SAFE_NO_PAD.decode(stem).is_ok_and(|name| name.len() == 32);
    let counted = |stem: &str| {
        let parts = stem.split_once('-');
        parts.is_some_and(|(pid, n)| pid.parse::<u32>().is_ok() && n.parse::<u64>().is_ok())
    };
    name.strip_suffix(WHOLE).is_some_and(digest) || name.strip_suffix(NEW).is_some_and(counted)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
