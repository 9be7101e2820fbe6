//! The driver's errors as kinds of the contract.

use kv_core::adapter::{Effect, ErrorContext};
use kv_core::{Error, ErrorKind};
use rusqlite::ffi;

/// The name of the backend in reports and errors.
pub(crate) const NAME: &str = "sqlite";

/// Adds the backend, the operation and the key to errors.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// The reason for which a write was not applied, or for which a database could not be set up.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite failed. The transaction must be rolled back.
    Driver(rusqlite::Error),
    /// This crate refused a call or a whole batch, for example because an entry is damaged. A refused call has changed
    /// nothing, so the transaction may continue with other calls.
    Refused(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Converts the error of a call that has changed nothing, such as a read.
pub(crate) fn read_error(error: rusqlite::Error) -> Error {
    to_error(error, Effect::Read)
}

/// Converts an error by SQLite's code. `effect` is the effect that the failed call may have had. Before the commit of a
/// write, the effect is [`Effect::Read`], because the transaction is rolled back.
pub(crate) fn to_error(error: rusqlite::Error, effect: Effect) -> Error {
    let (kind, message) = match &error {
        rusqlite::Error::SqliteFailure(failure, _) | rusqlite::Error::SqlInputError { error: failure, .. } => {
            kind_of(failure.extended_code, effect)
        }
        // The other variants are about wrong types and wrong numbers of columns or rows. Our statements do not cause
        // them on a table that this crate has created.
        _ => (ErrorKind::Corrupt, WRONG_TABLE),
    };
    Error::new(kind, message).with_source(error)
}

/// Copies an error, so that several callers can get it. `rusqlite::Error` is not `Clone`.
pub(crate) fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => rusqlite::Error::SqliteFailure(*failure, message.clone()),
        rusqlite::Error::SqlInputError { error, msg, .. } => rusqlite::Error::SqliteFailure(*error, Some(msg.clone())),
        // The other variants have no code, so a copy of the text is enough.
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}

/// True if another connection holds a lock of the database, so that a retry may succeed.
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

/// True if SQLite could not open or write a file. Then the file system may give a more precise cause.
pub(crate) fn is_open_failure(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(primary(failure.extended_code), ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY | ffi::SQLITE_IOERR)
        }
        _ => false,
    }
}

/// Returns the primary code of an extended code.
const fn primary(code: i32) -> i32 {
    code & 0xff
}

/// The text of the error for a table that another program has dropped or changed.
const WRONG_TABLE: &str = "the table does not have the expected columns or constraints";

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
        // A full disk is never indeterminate: a commit is valid only with its last frame, and that frame did not fit on
        // the disk.
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
            (or_indeterminate(ErrorKind::Unavailable), "SQLite interrupted the call")
        }
        // Another program has dropped or changed the table, because our rows violate no constraint of our table.
        ffi::SQLITE_ERROR
        | ffi::SQLITE_CONSTRAINT
        | ffi::SQLITE_MISMATCH
        | ffi::SQLITE_NOTFOUND
        | ffi::SQLITE_EMPTY => (or_indeterminate(ErrorKind::Corrupt), WRONG_TABLE),
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
    fn every_code_has_a_kind_before_and_in_the_commit() {
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
        for (code, before, in_commit) in table {
            let error = || rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(to_error(error(), Effect::Read).kind(), before, "{code} before the commit");
            assert_eq!(to_error(error(), Effect::Write(None)).kind(), in_commit, "{code} in the commit");
        }
    }

    #[test]
    fn the_driver_error_is_the_source() {
        use std::error::Error as _;
        let error = read_error(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        assert!(error.source().is_some_and(<dyn std::error::Error>::is::<rusqlite::Error>));
    }
}
