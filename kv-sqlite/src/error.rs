//! SQLite's errors as the kinds of the contract.

use kv_core::{Error, ErrorKind, Version};
use rusqlite::ffi;

/// When an error came, which decides whether a write may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// While reading, or while a transaction was open that is rolled back now.
    Before,
    /// While the transaction was committed.
    Commit,
}

/// Why a write of a batch did not come through.
#[derive(Debug)]
pub(crate) enum Abort {
    /// SQLite failed: the whole batch is rolled back, and each of its writes is tried by itself.
    Driver(rusqlite::Error),
    /// The call itself is refused; it has changed nothing.
    Call(Error),
}

impl From<rusqlite::Error> for Abort {
    fn from(error: rusqlite::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

/// The error of a read, or of whatever else changes nothing.
pub(crate) fn read(error: rusqlite::Error) -> Error {
    classify(error, Stage::Before, None)
}

/// The kind of an error, by SQLite's code for it.
pub(crate) fn classify(error: rusqlite::Error, stage: Stage, version: Option<Version>) -> Error {
    let (kind, message) = match &error {
        rusqlite::Error::SqliteFailure(failure, _) | rusqlite::Error::SqlInputError { error: failure, .. } => {
            kind_of(failure.extended_code, stage, version)
        }
        // The rest are errors of types and counts, which statements of our own over a table of our own do not give.
        _ => (ErrorKind::Corrupt, "the table is not of the expected shape"),
    };
    Error::new(kind, message).with_source(error)
}

/// An error that several callers are told of; the driver's own type does not copy.
pub(crate) fn copied(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => rusqlite::Error::SqliteFailure(*failure, message.clone()),
        rusqlite::Error::SqlInputError { error, msg, .. } => rusqlite::Error::SqliteFailure(*error, Some(msg.clone())),
        // Its words are all that it has.
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}

/// Whether SQLite says that somebody else has the lock, so that waiting helps.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(primary(failure.extended_code), ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL)
        }
        _ => false,
    }
}

/// Whether SQLite could not open a file, so that the file system knows more.
pub(crate) fn is_open_failure(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(primary(failure.extended_code), ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY | ffi::SQLITE_IOERR)
        }
        _ => false,
    }
}

const fn primary(code: i32) -> i32 {
    code & 0xff
}

