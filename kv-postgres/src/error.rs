//! The driver's and the server's errors as the kinds of the contract.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use deadpool_postgres::{PoolError, TimeoutType};
use kv_core::adapter::{Effect, ErrorContext};
use kv_core::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

use crate::rejection::Rejection;

/// The name of the backend in reports and errors.
pub(crate) const NAME: &str = "postgres";

/// Adds the context to errors.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// The failure of a round trip. The members of a batch share one.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing was sent.
    Before(Cause),
    /// The server answered with an error, and so rolled the statement back.
    Answered(SqlState, Arc<tokio_postgres::Error>),
    /// The server refused the connection or failed to prepare the statement. It ran nothing, and the other members of a
    /// batch would fail in the same way.
    Refused(SqlState, Arc<tokio_postgres::Error>),
    /// The server or this side rejected the connection itself, for a reason that a retry does not change.
    Rejected(Rejection),
    /// The server rolled a write back because the sessions of the store can never write.
    ReadOnly,
    /// A request was sent, and no answer came.
    Unanswered(Cause),
    /// The answer does not have the expected columns.
    Shape,
}

/// The cause of a failure without an answer.
#[derive(Debug, Clone)]
pub(crate) enum Cause {
    Driver(Arc<tokio_postgres::Error>),
    NoConnection,
    Timeout,
    Closed,
}

impl Fault {
    /// The fault of an error while getting a connection from the pool.
    pub(crate) fn pool(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Before(Cause::NoConnection),
            PoolError::Backend(error) => Self::connecting(error),
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified => Self::Before(Cause::Timeout),
            PoolError::Closed | PoolError::PostCreateHook(_) => Self::Before(Cause::Closed),
        }
    }

    /// The fault of an error while connecting.
    pub(crate) fn connecting(error: tokio_postgres::Error) -> Self {
        match Rejection::find(&error) {
            Some(rejection) => Self::Rejected(rejection),
            None => Self::preparing(error),
        }
    }

    /// The fault of an error while preparing. The server ran no statement.
    pub(crate) fn preparing(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if !ends_connection(code) || *code == SqlState::PROTOCOL_VIOLATION => {
                Self::Refused(code.clone(), Arc::new(error))
            }
            _ => Self::Before(Cause::Driver(Arc::new(error))),
        }
    }

    /// The fault of an error after the statement may have been sent.
    pub(crate) fn sent(error: tokio_postgres::Error) -> Self {
        match error.code() {
            // The server announces the end of the connection, which does not tell the outcome of the statement.
            Some(code) if ends_connection(code) => Self::Unanswered(Cause::Driver(Arc::new(error))),
            Some(code) => Self::Answered(code.clone(), Arc::new(error)),
            None => Self::Unanswered(Cause::Driver(Arc::new(error))),
        }
    }

    /// True if the server rolled the statement back because of a conflict, so that it may be retried at once.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Answered(code, _) => {
                *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
            }
            _ => false,
        }
    }

    /// True if a prepared statement of the connection is no longer valid, so that the call needs another connection.
    pub(crate) fn is_stale_statement(&self) -> bool {
        match self {
            Self::Answered(code, _) | Self::Refused(code, _) => {
                *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::FEATURE_NOT_SUPPORTED
            }
            _ => false,
        }
    }

    /// True if the connection can be used again.
    pub(crate) fn keeps_connection(&self) -> bool {
        let answered = match self {
            Self::Answered(code, _) | Self::Refused(code, _) => !ends_connection(code),
            Self::ReadOnly => true,
            _ => false,
        };
        answered && !self.is_stale_statement()
    }

    /// True if the server has confirmed that it changed nothing.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self, Self::Answered(..) | Self::ReadOnly)
    }

    /// True if the server accepts no more connections of this role, to this database or at all.
    pub(crate) fn is_connection_limit(&self) -> bool {
        matches!(self, Self::Refused(code, _) if *code == SqlState::TOO_MANY_CONNECTIONS)
    }

    /// True if the connection was lost and a call with this effect may be retried on another one. A call that was sent
    /// may be retried only if it has no effect.
    pub(crate) fn is_retryable_connection_loss(&self, effect: Effect) -> bool {
        match self {
            Self::Unanswered(Cause::Driver(_)) => effect == Effect::Read,
            Self::Before(Cause::Driver(error)) => error.is_closed() || error.code().is_some_and(ends_connection),
            _ => false,
        }
    }

    /// The error for the caller of an operation with this effect.
    pub(crate) fn into_error(self, effect: Effect) -> Error {
        match self {
            // Nothing was sent, so there is no effect.
            Self::Before(cause) => cause.into_error(Effect::Read),
            Self::Unanswered(cause) => cause.into_error(effect),
            Self::Answered(code, error) | Self::Refused(code, error) => {
                let (kind, message) = kind_of(&code);
                Error::new(kind, message).with_source(source(&code, error))
            }
            Self::Rejected(rejection) => rejection.into_error(),
            Self::ReadOnly => Error::new(ErrorKind::Denied, "the sessions of the store are read-only by configuration"),
            Self::Shape => Error::corrupt("the table does not have the expected shape"),
        }
    }

    /// True if the server rolled the statement back because the session is read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Answered(code, _) | Self::Refused(code, _) if *code == SqlState::READ_ONLY_SQL_TRANSACTION)
    }
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

