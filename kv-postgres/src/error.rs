//! The driver's and the server's errors as the kinds of the contract.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use deadpool_postgres::{PoolError, TimeoutType};
use kv_core::{Error, ErrorKind, Version};
use tokio_postgres::error::SqlState;

/// What a call that failed would have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it reads, or may be done twice.
    None,
    /// A write, with the version that it would have given.
    Write(Option<Version>),
}

/// Why a round trip failed. It is shared by the members of a batch.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing was sent.
    Before(Cause),
    /// The server answered with an error, which undid the statement.
    Answered(SqlState, Arc<tokio_postgres::Error>),
    /// The server took no connection, or prepared nothing: no statement was run, and others would fare alike.
    Refused(SqlState, Arc<tokio_postgres::Error>),
    /// Something was sent, and no answer came.
    Unanswered(Cause),
    /// The answer is not what the statement gives.
    Shape,
}

/// What is known of a failure without an answer.
#[derive(Debug, Clone)]
pub(crate) enum Cause {
    Driver(Arc<tokio_postgres::Error>),
    NoConnection,
    Timeout,
    Closed,
}

impl Fault {
    /// A failure while getting a connection.
    pub(crate) fn pool(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Before(Cause::NoConnection),
            PoolError::Backend(error) => Self::connecting(error),
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified => Self::Before(Cause::Timeout),
            PoolError::Closed | PoolError::PostCreateHook(_) => Self::Before(Cause::Closed),
        }
    }

    /// A failure while connecting, or preparing: whatever it was, no statement of ours was run.
    pub(crate) fn connecting(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if !ends_connection(code) || *code == SqlState::PROTOCOL_VIOLATION => {
                Self::Refused(code.clone(), Arc::new(error))
            }
            _ => Self::Before(Cause::Driver(Arc::new(error))),
        }
    }

    /// A failure behind the moment at which the statement may have been sent.
    pub(crate) fn sent(error: tokio_postgres::Error) -> Self {
        match error.code() {
            // The server says that it is going, not what became of the statement.
            Some(code) if ends_connection(code) => Self::Unanswered(Cause::Driver(Arc::new(error))),
            Some(code) => Self::Answered(code.clone(), Arc::new(error)),
            None => Self::Unanswered(Cause::Driver(Arc::new(error))),
        }
    }

    /// Whether the server undid the statement so that it may be sent again at once.
    pub(crate) fn is_to_repeat(&self) -> bool {
        match self {
            Self::Answered(code, _) => {
                *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
            }
            _ => false,
        }
    }

    /// Whether the connection's prepared statements are not what they were, so that another connection is to be taken.
    pub(crate) fn is_stale_statement(&self) -> bool {
        match self {
            Self::Answered(code, _) | Self::Refused(code, _) => {
                *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::FEATURE_NOT_SUPPORTED
            }
            _ => false,
        }
    }

    /// Whether the connection can be used again.
    pub(crate) fn spares_connection(&self) -> bool {
        let answered = match self {
            Self::Answered(code, _) | Self::Refused(code, _) => !ends_connection(code),
            _ => false,
        };
        answered && !self.is_stale_statement()
    }

    /// Whether the server has said that nothing was changed.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self, Self::Answered(..))
    }

    /// Whether the connection was lost, so that a call may try once more on another: any before something was sent, and one
    /// without effect also then.
    pub(crate) fn is_lost_connection(&self, effect: Effect) -> bool {
        match self {
            Self::Unanswered(Cause::Driver(_)) => effect == Effect::None,
            Self::Before(Cause::Driver(error)) => error.is_closed() || error.code().is_some_and(ends_connection),
            _ => false,
        }
    }

    /// The error that a caller gets.
    pub(crate) fn into_error(self, effect: Effect) -> Error {
        match self {
            Self::Before(cause) => cause.into_error(ErrorKind::Unavailable),
            Self::Unanswered(cause) => cause.into_error(match effect {
                Effect::None => ErrorKind::Unavailable,
                Effect::Write(version) => ErrorKind::Indeterminate { version },
            }),
            Self::Answered(code, error) | Self::Refused(code, error) => {
                let (kind, message) = kind_of(&code);
                Error::new(kind, message).with_source(source(&code, error))
            }
            Self::Shape => Error::corrupt("the table is not of the expected shape"),
        }
    }
}

impl Cause {
    fn into_error(self, kind: ErrorKind) -> Error {
        match self {
            Self::Driver(error) => Error::new(kind, "the connection to the server failed").with_source(own(error)),
            Self::NoConnection => Error::capacity("every connection of the pool is in use"),
            Self::Timeout => Error::new(kind, "the server did not answer in time"),
            Self::Closed => Error::new(kind, "the pool of connections is closed"),
        }
    }
}

