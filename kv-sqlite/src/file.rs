//! Preparation of the database file before SQLite opens it: creates it with the right mode, and rejects foreign files.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kv_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error;
use crate::schema::APPLICATION_ID;

/// Serialises the creation of files in this process.
///
/// Closing any descriptor of a file drops all POSIX locks that the process holds on it. So a handle that creates the
/// file must have closed its descriptor before another handle locks the file.
static CREATING: Mutex<()> = Mutex::new(());

/// Creates the file if it is missing and returns its absolute path. An existing file is empty or a database of this
/// crate.
///
/// # Errors
/// `Invalid` for a path that cannot lead to a file, `Denied` and `Capacity` from the file system, and `Corrupt` for a foreign file.
pub(crate) fn prepare(path: &Path) -> Result<PathBuf> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Err(Error::invalid("the path of the database contains a NUL character"));
    }
    if bytes.last().is_some_and(|last| std::path::is_separator(char::from(*last))) {
        return Err(Error::invalid("the path of the database ends in a separator, so that it names a directory"));
    }
    // SQLite takes a relative path such as `:memory:` or `file:x` for a special name. It takes no absolute path for
    // one.
    let path = std::path::absolute(path).map_err(|error| Error::invalid("the path is empty").with_source(error))?;
    create(&path).map_err(explain)?;
    let metadata = path.metadata().map_err(explain)?;
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

/// Checks that a path leads to a file, because SQLite does not say why it cannot open anything else, and waits for the
/// other end of a pipe.
fn check_kind(what: &str, metadata: &Metadata) -> Result<()> {
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
            () => "no file",
        }
    };
    #[cfg(not(unix))]
    let other = "no file";
    let found = if kind.is_dir() { "a directory" } else { other };
    Err(Error::invalid(format!("{what} leads to {found} and not to a file")))
}

/// The cause for which SQLite could not open a file that [`prepare`] has found. SQLite does not give it, so this
/// creates a probe file in the same directory and returns the error of that.
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

/// Creates the file and its parent directories if they are missing, readable by the owner only.
fn create(path: &Path) -> io::Result<()> {
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
        // fsync the parent directory: without it, a loss of power may remove the new entry.
        _ => directory.parent().map_or(Ok(()), sync_directory),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Rejects a foreign file by the application id in its first page.
///
/// The file is opened as immutable, so that SQLite locks, recovers and writes nothing in a file that may be foreign. It
/// is opened by SQLite and not by `File`, so that closing it drops no lock that this process holds on the file.
fn reject_foreign(path: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", encode(path));
    let connection = Connection::open_with_flags(uri, flags)
        .map_err(|error| explain_open_failure(path).unwrap_or_else(|| error::read(error)))?;
    // Without this setting SQLite refuses a file with fewer pages than its header counts. The missing pages may be in
    // the write-ahead log, or another process may be writing them while it creates the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true).map_err(error::read)?;
    let id: i32 = match connection.query_row("PRAGMA application_id", [], |row| row.get(0)) {
        Err(_) if is_unfinished_creation(path) => return Ok(()),
        id => id.map_err(error::read)?,
    };
    if id == APPLICATION_ID {
        return Ok(());
    }
    Err(Error::corrupt(format!("the file is a database of another program, by its application id {id:#010x}")))
}

/// True if a loss of power interrupted the creation of the file: the rollback journal then says that the file was
/// empty.
///
/// SQLite rolls the creation back under its locks when it opens the file; the application id is checked again after
/// that.
fn is_unfinished_creation(path: &Path) -> bool {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    let mut header = [0; 20];
    let is_read = File::open(journal).and_then(|mut journal| journal.read_exact(&mut header)).is_ok();
    // After the magic number: the number of records, a random number, and the initial number of pages of the database.
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

fn explain(error: io::Error) -> Error {
    let explained = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::denied("the directory of the database cannot be written")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::capacity("the disk is full"),
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Error::invalid("the path of the database cannot be the path of a file")
        }
        // The missing directories were created, so that only a link can still lead to nothing.
        io::ErrorKind::NotFound => Error::invalid("the path of the database contains a symbolic link to nothing"),
        io::ErrorKind::IsADirectory => Error::invalid("the path of the database is a directory and not a file"),
        _ if is_link_loop(&error) => Error::invalid("the path of the database contains a loop of symbolic links"),
        _ if is_out_of_files(&error) => Error::capacity("no file descriptors are left"),
        _ => Error::unavailable("the file system failed"),
    };
    explained.with_source(error)
}

/// True for `ENFILE` and `EMFILE`, which `io::ErrorKind` does not name.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// True for `ELOOP`, for which `io::ErrorKind` has no stable name.
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
            assert_eq!(explain(io::Error::from_raw_os_error(code)).kind(), kind, "{code}");
        }
    }
}
