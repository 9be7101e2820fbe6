//! The errors of redb as errors of a store (clause E-1).

use kv_core::adapter::io_error;
use kv_core::{Error, ErrorKind};
use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// Converts an error of reading, of beginning a transaction, or of a change before its commit.
pub(crate) fn storage(error: StorageError) -> Error {
    let (kind, message) = match &error {
        StorageError::Io(_) => {
            let StorageError::Io(error) = error else { return Error::unavailable("the file system failed") };
            return io_error(error);
        }
        StorageError::Corrupted(_) => (ErrorKind::Corrupt, "the file is damaged"),
        StorageError::ValueTooLarge(_) => (ErrorKind::Invalid, "the value is too large for redb"),
        StorageError::DatabaseClosed => (ErrorKind::Closed, "the database is closed"),
        StorageError::LockPoisoned(_) => (ErrorKind::Defect, "redb panicked in another thread"),
        StorageError::PreviousIo => (ErrorKind::Unavailable, "an earlier I/O error: open the store again"),
        _ => (ErrorKind::Unavailable, "the storage of redb failed"),
    };
    Error::new(kind, message).with_source(error)
}

/// Converts an error of opening the table. Another table type means a file of another program.
pub(crate) fn table(error: TableError) -> Error {
    match error {
        TableError::Storage(error) => storage(error),
        TableError::TableAlreadyOpen(..) => Error::defect("the table is open twice").with_source(error),
        _ => Error::corrupt("the file belongs to another program").with_source(error),
    }
}

/// Converts an error of beginning a transaction.
pub(crate) fn transaction(error: TransactionError) -> Error {
    match error {
        TransactionError::Storage(error) => storage(error),
        _ => Error::unavailable("no transaction can begin").with_source(error),
    }
}

/// Converts an error of a commit. Only a poisoned transaction is certainly rolled back.
pub(crate) fn commit(error: CommitError) -> kv_core::adapter::CommitError {
    match error {
        CommitError::TransactionPoisoned => kv_core::adapter::CommitError::NotApplied(
            Error::unavailable("the transaction was rolled back").with_source(error),
        ),
        CommitError::Storage(error) => storage(error).into(),
        error => Error::unavailable("the commit failed").with_source(error).into(),
    }
}

/// Converts an error of opening the file.
pub(crate) fn open(error: DatabaseError) -> Error {
    match error {
        DatabaseError::Storage(error) => storage(error),
        DatabaseError::DatabaseAlreadyOpen => Error::unavailable("another store has the file open").with_source(error),
        DatabaseError::UpgradeRequired(_) => {
            Error::invalid("the file has the format of an old version of redb").with_source(error)
        }
        DatabaseError::RepairAborted => Error::corrupt("the file cannot be repaired").with_source(error),
        _ => Error::unavailable("the file cannot be opened").with_source(error),
    }
}
