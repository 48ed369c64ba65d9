//! Zero-downtime upgrade: a new process takes the listening sockets over from the one that runs.
//!
//! 1. The new process is started with `cambio serve --config FILE --upgrade`. It loads its
//!    configuration and waits for some seconds on a Unix socket.
//! 2. The old process gets SIGQUIT. It sends its listening sockets there, accepts no more, finishes
//!    what is in flight and exits.
//! 3. The new process serves on the same sockets. No connection is refused in between: those that
//!    nobody has accepted yet wait in the sockets themselves.
//!
//! Both find the Unix socket by the path of the configuration file: in `$XDG_RUNTIME_DIR/cambio`,
//! or else in `cambio-UID` in the folder for temporary files. The folder must be ours and open to
//! nobody else, or the upgrade is refused: whoever could put a socket there would be sent ours.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pingora::server::Fds;
use thiserror::Error;

use super::Running;
use crate::secret::sha256;

/// The longest path of a Unix socket that every system takes.
const MAX_PATH: usize = 100;

/// Why the listening sockets did not change hands.
#[derive(Debug, Error)]
pub enum HandoverError {
    #[error("{0}: {1}")]
    Folder(PathBuf, io::Error),
    #[error("{0} is not a folder that is ours and open to nobody else (mode 0700)")]
    NotPrivate(PathBuf),
    #[error("{0} is too long for the path of a socket")]
    TooLong(PathBuf),
    #[error("the other process was not there: {0}")]
    Transfer(String),
    #[error("a thread was lost")]
    Thread,
}

/// Where processes that serve this configuration file meet.
#[derive(Clone, Debug)]
pub struct MeetingPoint(PathBuf);

impl MeetingPoint {
    pub fn of(config: &Path) -> Result<Self, HandoverError> {
        let config = fs::canonicalize(config).unwrap_or_else(|_| config.to_owned());
        // `/proc/self` is root's where a process is not to be dumped.
        let user = rustix::process::geteuid().as_raw();
        let folder =
            std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map_or_else(
                || std::env::temp_dir().join(format!("cambio-{user}")),
                |folder| PathBuf::from(folder).join("cambio"),
            );
        let digest = sha256(config.as_os_str().as_encoded_bytes());
        let name = URL_SAFE_NO_PAD.encode(digest.get(..9).unwrap_or_default());
        let socket = private(folder, user)?.join(name);
        if socket.as_os_str().len() > MAX_PATH {
            return Err(HandoverError::TooLong(socket));
        }
        Ok(Self(socket))
    }

    /// Waits for the sockets of the process that runs.
    pub async fn receive(self) -> Result<Fds, HandoverError> {
        blocking(move || {
            let mut received = Fds::new();
            received.get_from_sock(&*self.0.to_string_lossy()).map(|()| received)
        })
        .await
    }

    /// Sends the sockets of `running` to the process that waits for them.
    pub async fn send(self, running: &Running) -> Result<(), HandoverError> {
        let descriptors = running.descriptors();
        blocking(move || {
            let descriptors = descriptors.lock();
            descriptors.send_to_sock(&*self.0.to_string_lossy()).map(|_| ())
        })
        .await
    }
}

async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    transfer: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, HandoverError> {
    let transferred = tokio::task::spawn_blocking(transfer).await;
    let transferred = transferred.map_err(|_| HandoverError::Thread)?;
    transferred.map_err(|error| HandoverError::Transfer(error.to_string()))
}

/// Creates the folder where it is missing, and holds it to being private.
fn private(folder: PathBuf, user: u32) -> Result<PathBuf, HandoverError> {
    match DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(HandoverError::Folder(folder, error)),
    }
    // Not through a link: whose folder that is could change.
    let found = fs::symlink_metadata(&folder);
    match found {
        Err(error) => Err(HandoverError::Folder(folder, error)),
        Ok(found)
            if found.is_dir() && found.uid() == user && found.mode().trailing_zeros() >= 6 =>
        {
            Ok(folder)
        }
        Ok(_) => Err(HandoverError::NotPrivate(folder)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let folder = temporary.path().join("cambio");
        assert!(private(folder.clone(), user).is_ok());
        assert!(private(folder.clone(), user).is_ok());
        assert!(private(folder.clone(), user + 1).is_err());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(private(folder.clone(), user), Err(HandoverError::NotPrivate(_))));
        let link = temporary.path().join("link");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(matches!(private(link, user), Err(HandoverError::NotPrivate(_))));
    }
}
