//! The driver's errors as kinds of the contract.
//!
//! An error of the server has the kind of its SQLSTATE.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use kv_core::adapter::{Effect, ErrorContext};
use kv_core::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

use crate::rejection::Rejection;

/// The name of the backend in the store's info and in errors.
pub(crate) const NAME: &str = "postgres";

/// Adds the backend, the operation and the key to errors.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// The failure of a round trip. A failure can be cloned, because all calls of a batch share the failure of the batch.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The statement was not sent.
    NotSent(Cause),
    /// The server responded with an error, so it has rolled the statement back.
    ServerError(SqlState, Arc<tokio_postgres::Error>),
    /// The server refused the connection or failed to prepare the statement. The server ran nothing, and another call
    /// of the batch would fail in the same way.
    Refused(SqlState, Arc<tokio_postgres::Error>),
    /// The server or the client rejected the connection, for a reason that a retry does not change.
    Rejected(Rejection),
    /// The server rolled a write back because the configuration makes the sessions of the store read-only.
    ReadOnly,
    /// The statement was sent, and no response arrived.
    Unanswered(Cause),
    /// The rows of the response do not have the expected columns.
    UnexpectedShape,
}

/// The cause of a failure without a response.
#[derive(Debug, Clone)]
pub(crate) enum Cause {
    /// The connection failed.
    Driver(Arc<tokio_postgres::Error>),
    /// All connections of the pool were in use until the timeout.
    NoConnection,
    /// The timeout passed.
    Timeout,
    /// The pool was closed.
    Closed,
}

impl Failure {
    /// Converts an error that the pool returned instead of a connection.
    pub(crate) fn from_pool(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::NotSent(Cause::NoConnection),
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Self::from_connect(error)
            }
            PoolError::Timeout(_)
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(HookError::Message(_)) => Self::NotSent(Cause::Timeout),
            PoolError::Closed => Self::NotSent(Cause::Closed),
        }
    }

    /// Converts an error from connecting.
    pub(crate) fn from_connect(error: tokio_postgres::Error) -> Self {
        match Rejection::find(&error) {
            Some(rejection) => Self::Rejected(rejection),
            None => Self::from_prepare(error),
        }
    }

    /// Converts an error of preparing a statement. The server did not run the statement.
    pub(crate) fn from_prepare(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if !ends_connection(code) || *code == SqlState::PROTOCOL_VIOLATION => {
                Self::Refused(code.clone(), Arc::new(error))
            }
            _ => Self::NotSent(Cause::Driver(Arc::new(error))),
        }
    }

    /// Converts an error of a statement that may have been sent.
    pub(crate) fn from_statement(error: tokio_postgres::Error) -> Self {
        match error.code() {
            // This code only announces the end of the connection. The server may already have committed the statement.
            Some(code) if ends_connection(code) => Self::Unanswered(Cause::Driver(Arc::new(error))),
            Some(code) => Self::ServerError(code.clone(), Arc::new(error)),
            None => Self::Unanswered(Cause::Driver(Arc::new(error))),
        }
    }

    /// True if the server rolled the statement back because of a conflict, so that the statement may be retried at
    /// once.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::ServerError(code, _) => {
                *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
            }
            _ => false,
        }
    }

    /// True if a prepared statement of the connection is no longer valid, so that the call must use another connection.
    pub(crate) fn is_stale_statement(&self) -> bool {
        match self {
            Self::ServerError(code, _) | Self::Refused(code, _) => {
                *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::FEATURE_NOT_SUPPORTED
            }
            _ => false,
        }
    }

    /// True if the connection can be used again.
    pub(crate) fn keeps_connection(&self) -> bool {
        let is_open = match self {
            Self::ServerError(code, _) | Self::Refused(code, _) => !ends_connection(code),
            Self::ReadOnly => true,
            _ => false,
        };
        is_open && !self.is_stale_statement()
    }

    /// True if the server ran the statement and rolled it back.
    pub(crate) fn is_rolled_back(&self) -> bool {
        matches!(self, Self::ServerError(..) | Self::ReadOnly)
    }

    /// True if the server found damaged data while it ran the statement.
    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self, Self::ServerError(code, _) if kind_of(code).0 == ErrorKind::Corrupt && code.code().starts_with("XX"))
    }

    /// True if the server accepts no more connections: from this role, to this database, or in total.
    pub(crate) fn is_connection_limit(&self) -> bool {
        matches!(self, Self::Refused(code, _) if *code == SqlState::TOO_MANY_CONNECTIONS)
    }

    /// True if the connection was lost and a call with this effect may be retried on another connection. A call that
    /// was sent may be retried only if it changes nothing.
    pub(crate) fn is_retryable_connection_loss(&self, effect: Effect) -> bool {
        match self {
            Self::Unanswered(Cause::Driver(_)) => effect == Effect::Read,
            Self::NotSent(Cause::Driver(error)) => error.is_closed() || error.code().is_some_and(ends_connection),
            _ => false,
        }
    }

    /// Converts into the error of an operation with this effect.
    pub(crate) fn into_error(self, effect: Effect) -> Error {
        match self {
            // The statement was not sent, so it changed nothing.
            Self::NotSent(cause) => cause.into_error(Effect::Read),
            Self::Unanswered(cause) => cause.into_error(effect),
            Self::ServerError(code, error) | Self::Refused(code, error) => {
                let (kind, message) = kind_of(&code);
                Error::new(kind, message).with_source(source(&code, error))
            }
            Self::Rejected(rejection) => rejection.into_error(),
            Self::ReadOnly => Error::new(ErrorKind::Denied, "the sessions of the store are read-only by configuration"),
            Self::UnexpectedShape => Error::corrupt("the table does not have the expected shape"),
        }
    }

    /// True if the server rolled the statement back because the session is read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::ServerError(code, _) | Self::Refused(code, _) if *code == SqlState::READ_ONLY_SQL_TRANSACTION)
    }
}

