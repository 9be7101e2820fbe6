//! The identities of the open files of a database, by which a moved, removed or replaced file is noticed.
//!
//! The checks use `stat` and do not open the files, because closing any descriptor of a file drops all POSIX locks that
//! the process holds on that file.

use std::path::{Path, PathBuf};

use kv_core::{Error, Result};

/// The device and the inode of a file. Zeros if the system is not Unix, where only a missing file is noticed.
type Identity = (u64, u64);

/// The database file and its write-ahead log, as the writer opened them.
#[derive(Debug)]
pub(crate) struct FileIdentities {
    path: PathBuf,
    log_path: PathBuf,
    main: Option<Identity>,
    log: Option<Identity>,
}

impl FileIdentities {
    /// Records the files at the path of a database that is open.
    pub(crate) fn of(path: &Path) -> Self {
        let log_path = log_path(path);
        let (main, _) = identity_and_length(path).unzip();
        let (log, _) = identity_and_length(&log_path).unzip();
        Self { path: path.to_owned(), log_path, main, log }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length of the database file in bytes.
    pub(crate) fn length(&self) -> u64 {
        identity_and_length(&self.path).map_or(0, |(_, length)| length)
    }

    /// Returns the length of the write-ahead log in bytes.
    pub(crate) fn log_length(&self) -> u64 {
        identity_and_length(&self.log_path).map_or(0, |(_, length)| length)
    }

    /// Checks that both files are in place, and returns their lengths in bytes.
    ///
    /// # Errors
    /// `Unavailable` if the path no longer leads to the open file, and `Corrupt` if the log was removed or
    /// replaced.
    pub(crate) fn check(&self) -> Result<(u64, u64)> {
        let (main, length) = identity_and_length(&self.path).unzip();
        let (log, log_length) = identity_and_length(&self.log_path).unzip();
        if main != self.main {
            return Err(Error::unavailable("the database file was moved or removed"));
        }
        if log != self.log {
            return Err(log_error());
        }
        Ok((length.unwrap_or(0), log_length.unwrap_or(0)))
    }
}

pub(crate) fn log_error() -> Error {
    Error::corrupt("the log of the database file was removed, replaced or truncated while it was open")
}

fn log_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Returns the identity of a file and its length in bytes; `None` if the file is missing.
fn identity_and_length(path: &Path) -> Option<(Identity, u64)> {
    let metadata = path.metadata().ok()?;
    #[cfg(unix)]
    let identity = {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    };
    #[cfg(not(unix))]
    let identity = (0, 0);
    Some((identity, metadata.len()))
}
