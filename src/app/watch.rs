//! Notices when a file of the configuration changes.
//!
//! It looks at the files every now and then instead of asking the system to be told: that also sees
//! files that are replaced by renaming, links that are swapped as Kubernetes does it, and file
//! systems over a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::secret::sha256;

/// How often the files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Files that belong together are seldom written in the same moment: so long nothing may change
/// before they are read.
const QUIET: Duration = Duration::from_millis(250);
/// A file that changes all the time is read all the same.
const MAX_UNQUIET: usize = 8;

/// What was in the files when they were last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents(Vec<(PathBuf, Option<[u8; 32]>)>);

impl Contents {
    /// Reads the files. One that can't be read is not there.
    pub fn of(files: &[PathBuf]) -> Self {
        let digest = |path: &Path| fs::read(path).ok().map(|content| sha256(&content));
        Self(files.iter().map(|path| (path.clone(), digest(path))).collect())
    }

    /// The same of other files: what is known of them, or else what is in them now. What was known
    /// before a configuration was read is not read again, lest a change in between be missed.
    pub async fn extended(self, files: &[PathBuf]) -> Self {
        let Self(known) = self;
        let Self(mut now) = Self::read(files).await;
        for (path, digest) in &mut now {
            if let Some((_, known)) = known.iter().find(|(known, _)| known == path) {
                *digest = *known;
            }
        }
        Self(now)
    }

    /// Waits until the files have other contents, and have had them for a moment.
    pub async fn changed(&mut self, files: &[PathBuf]) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let mut now = Self::read(files).await;
            if now == *self {
                continue;
            }
            for _ in 0..MAX_UNQUIET {
                tokio::time::sleep(QUIET).await;
                let later = Self::read(files).await;
                if later == now {
                    break;
                }
                now = later;
            }
            *self = now;
            return;
        }
    }

    /// Off the request threads: a file system may hang.
    pub async fn read(files: &[PathBuf]) -> Self {
        let paths = files.to_vec();
        let read = tokio::task::spawn_blocking(move || Self::of(&paths)).await;
        read.unwrap_or_else(|_| Self(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_swapped_link_is_a_change_and_a_touched_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        fs::write(&one, "a").unwrap();
        fs::write(&two, "b").unwrap();
        let link = folder.path().join("cambio.yaml");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let files = [link.clone()];
        let mut contents = Contents::of(&files);
        fs::write(&one, "a").unwrap();
        assert_eq!(Contents::of(&files), contents);
        let swapped = folder.path().join("new");
        std::os::unix::fs::symlink(&two, &swapped).unwrap();
        fs::rename(&swapped, &link).unwrap();
        contents.changed(&files).await;
        assert_eq!(Contents::of(&files), contents);
    }

    #[tokio::test]
    async fn what_changed_while_it_was_read_is_still_seen_as_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        fs::write(&one, "a").unwrap();
        let before = Contents::of(std::slice::from_ref(&one));
        fs::write(&one, "b").unwrap();
        fs::write(&two, "c").unwrap();
        let files = [one.clone(), two];
        let extended = before.extended(&files).await;
        assert_ne!(extended, Contents::of(&files));
        fs::write(&one, "a").unwrap();
        assert_eq!(extended, Contents::of(&files));
    }
}