/// Returns the error of a statement that changes nothing.
pub(crate) fn read_error(failure: Failure) -> Error {
    failure.into_error(Effect::Read)
}

impl Cause {
    fn into_error(self, effect: Effect) -> Error {
        match self {
            Self::Driver(error) => {
                effect.unanswered("the connection to the server failed").with_source(driver_source(error))
            }
            Self::NoConnection => Error::capacity("all connections of the pool are in use"),
            Self::Timeout => effect.unanswered("the server did not answer within the timeout"),
            Self::Closed => effect.unanswered("the connection pool is closed"),
        }
    }
}

/// The SQLSTATE of an error, without the server's message, which may quote stored data or the URL.
#[derive(Debug)]
pub(crate) struct Code(pub(crate) String);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server responded with SQLSTATE {}", self.0)
    }
}

impl StdError for Code {}

/// Returns the driver's error as a source. If the message of the error may quote stored data, returns only its
/// SQLSTATE.
fn source(code: &SqlState, error: Arc<tokio_postgres::Error>) -> Box<dyn StdError + Send + Sync> {
    let may_quote = error.as_db_error().is_some_and(|error| error.detail().is_some() || error.where_().is_some());
    if may_quote || matches!(code.code().get(..2), Some("22" | "23" | "P0")) {
        return Box::new(Code(code.code().to_owned()));
    }
    driver_source(error)
}

/// Returns the driver's error as a source. If no other call shares the error, unwraps the `Arc`, so that the source
/// downcasts to the driver's type.
fn driver_source(error: Arc<tokio_postgres::Error>) -> Box<dyn StdError + Send + Sync> {
    match Arc::try_unwrap(error) {
        Ok(error) => Box::new(error),
        Err(shared) => Box::new(shared),
    }
}

/// True if the server ends the connection after an error with this code.
pub(crate) fn ends_connection(code: &SqlState) -> bool {
    matches!(code.code(), "57P01" | "57P02" | "57P04" | "57P05" | "25P03") || code.code().starts_with("08")
}