fn kind_of(code: i32, stage: Stage, version: Option<Version>) -> (ErrorKind, &'static str) {
    let in_doubt = |kind| match stage {
        Stage::Before => kind,
        Stage::Commit => ErrorKind::Indeterminate { version },
    };
    match code {
        ffi::SQLITE_IOERR_NOMEM => return (in_doubt(ErrorKind::Capacity), "no memory is left"),
        // A file that ends too early, or a file system that says itself that it is damaged.
        ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA => {
            return (in_doubt(ErrorKind::Corrupt), "the database file is damaged");
        }
        ffi::SQLITE_READONLY_DBMOVED => return (ErrorKind::Unavailable, "the database file was moved or removed"),
        _ => {}
    }
    match primary(code) {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL => {
            (ErrorKind::Unavailable, "another process holds the lock of the database")
        }
        // Frames that do not fit are no commit: it is the last frame that makes one.
        ffi::SQLITE_FULL => (ErrorKind::Capacity, "the disk is full"),
        ffi::SQLITE_NOMEM => (in_doubt(ErrorKind::Capacity), "no memory is left"),
        ffi::SQLITE_TOOBIG => (ErrorKind::Invalid, "the value is larger than SQLite takes"),
        ffi::SQLITE_PERM | ffi::SQLITE_AUTH | ffi::SQLITE_READONLY => {
            (ErrorKind::Denied, "the database cannot be written")
        }
        ffi::SQLITE_CANTOPEN => (in_doubt(ErrorKind::Unavailable), "the database file cannot be opened"),
        ffi::SQLITE_IOERR => (in_doubt(ErrorKind::Unavailable), "the file system failed"),
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_FORMAT => {
            (in_doubt(ErrorKind::Corrupt), "the database file is damaged, or is none")
        }
        ffi::SQLITE_INTERRUPT | ffi::SQLITE_ABORT | ffi::SQLITE_SCHEMA | ffi::SQLITE_NOLFS => {
            (in_doubt(ErrorKind::Unavailable), "SQLite could not finish")
        }
        // A table that somebody dropped or changed, or a constraint that our rows do not violate.
        ffi::SQLITE_ERROR
        | ffi::SQLITE_CONSTRAINT
        | ffi::SQLITE_MISMATCH
        | ffi::SQLITE_NOTFOUND
        | ffi::SQLITE_EMPTY => (in_doubt(ErrorKind::Corrupt), "the table is not of the expected shape"),
        ffi::SQLITE_INTERNAL | ffi::SQLITE_MISUSE | ffi::SQLITE_RANGE => {
            (in_doubt(ErrorKind::Unavailable), "SQLite refused a call, which is a defect of this crate")
        }
        _ => (in_doubt(ErrorKind::Unavailable), "SQLite failed with a code that this crate does not know"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_kind_that_says_what_to_do() {
        use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
        let in_doubt = ErrorKind::Indeterminate { version: None };
        let table = [
            (ffi::SQLITE_ERROR, Corrupt, in_doubt),
            (ffi::SQLITE_INTERNAL, Unavailable, in_doubt),
            (ffi::SQLITE_PERM, Denied, Denied),
            (ffi::SQLITE_ABORT, Unavailable, in_doubt),
            (ffi::SQLITE_BUSY, Unavailable, Unavailable),
            (ffi::SQLITE_BUSY_SNAPSHOT, Unavailable, Unavailable),
            (ffi::SQLITE_BUSY_RECOVERY, Unavailable, Unavailable),
            (ffi::SQLITE_LOCKED, Unavailable, Unavailable),
            (ffi::SQLITE_NOMEM, Capacity, in_doubt),
            (ffi::SQLITE_READONLY, Denied, Denied),
            (ffi::SQLITE_READONLY_DIRECTORY, Denied, Denied),
            (ffi::SQLITE_READONLY_DBMOVED, Unavailable, Unavailable),
            (ffi::SQLITE_INTERRUPT, Unavailable, in_doubt),
            (ffi::SQLITE_IOERR, Unavailable, in_doubt),
            (ffi::SQLITE_IOERR_FSYNC, Unavailable, in_doubt),
            (ffi::SQLITE_IOERR_WRITE, Unavailable, in_doubt),
            (ffi::SQLITE_IOERR_SHORT_READ, Corrupt, in_doubt),
            (ffi::SQLITE_IOERR_CORRUPTFS, Corrupt, in_doubt),
            (ffi::SQLITE_IOERR_NOMEM, Capacity, in_doubt),
            (ffi::SQLITE_CORRUPT, Corrupt, in_doubt),
            (ffi::SQLITE_NOTFOUND, Corrupt, in_doubt),
            (ffi::SQLITE_FULL, Capacity, Capacity),
            (ffi::SQLITE_CANTOPEN, Unavailable, in_doubt),
            (ffi::SQLITE_PROTOCOL, Unavailable, Unavailable),
            (ffi::SQLITE_SCHEMA, Unavailable, in_doubt),
            (ffi::SQLITE_TOOBIG, Invalid, Invalid),
            (ffi::SQLITE_CONSTRAINT, Corrupt, in_doubt),
            (ffi::SQLITE_MISMATCH, Corrupt, in_doubt),
            (ffi::SQLITE_MISUSE, Unavailable, in_doubt),
            (ffi::SQLITE_NOLFS, Unavailable, in_doubt),
            (ffi::SQLITE_AUTH, Denied, Denied),
            (ffi::SQLITE_RANGE, Unavailable, in_doubt),
            (ffi::SQLITE_NOTADB, Corrupt, in_doubt),
            (99, Unavailable, in_doubt),
        ];
        for (code, before, commit) in table {
            let error = || rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(classify(error(), Stage::Before, None).kind(), before, "{code} before the commit");
            assert_eq!(classify(error(), Stage::Commit, None).kind(), commit, "{code} in the commit");
        }
    }

    #[test]
    fn the_drivers_error_is_the_source() {
        use std::error::Error as _;
        let error = read(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        assert!(error.source().is_some_and(<dyn std::error::Error>::is::<rusqlite::Error>));
    }
}
