//! Checks that the files of an open database are still in place and not truncated.
//!
//! SQLite continues to write to a file that was removed, replaced or truncated, and then acknowledged writes would be
//! lost.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::error::read_error;
use crate::file_identity::{FileIdentities, log_error};

/// The number of bytes of the header of the write-ahead log.
const LOG_HEADER: u64 = 32;

/// The number of bytes of the header of each frame of the write-ahead log.
const FRAME_HEADER: u64 = 24;

/// The number of attempts of a check. One attempt may fail because another process changes the files between two system
/// calls.
const ATTEMPTS: u32 = 5;

/// The database file and its write-ahead log, as the writer opened them.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    pub(crate) identities: Arc<FileIdentities>,
    pub(crate) page_size: u64,
    last_check: Cell<Option<LastCheck>>,
    are_checkpoints_paused: Cell<bool>,
}

/// The result of the last successful check.
#[derive(Debug, Clone, Copy)]
struct LastCheck {
    data_version: i64,
    /// The smallest length in bytes that the file may have as long as the data version stays the same.
    min_length: u64,
}

/// The state of the write-ahead log according to SQLite's shared index.
#[derive(Debug, Clone, Copy)]
struct LogState {
    frames: u64,
    /// True if a checkpoint has copied all frames of the log into the file.
    is_copied: bool,
}

impl OpenFiles {
    /// Records the database file of a connection and its write-ahead log.
    ///
    /// # Errors
    /// The errors of SQLite.
    pub(crate) fn of(path: &Path, connection: &Connection) -> rusqlite::Result<Self> {
        let page_size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        // SQLite opens the log with the first read of the file.
        let _: i64 = connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
        let page_size = u64::try_from(page_size).unwrap_or(4_096);
        Ok(Self {
            identities: Arc::new(FileIdentities::of(path)),
            page_size,
            last_check: Cell::new(None),
            are_checkpoints_paused: Cell::new(false),
        })
    }

    /// Returns the length of the database file in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.identities.length()
    }

    /// Returns the length of the write-ahead log in bytes.
    pub(crate) fn log_length(&self) -> u64 {
        self.identities.log_length()
    }

    /// Returns the free space of the file system in bytes; `None` if it cannot be determined.
    pub(crate) fn free_space(&self) -> Option<u64> {
        fs4::available_space(self.identities.path().parent()?).ok()
    }

    /// Pauses or continues SQLite's automatic checkpoints, which copy the log into the file.
    pub(crate) fn pause_checkpoints(&self, connection: &Connection, is_paused: bool) {
        if self.are_checkpoints_paused.replace(is_paused) != is_paused {
            // 0 disables automatic checkpoints. 1,000 pages is SQLite's default.
            let pages = if is_paused { 0 } else { 1_000 };
            let _ = connection.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()));
        }
    }

    /// Checks that both files are in place.
    ///
    /// # Errors
    /// `Unavailable` if the path no longer leads to the open file, and `Corrupt` if the log was removed or
    /// replaced.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        self.identities.check().map(|_| ())
    }

    /// Checks that both files are in place and not truncated. The connection must have no open transaction.
    ///
    /// # Errors
    /// The errors of [`check_in_place`](Self::check_in_place), and `Corrupt` if a file was truncated.
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
            let mut statement = connection.prepare_cached(pragma).map_err(read_error)?;
            statement.query_row([], |row| row.get(0)).map_err(read_error)
        };
        // The state of the log is read before its length. If another process truncates the log in between, this attempt
        // fails and the next attempt succeeds.
        let log = log_state(connection).map_err(read_error)?;
        let (length, log_length) = self.identities.check()?;
        let is_log_whole = log.is_none_or(|LogState { frames, .. }| {
            frames == 0 || log_length >= LOG_HEADER + frames * (FRAME_HEADER + self.page_size)
        });
        if !is_log_whole {
            return Err(log_error());
        }
        let all_pages = u64::try_from(number("PRAGMA page_count")?).unwrap_or(0) * self.page_size;
        let data_version = number("PRAGMA data_version")?;
        let mut min_length = match self.last_check.get() {
            Some(last) if last.data_version == data_version => last.min_length.min(all_pages),
            // This is the first check, or another connection has committed and may have shortened the file.
            _ => self.page_size,
        };
        if log.is_some_and(|log| log.is_copied) {
            min_length = all_pages;
        }
        if length < min_length {
            return Err(Error::corrupt("the database file was removed, replaced or truncated while it was open"));
        }
        self.last_check.set(Some(LastCheck { data_version, min_length: length.min(all_pages) }));
        Ok(())
    }
}

/// Returns the state of the log; `None` if another connection is changing the log.
fn log_state(connection: &Connection) -> rusqlite::Result<Option<LogState>> {
    let (busy, frames, copied): (i64, i64, i64) = connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let frames = u64::try_from(frames).ok().filter(|_| busy == 0);
    Ok(frames.map(|frames| LogState { frames, is_copied: u64::try_from(copied).is_ok_and(|copied| copied >= frames) }))
}
