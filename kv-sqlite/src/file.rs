//! The preparation of the database file before SQLite opens it.
//!
//! A missing file is created with the right mode, and a foreign file is rejected.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kv_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::read_error;
use crate::schema::APPLICATION_ID;

/// Serialises the creation of files in this process.
///
/// Closing any descriptor of a file drops all POSIX locks that the process holds on that file. Therefore a handle that
/// creates a file must have closed the descriptor before another handle locks the file.
static CREATING: Mutex<()> = Mutex::new(());

/// Creates the file if it is missing and `create` is true, rejects a foreign file, and returns the absolute path of the
/// file.
///
/// # Errors
/// `Invalid` for a path that cannot lead to a file and for a missing file that must not be created, `Denied` and `Capacity` from the file system, and `Corrupt` for a
/// foreign file.
pub(crate) fn prepare(path: &Path, create: bool) -> Result<PathBuf> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Err(Error::invalid("the path of the database contains a NUL character"));
    }
    if bytes.last().is_some_and(|last| std::path::is_separator(char::from(*last))) {
        return Err(Error::invalid("the path of the database ends in a separator, so that it names a directory"));
    }
    // The path is made absolute, because SQLite gives relative paths such as `:memory:` and `file:x` a special meaning.
    let path = std::path::absolute(path).map_err(|error| Error::invalid("the path is empty").with_source(error))?;
    if create {
        create_file(&path).map_err(to_error)?;
    } else if is_missing(&path) {
        return Err(Error::invalid("there is no store: the file does not exist"));
    }
    let metadata = path.metadata().map_err(to_error)?;
    check_kind("the path of the database", &metadata)?;
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        if let Ok(metadata) = Path::new(&name).metadata() {
            check_kind(&format!("the path of the database with `{suffix}`"), &metadata)?;
        }
    }
    if metadata.len() > 0 {
        reject_foreign(&path)?;
    }
    Ok(path)
}

/// Checks that a path leads to a regular file. SQLite does not report why it cannot open anything else, and would wait
/// for the other end of a pipe. `subject` names the path in the error.
fn check_kind(subject: &str, metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    #[cfg(unix)]
    let other = {
        use std::os::unix::fs::FileTypeExt;
        match () {
            () if kind.is_fifo() => "a pipe",
            () if kind.is_socket() => "a socket",
            () if kind.is_char_device() || kind.is_block_device() => "a device",
            () => "a special file",
        }
    };
    #[cfg(not(unix))]
    let other = "a special file";
    let found = if kind.is_dir() { "a directory" } else { other };
    Err(Error::invalid(format!("{subject} leads to {found} and not to a regular file")))
}

/// Returns the reason why SQLite could not open a file that [`prepare`] has found; `None` if the reason is unknown.
///
/// SQLite does not report the reason. Therefore this function creates a probe file in the same directory and, if that
/// fails, returns the error.
pub(crate) fn explain_open_failure(path: &Path) -> Option<Error> {
    let mut name = path.as_os_str().to_owned();
    name.push("-probe");
    let probe = PathBuf::from(name);
    match OpenOptions::new().write(true).create_new(true).open(&probe) {
        Ok(file) => {
            drop(file);
            let _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) => Some(to_error(error)),
    }
}

/// True if nothing is at the path. A dangling link is not missing: following it gives a more exact error.
fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Creates the file and its parent directories if they are missing, readable by the owner only.
fn create_file(path: &Path) -> io::Result<()> {
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(directory) = path.parent() else { return Err(error) };
            create_directory(directory)?;
            match options.open(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                opened => drop(opened?),
            }
        }
        opened => drop(opened?),
    }
    path.parent().map_or(Ok(()), sync_directory)
}

fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_directory(parent)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // fsync the parent directory: without this, a loss of power may remove the new directory.
        _ => directory.parent().map_or(Ok(()), sync_directory),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Rejects a foreign file by the application id in its first page.
///
/// SQLite opens the file as immutable, so that it does not lock, recover or write a file that may be foreign. The file
/// is opened by SQLite and not by `File`, so that closing it drops no lock that this process holds on the file.
fn reject_foreign(path: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", encode(path));
    let connection = Connection::open_with_flags(uri, flags)
        .map_err(|error| explain_open_failure(path).unwrap_or_else(|| read_error(error)))?;
    // Without this setting SQLite refuses a file that has fewer pages than its header says. The missing pages may be in
    // the write-ahead log, or another process may be creating the file and may not have written them yet.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true).map_err(read_error)?;
    let id: i32 = match connection.query_row("PRAGMA application_id", [], |row| row.get(0)) {
        Err(_) if is_unfinished_creation(path) => return Ok(()),
        id => id.map_err(read_error)?,
    };
    if id == APPLICATION_ID {
        return Ok(());
    }
    Err(Error::corrupt(format!("the file is a database of another program: its application id is {id:#010x}")))
}

/// True if a loss of power interrupted the creation of the file: then the rollback journal says that the file had no
/// pages before.
///
/// Such a file is not foreign. SQLite rolls the creation back when it opens the file, and the application id is checked
/// again afterwards.
fn is_unfinished_creation(path: &Path) -> bool {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    let mut header = [0; 20];
    let is_read = File::open(journal).and_then(|mut journal| journal.read_exact(&mut header)).is_ok();
    // The magic number is followed by the number of records, a random number, and the number of pages that the database
    // had before the transaction, in four bytes each.
    is_read && header.starts_with(&MAGIC) && header.ends_with(&[0; 4])
}

/// Percent-encodes the bytes of the path for a URI.
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

fn to_error(error: io::Error) -> Error {
    let explained = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied("the directory of the database cannot be written")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::capacity("the disk is full"),
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Error::invalid("the path of the database cannot be the path of a file")
        }
        // Missing directories have been created, so only a symbolic link can still have a missing target.
        io::ErrorKind::NotFound => {
            Error::invalid("the path of the database contains a symbolic link to a missing target")
        }
        io::ErrorKind::IsADirectory => {
            Error::invalid("the path of the database leads to a directory and not to a regular file")
        }
        _ if is_link_loop(&error) => Error::invalid("the path of the database contains a loop of symbolic links"),
        _ if is_out_of_files(&error) => Error::capacity("no file descriptors are left"),
        _ => Error::unavailable("the file system failed"),
    };
    explained.with_source(error)
}

/// True for the error codes `ENFILE` and `EMFILE`, for which `io::ErrorKind` has no variant.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// True for the error code `ELOOP`, for which `io::ErrorKind` has no stable variant.
fn is_link_loop(error: &io::Error) -> bool {
    let code = if cfg!(target_os = "linux") { 40 } else { 62 };
    cfg!(unix) && error.raw_os_error() == Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_percent_encoded_for_a_uri() {
        assert_eq!(encode(Path::new("/a b/c?d#e%é.sqlite")), "/a%20b/c%3Fd%23e%25%C3%A9.sqlite");
    }

    #[test]
    fn errors_of_the_file_system_have_kinds() {
        use kv_core::ErrorKind::{Capacity, Denied, Invalid, Unavailable};
        let table = [
            (13, Denied),
            (30, Denied),
            (28, Capacity),
            (24, Capacity),
            (23, Capacity),
            (20, Invalid),
            (21, Invalid),
            (2, Invalid),
            (5, Unavailable),
        ];
        for (code, kind) in table {
            assert_eq!(to_error(io::Error::from_raw_os_error(code)).kind(), kind, "{code}");
        }
    }
}