/// The SQLSTATE without the server's message, which may quote stored data or the URL.
#[derive(Debug)]
pub(crate) struct Code(pub(crate) String);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered with SQLSTATE {}", self.0)
    }
}

impl StdError for Code {}

/// The driver's error as a source, reduced to its SQLSTATE if its message may quote data.
fn source(code: &SqlState, error: Arc<tokio_postgres::Error>) -> Box<dyn StdError + Send + Sync> {
    let quotes = error.as_db_error().is_some_and(|error| error.detail().is_some() || error.where_().is_some());
    if quotes || matches!(code.code().get(..2), Some("22" | "23" | "P0")) {
        return Box::new(Code(code.code().to_owned()));
    }
    driver_source(error)
}

/// The error itself if it is not shared, so that it downcasts.
fn driver_source(error: Arc<tokio_postgres::Error>) -> Box<dyn StdError + Send + Sync> {
    match Arc::try_unwrap(error) {
        Ok(error) => Box::new(error),
        Err(shared) => Box::new(shared),
    }
}

/// True if the server ends the connection with this code.
pub(crate) fn ends_connection(code: &SqlState) -> bool {
    matches!(code.code(), "57P01" | "57P02" | "57P04" | "57P05" | "25P03") || code.code().starts_with("08")
}

/// The kind and text of an error that the server answered, by its SQLSTATE.
pub(crate) fn kind_of(code: &SqlState) -> (ErrorKind, &'static str) {
    use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
    match code.code() {
        "40001" | "40P01" => return (Unavailable, "the statement conflicted with other transactions in every attempt"),
        "40002" | "40003" => return (Unavailable, "the server rolled the statement back"),
        "55P03" => return (Unavailable, "another session holds the lock of the row"),
        "57014" => return (Unavailable, "the server cancelled the statement"),
        "08P01" => return (Invalid, "the session settings are refused, as by a pooler: set `pooled`"),
        "25006" => return (Unavailable, "the server is read-only"),
        "25P02" => {
            return (Unavailable, "a statement was sent in an aborted transaction, which is a defect of this crate");
        }
        "26000" => {
            return (Unavailable, "the server does not know the prepared statement, as behind a transaction pooler");
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
        // The table, a function or a constraint is foreign.
        "23" | "42" | "P0" | "0B" | "21" | "2F" | "38" | "39" => {
            (Corrupt, "the table does not have the expected shape")
        }
        "25" | "2D" | "3B" => (Unavailable, "the connection is in a foreign transaction"),
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
        let fault = Fault::Unanswered(Cause::Timeout);
        assert_eq!(fault.clone().into_error(Effect::Read).kind(), ErrorKind::Unavailable);
        assert_eq!(fault.into_error(Effect::Write(version)).attempted_version(), version);
        let before = Fault::Before(Cause::Timeout).into_error(Effect::Write(version));
        assert_eq!(before.kind(), ErrorKind::Unavailable);
        assert_eq!(Fault::Before(Cause::NoConnection).into_error(Effect::Read).kind(), ErrorKind::Capacity);
        assert_eq!(Fault::Shape.into_error(Effect::Read).kind(), ErrorKind::Corrupt);
    }
}
