//! The database file before SQLite gets it: made with the right mode, and refused where it is not ours.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kv_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error;
use crate::schema::APPLICATION_ID;

/// Held while a file is created. Closing any descriptor of a file drops all locks that the process has on it, so a handle
/// that creates the file must have closed it before another one may lock it.
static CREATING: Mutex<()> = Mutex::new(());

/// The absolute path of the file, which now exists and is empty, or ours.
///
/// # Errors
/// `Invalid` for a folder, `Denied`, `Capacity`, and `Corrupt` for what is no database of this crate.
pub(crate) fn prepare(path: &Path) -> Result<PathBuf> {
    // An absolute path is never taken for a URI, nor for SQLite's own `:memory:`.
    let path = std::path::absolute(path).map_err(|error| Error::invalid("the path is empty").with_source(error))?;
    if path.is_dir() {
        return Err(Error::invalid("the path is a folder, and should be a file"));
    }
    create(&path).map_err(explain)?;
    let metadata = path.metadata().map_err(explain)?;
    if metadata.len() > 0 {
        refuse_foreign(&path)?;
    }
    Ok(path)
}

/// What tells a file from another one that takes its path, where the system tells at all.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        path.exists().then_some((0, 0))
    }
}

/// Why SQLite could not open a file that [`prepare`] has found: it does not say itself. The folder is asked with a file
/// beside the database.
pub(crate) fn explain_open_failure(path: &Path) -> Option<Error> {
    let mut name = path.as_os_str().to_owned();
    name.push("-probe");
    let probe = PathBuf::from(name);
    let made = OpenOptions::new().write(true).create_new(true).open(&probe);
    match made {
        Ok(file) => {
            drop(file);
            let _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) => Some(explain(error)),
    }
}

/// The file, and the folders above it, where they are not there. Only the owner may read them.
fn create(path: &Path) -> io::Result<()> {
    let _alone = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(folder) = path.parent() else { return Err(error) };
            create_folder(folder)?;
            match options.open(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                opened => drop(opened?),
            }
        }
        opened => drop(opened?),
    }
    path.parent().map_or(Ok(()), sync_folder)
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        create_folder(above)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // A new name is not safe from loss of power before the folder that has it is.
        _ => folder.parent().map_or(Ok(()), sync_folder),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Reads the mark of the application from the first page alone. The file is opened as one that never changes, so that nothing
/// is locked, recovered or written, whoever's it is; and by SQLite, so that no lock of this process is dropped.
fn refuse_foreign(path: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", encode(path));
    let connection = Connection::open_with_flags(uri, flags)
        .map_err(|error| explain_open_failure(path).unwrap_or_else(|| error::read(error)))?;
    // With this, a first page that counts more pages than there are is still read: they may be in the log, or be written at
    // this moment by who creates the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true).map_err(error::read)?;
    let id: i32 = match connection.query_row("PRAGMA application_id", [], |row| row.get(0)) {
        Err(_) if was_being_created(path) => return Ok(()),
        id => id.map_err(error::read)?,
    };
    if id == APPLICATION_ID {
        return Ok(());
    }
    Err(Error::corrupt(format!("the file is a database of another program, by its application id {id:#010x}")))
}

/// Whether what is there comes from a creation that a loss of power has ended: then a journal beside it says that the file
/// was empty before. SQLite undoes it when it opens the file, under its locks, and it is asked again whose the file is.
fn was_being_created(path: &Path) -> bool {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    let mut header = [0; 20];
    let is_read = File::open(journal).and_then(|mut journal| journal.read_exact(&mut header)).is_ok();
    // Behind the magic number: how many records follow, a random number, and how many pages the database had.
    is_read && header.starts_with(&MAGIC) && header.ends_with(&[0; 4])
}

/// The path's bytes as part of a URI.
fn encode(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn explain(error: io::Error) -> Error {
    let explained = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied("the folder of the database cannot be written")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::capacity("the disk is full"),
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Error::invalid("the path of the database cannot be one of a file")
        }
        _ if is_out_of_files(&error) => Error::capacity("no file descriptors are left"),
        _ => Error::unavailable("the file system failed"),
    };
    explained.with_source(error)
}

/// `ENFILE` and `EMFILE`, which the standard library has no name for.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_in_a_uri_is_the_path() {
        assert_eq!(encode(Path::new("/a b/c?d#e%é.sqlite")), "/a%20b/c%3Fd%23e%25%C3%A9.sqlite");
    }

    #[test]
    fn what_the_file_system_says_has_a_kind() {
        use kv_core::ErrorKind::{Capacity, Denied, Invalid, Unavailable};
        let table = [
            (13, Denied),
            (30, Denied),
            (28, Capacity),
            (24, Capacity),
            (23, Capacity),
            (20, Invalid),
            (5, Unavailable),
        ];
        for (code, kind) in table {
            assert_eq!(explain(io::Error::from_raw_os_error(code)).kind(), kind, "{code}");
        }
    }
}
