//! How a database is opened, and which one is refused: damaged, another program's, of another
//! version, in use. What is refused stays as it is, to the byte.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, StorageBackend, StorageError,
    TableError,
};
use thiserror::Error;

use super::backend::{Counters, Guarded, Handle};
use super::tables::{SCHEMA, SCHEMA_VERSION, Tables, VERSION};
use crate::time::Timestamp;

pub(super) const FILE: &str = "cambio.redb";

/// Until it holds together, a new database has another name.
const NEW_FILE: &str = "cambio.redb.new";

/// Of the file's pages this much is kept in memory. The system keeps more of them.
const CACHE: usize = 64 << 20;

/// Why a database was not opened.
#[derive(Debug, Error)]
pub(super) enum Refused {
    #[error("another process holds it")]
    Held,
    #[error("it is damaged; restore it, or move it away to begin without what it held")]
    Damaged,
    #[error("it is a file of something else")]
    Foreign,
    #[error("it is of format {0}, and this version of Cambio reads and writes format {VERSION}")]
    Version(u64),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Where the file of a database comes from, each time that it is opened.
pub(super) enum Source {
    Folder(PathBuf),
    Backend(Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
            Self::Backend(_) => f.write_str("Backend"),
        }
    }
}

impl Source {
    /// What is told to be unusable.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(FILE),
            Self::Backend(_) => PathBuf::from(FILE),
        }
    }

    /// Opens it. With `again`, something failed on it before.
    pub(super) fn open(&self, counters: &Arc<Counters>, again: bool) -> Result<Database, Refused> {
        match self {
            Self::Folder(folder) => in_folder(folder, counters, again),
            Self::Backend(open) => {
                let inner = open()?;
                let is_new = inner.len()? == 0;
                let guarded = Guarded::hold(inner, is_new, Arc::clone(counters))?;
                contained(|| {
                    if is_new { create(guarded, || Ok(false)) } else { existing(guarded, again) }
                })
            }
        }
    }
}

fn in_folder(folder: &Path, counters: &Arc<Counters>, again: bool) -> Result<Database, Refused> {
    make_folder(folder)?;
    let path = folder.join(FILE);
    let guard = |file: File, anew: bool| {
        let file = FileBackend::new(file).map_err(refusal)?;
        Ok::<_, Refused>(Guarded::hold(Box::new(file), anew, Arc::clone(counters))?)
    };
    match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => {
            let guarded = guard(file, false)?;
            return contained(|| existing(guarded, again));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // A new database gets its name once it is whole, and is held all the while: whatever happens
    // in between, there is never half a database of that name, nor two processes with one.
    let new = folder.join(NEW_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&new)?;
    let guarded = guard(file, true)?;
    let database = contained(|| create(guarded, || path.try_exists()))?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(database)
}

/// Makes a folder that is there after the power has failed, with all in it.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for folder in missing {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// A panic of the database's is one over what it has read.
fn contained<T>(open: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or(Err(Refused::Damaged))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    // Without it what has changed behind the database's back is not noticed.
    builder.set_check_integrity_on_open(true);
    builder
}

/// Whether another process `was_faster` is asked once none can be any more.
fn create(
    guarded: Guarded,
    was_faster: impl FnOnce() -> io::Result<bool>,
) -> Result<Database, Refused> {
    let guarded = Arc::new(guarded);
    let database = builder().create_with_backend(Handle(Arc::clone(&guarded))).map_err(refusal)?;
    if was_faster()? {
        return Err(Refused::Held);
    }
    set_up(&database).map_err(|error| Refused::Io(io::Error::other(error)))?;
    guarded.release()?;
    Ok(database)
}

fn set_up(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(SCHEMA)?.insert(SCHEMA_VERSION, VERSION)?;
    drop(Tables::open(&transaction, 0, Timestamp::from_secs(0))?);
    Ok(transaction.commit()?)
}

fn existing(guarded: Guarded, again: bool) -> Result<Database, Refused> {
    let guarded = Arc::new(guarded);
    let database = builder().create_with_backend(Handle(Arc::clone(&guarded))).map_err(refusal)?;
    match version(&database) {
        Ok(Some(VERSION)) => {}
        Ok(Some(other)) => return Err(Refused::Version(other)),
        Ok(None) => return Err(Refused::Foreign),
        Err(_) => return Err(Refused::Damaged),
    }
    if again {
        guarded.rewrite()?;
    }
    guarded.release()?;
    Ok(database)
}

/// `None` where the database is none of ours.
fn version(database: &Database) -> Result<Option<u64>, redb::Error> {
    let table = match database.begin_read()?.open_table(SCHEMA) {
        Ok(table) => table,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    Ok(redb::ReadableTable::get(&table, SCHEMA_VERSION)?.map(|version| version.value()))
}

fn refusal(error: DatabaseError) -> Refused {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Refused::Held,
        DatabaseError::UpgradeRequired(_) => Refused::Foreign,
        // So the database says that a file does not begin as its own do.
        DatabaseError::Storage(StorageError::Io(error)) => {
            let is_foreign = error.kind() == io::ErrorKind::InvalidData;
            if is_foreign { Refused::Foreign } else { Refused::Io(error) }
        }
        DatabaseError::Storage(_)
        | DatabaseError::RepairAborted
        | DatabaseError::TransactionInProgress
        | _ => Refused::Damaged,
    }
}