/// Returns the kind and the text of an error of the server, by its SQLSTATE.
pub(crate) fn kind_of(code: &SqlState) -> (ErrorKind, &'static str) {
    use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
    match code.code() {
        "40001" | "40P01" => return (Unavailable, "the statement conflicted with other transactions in every attempt"),
        "40002" | "40003" => return (Unavailable, "the server rolled the statement back"),
        "55P03" => return (Unavailable, "another session holds the lock of the row"),
        "57014" => return (Unavailable, "the server cancelled the statement"),
        "08P01" => return (Invalid, "the server refuses the session settings, as a pooler does: set `pooled`"),
        "25006" => return (Unavailable, "the server is read-only"),
        "25P02" => {
            return (Unavailable, "a statement was sent in an aborted transaction, which is a defect of this crate");
        }
        "26000" => {
            return (
                Unavailable,
                "the server does not know the prepared statement, as behind a transaction pooler: set `pooled`",
            );
        }
        "0A000" => return (Unavailable, "the table was altered while it was in use"),
        "3D000" => return (Denied, "the database does not exist"),
        "42501" => return (Denied, "the role lacks a privilege"),
        "42P01" | "3F000" => return (Unavailable, "the table was dropped"),
        "54000" => return (Invalid, "the statement exceeds a limit of the server"),
        "XX001" | "XX002" => return (Corrupt, "the server reports damaged data"),
        _ => {}
    }
    match code.code().get(..2).unwrap_or_default() {
        "08" => (Unavailable, "the connection to the server failed"),
        "22" => (Invalid, "the server does not accept the data"),
        "28" => (Denied, "the server refused the credentials"),
        "53" => (Capacity, "the server has run out of disk space, memory or connections"),
        "54" => (Invalid, "the statement exceeds a limit of the server"),
        "55" => (Unavailable, "the table is not in a usable state"),
        "57" => (Unavailable, "the server is starting or stopping"),
        "58" => (Unavailable, "the server failed to access its files"),
        // The columns of the table, a function or a constraint are foreign.
        "23" | "42" | "P0" | "0B" | "21" | "2F" | "38" | "39" => {
            (Corrupt, "the table does not have the expected shape")
        }
        "25" | "2D" | "3B" => (Unavailable, "the connection is inside a transaction of other code"),
        _ => (Unavailable, "the server failed with an unknown SQLSTATE"),
    }
}

#[cfg(test)]
mod tests {
    use kv_core::Version;

    use super::*;

    #[test]
    fn every_sqlstate_has_its_error_kind() {
        use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
        let table = [
            ("08000", Unavailable),
            ("08006", Unavailable),
            ("08P01", Invalid),
            ("0A000", Unavailable),
            ("22021", Invalid),
            ("22P05", Invalid),
            ("22023", Invalid),
            ("23502", Corrupt),
            ("25006", Unavailable),
            ("25P02", Unavailable),
            ("26000", Unavailable),
            ("28000", Denied),
            ("28P01", Denied),
            ("3D000", Denied),
            ("40001", Unavailable),
            ("40P01", Unavailable),
            ("42501", Denied),
            ("42703", Corrupt),
            ("42P01", Unavailable),
            ("53100", Capacity),
            ("53200", Capacity),
            ("53300", Capacity),
            ("54000", Invalid),
            ("55000", Unavailable),
            ("55P03", Unavailable),
            ("57014", Unavailable),
            ("57P03", Unavailable),
            ("58030", Unavailable),
            ("P0001", Corrupt),
            ("XX000", Unavailable),
            ("XX001", Corrupt),
            ("XX002", Corrupt),
            ("ZZ999", Unavailable),
        ];
        for (code, kind) in table {
            assert_eq!(kind_of(&SqlState::from_code(code)).0, kind, "{code}");
        }
    }

    #[test]
    fn codes_that_end_the_connection_are_recognized() {
        for code in ["57P01", "57P02", "08006", "25P03"] {
            assert!(ends_connection(&SqlState::from_code(code)), "{code}");
        }
        for code in ["57014", "57P03", "40001", "55P03"] {
            assert!(!ends_connection(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn only_an_unanswered_write_is_indeterminate() {
        let version = Some(Version::random());
        let failure = Failure::Unanswered(Cause::Timeout);
        assert_eq!(failure.clone().into_error(Effect::Read).kind(), ErrorKind::Unavailable);
        assert_eq!(failure.into_error(Effect::Write(version)).attempted_version(), version);
        let before = Failure::NotSent(Cause::Timeout).into_error(Effect::Write(version));
        assert_eq!(before.kind(), ErrorKind::Unavailable);
        assert_eq!(Failure::NotSent(Cause::NoConnection).into_error(Effect::Read).kind(), ErrorKind::Capacity);
        assert_eq!(Failure::UnexpectedShape.into_error(Effect::Read).kind(), ErrorKind::Corrupt);
    }
}
