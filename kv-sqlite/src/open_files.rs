//! The files of an open database as they must still be: in place, and not truncated.
//!
//! SQLite continues to write to a file that was removed, replaced or truncated, and acknowledged writes would be lost.
//! Only `stat` is used: closing any descriptor of a file drops all POSIX locks that the process holds on it.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::error;

/// The size of the header of the write-ahead log, and of the header of each of its frames.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// The number of attempts to find the sizes consistent. Another process may change them between two system calls.
const ATTEMPTS: u32 = 5;

/// The database file and its write-ahead log, as the writer opened them.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    path: PathBuf,
    log_path: PathBuf,
    identity: Option<Identity>,
    log_identity: Option<Identity>,
    pub(crate) page_size: u64,
    seen: Cell<Option<Seen>>,
    is_log_held: Cell<bool>,
}

/// Device and inode of a file, which differ from those of another file at the same path. Off Unix: nothing.
type Identity = (u64, u64);

/// The smallest length that the file may have while no other connection commits.
#[derive(Debug, Clone, Copy)]
struct Seen {
    data_version: i64,
    min_length: u64,
}

/// The write-ahead log by the shared index of SQLite.
#[derive(Debug, Clone, Copy)]
struct LogState {
    frames: u64,
    /// True if the file has everything that the log has.
    is_copied: bool,
}

impl OpenFiles {
    /// Records the files of this connection, which has read from both.
    ///
    /// # Errors
    /// The errors of SQLite.
    pub(crate) fn of(path: &Path, connection: &Connection) -> rusqlite::Result<Self> {
        let log_path = log_path(path);
        let page_size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        // Reads the file, which opens the log.
        let _: i64 = connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
        let (identity, _) = state(path).unzip();
        let (log_identity, _) = state(&log_path).unzip();
        let page_size = u64::try_from(page_size).unwrap_or(4_096);
        Ok(Self {
            path: path.to_owned(),
            log_path,
            identity,
            log_identity,
            page_size,
            seen: Cell::new(None),
            is_log_held: Cell::new(false),
        })
    }

    /// The length of the database file in bytes.
    pub(crate) fn length(&self) -> u64 {
        state(&self.path).map_or(0, |(_, length)| length)
    }

    /// The length of the write-ahead log in bytes.
    pub(crate) fn log_length(&self) -> u64 {
        state(&self.log_path).map_or(0, |(_, length)| length)
    }

    /// The free space of the file system in bytes; `None` if it cannot be determined.
    pub(crate) fn free_space(&self) -> Option<u64> {
        fs4::available_space(self.path.parent()?).ok()
    }

    /// Stops or restarts SQLite's own copying of the log into the file.
    pub(crate) fn hold_log(&self, connection: &Connection, is_held: bool) {
        if self.is_log_held.replace(is_held) != is_held {
            // 1,000 pages is SQLite's default.
            let pages = if is_held { 0 } else { 1_000 };
            let _ = connection.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()));
        }
    }

    /// Checks that both files are in place.
    ///
    /// # Errors
    /// `Unavailable` if the path does not lead to the open file any more, and `Corrupt` if the log was removed or
    /// replaced.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        self.check_identity(state(&self.path), state(&self.log_path)).map(|_| ())
    }

    /// Checks that both files are in place and not truncated. The connection must have no open transaction.
    ///
    /// # Errors
    /// As [`check_in_place`](Self::check_in_place), and `Corrupt` if a file was truncated.
    pub(crate) fn check(&self, connection: &Connection) -> Result<()> {
        let mut checked = Ok(());
        for _ in 0..ATTEMPTS {
            checked = self.try_check(connection);
            if checked.is_ok() {
                break;
            }
        }
        checked
    }

    fn try_check(&self, connection: &Connection) -> Result<()> {
        let number = |pragma: &str| -> Result<i64> {
            let mut statement = connection.prepare_cached(pragma).map_err(error::read)?;
            statement.query_row([], |row| row.get(0)).map_err(error::read)
        };
        // Before the files: another process may restart the log and truncate it at any moment.
        let log = log_state(connection).map_err(error::read)?;
        let (length, log_length) = self.check_identity(state(&self.path), state(&self.log_path))?;
        let is_log_whole = log.is_none_or(|LogState { frames, .. }| {
            frames == 0 || log_length >= LOG_HEADER + frames * (FRAME_HEADER + self.page_size)
        });
        if !is_log_whole {
            return Err(log_lost());
        }
        let all_pages = u64::try_from(number("PRAGMA page_count")?).unwrap_or(0) * self.page_size;
        let data_version = number("PRAGMA data_version")?;
        let mut min_length = match self.seen.get() {
            Some(seen) if seen.data_version == data_version => seen.min_length.min(all_pages),
            _ => self.page_size,
        };
        if log.is_some_and(|log| log.is_copied) {
            min_length = all_pages;
        }
        if length < min_length {
            return Err(Error::corrupt("the database file was removed, replaced or truncated while it was open"));
        }
        self.seen.set(Some(Seen { data_version, min_length: length.min(all_pages) }));
        Ok(())
    }

    /// Returns the lengths of both files.
    fn check_identity(&self, main: Option<(Identity, u64)>, log: Option<(Identity, u64)>) -> Result<(u64, u64)> {
        let (identity, length) = main.unzip();
        if identity != self.identity {
            return Err(Error::unavailable("the database file was moved or removed"));
        }
        let (log_identity, log_length) = log.unzip();
        if log_identity != self.log_identity {
            return Err(log_lost());
        }
        Ok((length.unwrap_or(0), log_length.unwrap_or(0)))
    }
}

fn log_lost() -> Error {
    Error::corrupt("the log of the database file was removed, replaced or truncated while it was open")
}

fn log_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Identity and length of a file, or `None` if it is missing.
fn state(path: &Path) -> Option<(Identity, u64)> {
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

/// The state of the log; `None` if another connection is changing it.
fn log_state(connection: &Connection) -> rusqlite::Result<Option<LogState>> {
    let (busy, frames, copied): (i64, i64, i64) = connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let frames = u64::try_from(frames).ok().filter(|_| busy == 0);
    Ok(frames.map(|frames| LogState { frames, is_copied: u64::try_from(copied).is_ok_and(|copied| copied >= frames) }))
}
