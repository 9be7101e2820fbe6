//! The store's folder: checks before sled opens it, and waiting until sled has released it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use kv_core::{Clock, Error, Result, SystemClock};

use crate::clean_marker;
use crate::error::from_io;
use crate::permissions;

/// The time to wait for another store that is closing the same folder.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between two tries to open a locked folder.
pub(crate) const LOCK_STEP: Duration = Duration::from_millis(25);

/// Creates the folder if it does not exist. Refuses a folder in which sled would overwrite files or silently begin a
/// new database.
///
/// # Errors
/// `Invalid` for a path that is not a folder and for a folder with foreign files, `Corrupt` for a store that has lost
/// files, `Denied`, `Capacity` and others for errors of the file system.
pub(crate) fn prepare(folder: &Path) -> Result<()> {
    match kind(folder)? {
        Kind::Folder => {}
        Kind::Missing => {
            return permissions::create_folder(folder).map_err(|error| from_io(error, "the folder cannot be created"));
        }
        Kind::Other(other) => return Err(not_a_folder(other)),
    }
    let Contents { has_log, has_config, rest } = Contents::of(folder)?;
    match (has_log, has_config) {
        (true, false) => Err(Error::corrupt(
            "the folder has a file `db` without sled's configuration `conf`: the store is damaged, or `db` is not sled's log",
        )),
        (false, _) if rest == Rest::Store => Err(log_is_missing()),
        (false, false) if rest == Rest::Foreign => {
            Err(Error::invalid("the folder holds foreign files; a store needs a folder of its own"))
        }
        // A configuration without a log is normal if an earlier opening was interrupted, because sled writes the
        // configuration first.
        (true | false, true) | (false, false) => Ok(()),
    }
}

/// Refuses a path at which there is no store to read.
///
/// # Errors
/// `Invalid` if the path does not exist, is not a folder, or is a folder without a store; `Corrupt` for a store that
/// has lost its log.
pub(crate) fn check_exists(folder: &Path) -> Result<()> {
    match kind(folder)? {
        Kind::Folder => {}
        Kind::Missing => return Err(Error::invalid("there is no store: the path does not exist")),
        Kind::Other(other) => return Err(not_a_folder(other)),
    }
    match Contents::of(folder)? {
        Contents { has_log: true, .. } => Ok(()),
        Contents { rest: Rest::Store, .. } => Err(log_is_missing()),
        _ => Err(Error::invalid("the folder holds no store")),
    }
}

/// The files of a folder that show whether the folder holds a store.
#[derive(Debug, Default)]
struct Contents {
    has_log: bool,
    has_config: bool,
    rest: Rest,
}

/// The kind of the files in a folder beside sled's log, its configuration and its large values.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    #[default]
    Nothing,
    /// Files that are not sled's.
    Foreign,
    /// Snapshots or a clean-shutdown marker. Only a store with a log has such files.
    Store,
}

impl Contents {
    fn of(folder: &Path) -> Result<Self> {
        let mut contents = Self::default();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            match name.to_str() {
                Some("db") => contents.has_log = true,
                Some("conf") => contents.has_config = true,
                Some("blobs") => {}
                Some(name) if name.starts_with("snap.") || name == clean_marker::FILE_NAME => {
                    contents.rest = Rest::Store;
                }
                _ => contents.rest = contents.rest.max(Rest::Foreign),
            }
        }
        // sled would wait for ever on a pipe, and through a link it would create a file elsewhere.
        for (name, is_there) in [("db", contents.has_log), ("conf", contents.has_config)] {
            match kind(&folder.join(name))? {
                Kind::Other("a file") => {}
                Kind::Other(other) => {
                    return Err(Error::invalid(format!("`{name}` in the folder is {other}, not a file")));
                }
                Kind::Folder => return Err(Error::invalid(format!("`{name}` in the folder is a folder, not a file"))),
                Kind::Missing if is_there => return Err(Error::unavailable("the folder changed while it was read")),
                Kind::Missing => {}
            }
        }
        Ok(contents)
    }
}

/// The kind of file at a path. Links are followed.
enum Kind {
    Missing,
    Folder,
    /// Another kind, in words for an error text.
    Other(&'static str),
}

fn kind(path: &Path) -> Result<Kind> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(Kind::Folder),
        Ok(metadata) => Ok(Kind::Other(in_words(metadata.file_type()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => Ok(Kind::Other("a link to nothing")),
            _ => Ok(Kind::Missing),
        },
        Err(error) => Err(from_io(error, "the path cannot be read")),
    }
}

fn in_words(kind: fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if kind.is_file() { "a file" } else { "neither a file nor a folder" }
}

fn not_a_folder(kind: &str) -> Error {
    Error::invalid(format!("the path is {kind}; a store needs a folder of its own"))
}

fn log_is_missing() -> Error {
    Error::corrupt("the folder has files of a store, but sled's log `db` is missing")
}

/// Waits until sled has released its lock on the files, but not longer than a second.
///
/// sled's threads still hold references when a database is dropped, so the files stay locked for a moment. Without this
/// wait, a caller that immediately opens the store again would be refused.
pub(crate) async fn wait_until_released(folder: &Path) {
    for _ in 0..RELEASE_STEPS {
        let Ok(log) = fs::File::open(folder.join("db")) else { return };
        match log.try_lock() {
            Err(fs::TryLockError::WouldBlock) => SystemClock.sleep(RELEASE_STEP).await,
            // Dropping `log` releases the lock that this function has just taken.
            Ok(()) | Err(fs::TryLockError::Error(_)) => return,
        }
    }
}

/// The maximum number of tries to lock the files.
const RELEASE_STEPS: u32 = 500;
/// The time between two tries to lock the files.
const RELEASE_STEP: Duration = Duration::from_millis(2);

fn unreadable(error: io::Error) -> Error {
    from_io(error, "the folder cannot be read")
}

#[cfg(test)]
mod tests {
    use kv_core::ErrorKind;

    use super::*;

    #[test]
    fn a_folder_with_foreign_files_or_with_missing_files_of_a_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kind = |name: &str| prepare(&at(name)).map_err(|error| error.kind());
        assert_eq!(kind("missing/parent/too"), Ok(()));
        assert!(at("missing/parent/too").is_dir());

        fs::write(at("file"), "precious").unwrap();
        assert_eq!(kind("file"), Err(ErrorKind::Invalid));
        assert_eq!(fs::read(at("file")).unwrap(), b"precious");

        for (name, files, expected) in [
            ("foreign", &["notes.txt"][..], Err(ErrorKind::Invalid)),
            ("half", &["db"], Err(ErrorKind::Corrupt)),
            ("lost", &["conf", "snap.0000000000000001"], Err(ErrorKind::Corrupt)),
            ("sealed", &["conf", "sealed"], Err(ErrorKind::Corrupt)),
            ("begun", &["conf", "blobs"], Ok(())),
            ("ours", &["conf", "db", "blobs"], Ok(())),
        ] {
            fs::create_dir(at(name)).unwrap();
            for file in files {
                fs::write(at(name).join(file), "").unwrap();
            }
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
