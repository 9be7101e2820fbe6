//! SQLite's errors as kinds of the contract.

use kv_core::adapter::{Effect, ErrorContext};
use kv_core::{Error, ErrorKind};
use rusqlite::ffi;

/// The name of the backend in reports and errors.
pub(crate) const NAME: &str = "sqlite";

/// The context of every error of this crate.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// The reason for which a write of a batch was not applied.
#[derive(Debug)]
pub(crate) enum Abort {
    /// SQLite failed: the whole batch is rolled back, and each of its writes is tried alone.
    Driver(rusqlite::Error),
    /// The call itself is refused, and has changed nothing.
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

/// Converts the error of a read, or of another call without effect.
pub(crate) fn read(error: rusqlite::Error) -> Error {
    classify(error, Effect::Read)
}

/// Converts an error by SQLite's code. `effect` is [`Effect::Read`] before the commit, because that is rolled back.
pub(crate) fn classify(error: rusqlite::Error, effect: Effect) -> Error {
    let (kind, message) = match &error {
        rusqlite::Error::SqliteFailure(failure, _) | rusqlite::Error::SqlInputError { error: failure, .. } => {
            kind_of(failure.extended_code, effect)
        }
        // The other variants concern types and counts. Our statements on a table of ours do not cause them.
        _ => (ErrorKind::Corrupt, "the table is not of the expected shape"),
    };
    Error::new(kind, message).with_source(error)
}

/// Copies an error for several callers; `rusqlite::Error` is not `Clone`.
pub(crate) fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => rusqlite::Error::SqliteFailure(*failure, message.clone()),
        rusqlite::Error::SqlInputError { error, msg, .. } => rusqlite::Error::SqliteFailure(*error, Some(msg.clone())),
        // The other variants carry no code, so that the text is enough.
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}

/// True if another connection holds the lock, so that waiting helps.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(primary(failure.extended_code), ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL)
        }
        _ => false,
    }
}

/// True if the disk is full.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if primary(failure.extended_code) == ffi::SQLITE_FULL)
}

/// True if SQLite could not open a file, so that the file system can give a more precise cause.
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