/// The server's code alone, where its message may show what was written.
#[derive(Debug)]
struct Code(String);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered with SQLSTATE {}", self.0)
    }
}

impl StdError for Code {}

/// The driver's error as the source; not of the classes whose messages quote data.
fn source(code: &SqlState, error: Arc<tokio_postgres::Error>) -> Box<dyn StdError + Send + Sync> {
    let quotes = error.as_db_error().is_some_and(|error| error.detail().is_some() || error.where_().is_some());
    if quotes || matches!(code.code().get(..2), Some("22" | "23" | "P0")) {
        return Box::new(Code(code.code().to_owned()));
    }
    own(error)
}

/// The error itself where it is nobody else's, so that it downcasts.
fn own(error: Arc<tokio_postgres::Error>) -> Box<dyn StdError + Send + Sync> {
    match Arc::try_unwrap(error) {
        Ok(error) => Box::new(error),
        Err(shared) => Box::new(shared),
    }
}

/// Whether the server ends the connection with this.
fn ends_connection(code: &SqlState) -> bool {
    matches!(code.code(), "57P01" | "57P02" | "57P04" | "57P05" | "25P03") || code.code().starts_with("08")
}

/// The kind of an error that undid the statement, by the server's code for it.
fn kind_of(code: &SqlState) -> (ErrorKind, &'static str) {
    use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
    match code.code() {
        "40001" | "40P01" => return (Unavailable, "the statement met others again and again"),
        "40002" | "40003" => return (Unavailable, "the server undid the statement"),
        "55P03" => return (Unavailable, "another session holds the lock of the row"),
        "57014" => return (Unavailable, "the server gave the statement up"),
        "08P01" => return (Invalid, "the settings of our sessions are refused, as by a pooler: set `pooled`"),
        "25006" => return (Unavailable, "the server takes no writes"),
        "25P02" => return (Unavailable, "the transaction was aborted, which is a defect of this crate"),
        "26000" => return (Unavailable, "the server lost a prepared statement, as behind a pooler of transactions"),
        "0A000" => return (Unavailable, "the table was changed while it was in use"),
        "3D000" => return (Denied, "there is no such database"),
        "42501" => return (Denied, "the role lacks a right"),
        "42P01" | "3F000" => return (Unavailable, "the table is gone"),
        "54000" => return (Invalid, "larger than the server takes"),
        "XX001" | "XX002" => return (Corrupt, "the server found its data damaged"),
        _ => {}
    }
    match code.code().get(..2).unwrap_or_default() {
        "08" => (Unavailable, "the connection to the server failed"),
        "22" => (Invalid, "the server takes no such data"),
        "28" => (Denied, "the server refused the credentials"),
        "53" => (Capacity, "the server has no disk, memory or connections left"),
        "54" => (Invalid, "larger than the server takes"),
        "55" => (Unavailable, "the table is in use otherwise"),
        "57" => (Unavailable, "the server is starting or stopping"),
        "58" => (Unavailable, "the server failed on its own files"),
        // A table, a function or a constraint that is not ours.
        "23" | "42" | "P0" | "0B" | "21" | "2F" | "38" | "39" => (Corrupt, "the table is not of the expected shape"),
        "25" | "2D" | "3B" => (Unavailable, "the connection is in a transaction that is not ours"),
        _ => (Unavailable, "the server failed with a code that this crate does not know"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_kind_that_says_what_to_do() {
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
    fn what_ends_the_connection_leaves_a_write_in_doubt() {
        for code in ["57P01", "57P02", "08006", "25P03"] {
            assert!(ends_connection(&SqlState::from_code(code)), "{code}");
        }
        for code in ["57014", "57P03", "40001", "55P03"] {
            assert!(!ends_connection(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn a_write_without_an_answer_is_in_doubt_and_a_read_is_not() {
        let version = Some(Version::random());
        let fault = Fault::Unanswered(Cause::Timeout);
        assert_eq!(fault.clone().into_error(Effect::None).kind(), ErrorKind::Unavailable);
        assert_eq!(fault.into_error(Effect::Write(version)).attempted_version(), version);
        let before = Fault::Before(Cause::Timeout).into_error(Effect::Write(version));
        assert_eq!(before.kind(), ErrorKind::Unavailable);
        assert_eq!(Fault::Before(Cause::NoConnection).into_error(Effect::None).kind(), ErrorKind::Capacity);
        assert_eq!(Fault::Shape.into_error(Effect::None).kind(), ErrorKind::Corrupt);
    }
}
