//! What the file refers to: other files, and environment variables. Of a secret nothing is quoted,
//! not even the name by which it is referred to, in case that is the secret itself.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Check, given};
use crate::config::document::NodeId;
use crate::config::raw::{FileReference, Maybe, SecretReference};
use crate::config::scalar::Text;

/// The largest file of certificates or keys, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The largest secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;
/// Shorter ones, in bytes, might be guessed.
pub(super) const SHORTEST_SECRET: usize = 16;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Privacy {
    /// Anybody.
    Public,
    /// It is a secret, but who may read it is for others to say: orchestrators mount their tokens
    /// as they like.
    Hidden,
    /// Its owner alone should, and is told where others may: orchestrators mount secrets so.
    Guarded,
    /// Its owner alone.
    Private,
}

/// Why a file can't be used.
enum Unreadable {
    Io(std::io::ErrorKind),
    NotAFile,
    TooLarge,
    Shared,
}

impl Check<'_> {
    /// The path that is meant, which is from now on among the files of the configuration.
    fn resolve(&self, file: &Text) -> PathBuf {
        let folder = self.surroundings.file.parent().unwrap_or(Path::new(""));
        let path = folder.join(file.as_str());
        let mut files = self.files.borrow_mut();
        if !files.contains(&path) {
            files.push(path.clone());
        }
        path
    }

    /// What stands in a file that is named.
    pub(super) fn file(
        &self,
        node: NodeId,
        file: &Text,
        privacy: Privacy,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let path = self.resolve(file);
        let limit = if privacy == Privacy::Public { MAX_FILE } else { MAX_SECRET };
        let named = if privacy == Privacy::Public {
            format!("the file {}", path.display())
        } else {
            "the file that is named here".to_owned()
        };
        match read(&path, limit, privacy) {
            Ok((content, is_shared)) => {
                if is_shared && privacy == Privacy::Guarded {
                    self.warn(
                        node,
                        format!(
                            "{named} can be used by others than its owner: chmod 600 it where \
                             that is possible"
                        ),
                    );
                }
                Some(content)
            }
            Err(Unreadable::Io(kind)) => {
                self.fault(
                    node,
                    format!(
                        "{named} can't be read ({kind}): relative paths are relative to the \
                         folder of the configuration"
                    ),
                );
                None
            }
            Err(Unreadable::NotAFile) => {
                self.fault(node, format!("{named} is no regular file: name one"));
                None
            }
            Err(Unreadable::TooLarge) => {
                self.fault(
                    node,
                    format!("{named} is larger than {limit} bytes: is it the right one?"),
                );
                None
            }
            Err(Unreadable::Shared) => {
                self.fault(
                    node,
                    format!("{named} can be used by others than its owner: chmod 600 it"),
                );
                None
            }
        }
    }

    /// The content of `{ file: … }`.
    pub(super) fn file_reference(
        &self,
        node: NodeId,
        reference: &FileReference,
        privacy: Privacy,
    ) -> Option<(NodeId, Zeroizing<Vec<u8>>)> {
        let hint = "as in { file: PATH }";
        let (node, file) = self.need(node, "file", hint, &reference.file)?;
        Some((node, self.file(node, file, privacy)?))
    }

    /// The content of an environment variable.
    pub(super) fn environment(&self, node: NodeId, name: &Text) -> Option<Zeroizing<Vec<u8>>> {
        let name = name.as_str();
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !name.bytes().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) {
            self.fault(
                node,
                "must be the name of an environment variable: letters, digits and _ alone",
            );
            return None;
        }
        let Some(value) = (self.surroundings.environment)(name) else {
            self.fault(
                node,
                "the environment variable that is named here is not set: set it, or name another",
            );
            return None;
        };
        Some(Zeroizing::new(value.into_bytes()))
    }

    /// The content of `{ env: … }` or `{ file: … }`, of which there must be exactly one.
    pub(super) fn secret_reference(
        &self,
        node: NodeId,
        reference: &SecretReference,
        privacy: Privacy,
    ) -> Option<(NodeId, Zeroizing<Vec<u8>>)> {
        self.one_of(node, &["env", "file"], &[reference.env.is_some(), reference.file.is_some()])?;
        self.env_or_file(&reference.env, &reference.file, privacy)
    }

    pub(super) fn env_or_file(
        &self,
        env: &Maybe<Text>,
        file: &Maybe<Text>,
        privacy: Privacy,
    ) -> Option<(NodeId, Zeroizing<Vec<u8>>)> {
        if let Some((node, name)) = given(env) {
            return Some((node, self.environment(node, name)?));
        }
        let (node, file) = given(file)?;
        Some((node, self.file(node, file, privacy)?))
    }

    /// Holds a mapping of alternatives to exactly one of them.
    pub(super) fn one_of(&self, node: NodeId, names: &[&str], present: &[bool]) -> Option<()> {
        let all = names.join(", ");
        match present.iter().filter(|present| **present).count() {
            1 => Some(()),
            0 => {
                self.fault(node, format!("one of the keys {all} is missing: add it"));
                None
            }
            _ => {
                self.fault(node, format!("has more than one of the keys {all}: keep one"));
                None
            }
        }
    }

    /// A secret of one line: the line end of its file is no part of it.
    pub(super) fn trimmed_secret(
        &self,
        node: NodeId,
        content: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let secret = content.strip_suffix(b"\n").unwrap_or(content);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.is_empty() {
            self.fault(node, "the secret that is named here is empty: write it there");
            return None;
        }
        Some(Zeroizing::new(secret.to_vec()))
    }
}

/// The content, and whether others than the owner may use the file.
fn read(
    path: &Path,
    limit: u64,
    privacy: Privacy,
) -> Result<(Zeroizing<Vec<u8>>, bool), Unreadable> {
    let io = |error: std::io::Error| Unreadable::Io(error.kind());
    // Opening a named pipe would wait for a writer.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let is_shared = metadata.permissions().mode() & 0o077 != 0;
    if privacy == Privacy::Private && is_shared {
        return Err(Unreadable::Shared);
    }
    // Room for all of it, so that no copy is left behind by growing.
    let room = usize::try_from(metadata.len().min(limit) + 1).unwrap_or(0);
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    file.take(limit + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > limit {
        return Err(Unreadable::TooLarge);
    }
    Ok((content, is_shared))
}