fn kind_of(code: i32, effect: Effect) -> (ErrorKind, &'static str) {
    let or_indeterminate = |kind| match effect {
        Effect::Read => kind,
        Effect::Write(version) => ErrorKind::Indeterminate { version },
    };
    match code {
        ffi::SQLITE_IOERR_NOMEM => return (or_indeterminate(ErrorKind::Capacity), "no memory is left"),
        // The file ends too early, or the file system reports its own damage.
        ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA => {
            return (or_indeterminate(ErrorKind::Corrupt), "the database file is damaged");
        }
        ffi::SQLITE_READONLY_DBMOVED => return (ErrorKind::Unavailable, "the database file was moved or removed"),
        _ => {}
    }
    match primary(code) {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL => {
            (ErrorKind::Unavailable, "another process holds the lock of the database")
        }
        // Not indeterminate: the last frame of a commit makes it valid, and that frame did not fit.
        ffi::SQLITE_FULL => (ErrorKind::Capacity, "the disk is full"),
        ffi::SQLITE_NOMEM => (or_indeterminate(ErrorKind::Capacity), "no memory is left"),
        ffi::SQLITE_TOOBIG => (ErrorKind::Invalid, "the value is larger than SQLite's limit"),
        ffi::SQLITE_PERM | ffi::SQLITE_AUTH => (ErrorKind::Denied, "the database cannot be written"),
        ffi::SQLITE_READONLY => (ErrorKind::Denied, "the database file is read-only"),
        ffi::SQLITE_CANTOPEN => (or_indeterminate(ErrorKind::Unavailable), "the database file cannot be opened"),
        ffi::SQLITE_IOERR => (or_indeterminate(ErrorKind::Unavailable), "the file system failed"),
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_FORMAT => {
            (or_indeterminate(ErrorKind::Corrupt), "the file is damaged, or is not a database")
        }
        ffi::SQLITE_INTERRUPT | ffi::SQLITE_ABORT | ffi::SQLITE_SCHEMA | ffi::SQLITE_NOLFS => {
            (or_indeterminate(ErrorKind::Unavailable), "SQLite could not finish")
        }
        // Another program has dropped or changed the table: our rows violate no constraint.
        ffi::SQLITE_ERROR
        | ffi::SQLITE_CONSTRAINT
        | ffi::SQLITE_MISMATCH
        | ffi::SQLITE_NOTFOUND
        | ffi::SQLITE_EMPTY => (or_indeterminate(ErrorKind::Corrupt), "the table is not of the expected shape"),
        ffi::SQLITE_INTERNAL | ffi::SQLITE_MISUSE | ffi::SQLITE_RANGE => {
            (or_indeterminate(ErrorKind::Unavailable), "SQLite rejected a call, which is a defect of this crate")
        }
        _ => (or_indeterminate(ErrorKind::Unavailable), "SQLite failed with an unknown code"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_kind_for_each_stage() {
        use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
        let indeterminate = ErrorKind::Indeterminate { version: None };
        let table = [
            (ffi::SQLITE_ERROR, Corrupt, indeterminate),
            (ffi::SQLITE_INTERNAL, Unavailable, indeterminate),
            (ffi::SQLITE_PERM, Denied, Denied),
            (ffi::SQLITE_ABORT, Unavailable, indeterminate),
            (ffi::SQLITE_BUSY, Unavailable, Unavailable),
            (ffi::SQLITE_BUSY_SNAPSHOT, Unavailable, Unavailable),
            (ffi::SQLITE_BUSY_RECOVERY, Unavailable, Unavailable),
            (ffi::SQLITE_LOCKED, Unavailable, Unavailable),
            (ffi::SQLITE_NOMEM, Capacity, indeterminate),
            (ffi::SQLITE_READONLY, Denied, Denied),
            (ffi::SQLITE_READONLY_DIRECTORY, Denied, Denied),
            (ffi::SQLITE_READONLY_DBMOVED, Unavailable, Unavailable),
            (ffi::SQLITE_INTERRUPT, Unavailable, indeterminate),
            (ffi::SQLITE_IOERR, Unavailable, indeterminate),
            (ffi::SQLITE_IOERR_FSYNC, Unavailable, indeterminate),
            (ffi::SQLITE_IOERR_WRITE, Unavailable, indeterminate),
            (ffi::SQLITE_IOERR_SHORT_READ, Corrupt, indeterminate),
            (ffi::SQLITE_IOERR_CORRUPTFS, Corrupt, indeterminate),
            (ffi::SQLITE_IOERR_NOMEM, Capacity, indeterminate),
            (ffi::SQLITE_CORRUPT, Corrupt, indeterminate),
            (ffi::SQLITE_NOTFOUND, Corrupt, indeterminate),
            (ffi::SQLITE_FULL, Capacity, Capacity),
            (ffi::SQLITE_CANTOPEN, Unavailable, indeterminate),
            (ffi::SQLITE_PROTOCOL, Unavailable, Unavailable),
            (ffi::SQLITE_SCHEMA, Unavailable, indeterminate),
            (ffi::SQLITE_TOOBIG, Invalid, Invalid),
            (ffi::SQLITE_CONSTRAINT, Corrupt, indeterminate),
            (ffi::SQLITE_MISMATCH, Corrupt, indeterminate),
            (ffi::SQLITE_MISUSE, Unavailable, indeterminate),
            (ffi::SQLITE_NOLFS, Unavailable, indeterminate),
            (ffi::SQLITE_AUTH, Denied, Denied),
            (ffi::SQLITE_RANGE, Unavailable, indeterminate),
            (ffi::SQLITE_NOTADB, Corrupt, indeterminate),
            (99, Unavailable, indeterminate),
        ];
        for (code, before, commit) in table {
            let error = || rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(classify(error(), Effect::Read).kind(), before, "{code} before the commit");
            assert_eq!(classify(error(), Effect::Write(None)).kind(), commit, "{code} in the commit");
        }
    }

    #[test]
    fn the_driver_error_is_the_source() {
        use std::error::Error as _;
        let error = read(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        assert!(error.source().is_some_and(<dyn std::error::Error>::is::<rusqlite::Error>));
    }
}
