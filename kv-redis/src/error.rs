//! Converts the driver's errors to `kv_core` errors.
//!
//! A [`Failure`] is the reason why a request failed. The caller knows the possible effect of the request, and converts
//! the failure to a [`kv_core::Error`].

use std::error::Error as StdError;
use std::sync::Arc;

use kv_core::adapter::{Effect, ErrorContext};
use kv_core::{Error, ErrorKind};
use redis::{RedisError, ServerError};

use crate::server::mode::Mode;
use crate::server::reply_bounds::BadReply;

/// The name of the backend in reports and errors.
pub(crate) const NAME: &str = "redis";

/// Adds the backend, the operation and the key to errors.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// The reason why a request has no usable reply.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// There is no connection. The request was not sent.
    NotSent(RedisError),
    /// The deadline passed before the request was sent.
    NotSentInTime,
    /// The deadline passed after the request was sent.
    TimedOut,
    /// The connection broke after the request was sent.
    Disconnected(RedisError),
    /// The connection was closed because a reply exceeded its bounds.
    BadReply(RedisError),
    /// The server replied with an error.
    Refused(ServerError),
    /// The reply has a type or length that the command never returns.
    UnexpectedReply,
    /// Slots of the cluster kept moving during a scan.
    SlotsMoving,
    /// The server runs in a mode that does not fit the scheme.
    WrongMode(Mode),
    /// The server at the address does not speak the protocol of the scheme.
    WrongProtocol(BadReply),
    /// The listener cannot prove that it receives the changes of the servers that serve reads. Contains the reason.
    NotProven(&'static str),
    /// The namespace was cleared and created again with another layout.
    LayoutChanged,
    /// The store was closed.
    Closed,
}

impl Failure {
    /// Returns the error for a caller. `effect` is the effect of the request, if the server has executed it.
    pub(crate) fn into_error(self, effect: Effect) -> Error {
        match self {
            Self::NotSent(error) => not_sent(&error),
            Self::NotSentInTime => Error::unavailable("there was no connection within the deadline"),
            Self::TimedOut => effect.unanswered("the server did not answer within the deadline"),
            Self::Disconnected(error) | Self::BadReply(error) => {
                effect.unanswered("the connection broke before the server answered").with_source(redacted(&error))
            }
            Self::Refused(error) => refused(&error, effect),
            Self::UnexpectedReply => effect.unanswered("the server's reply does not fit the command"),
            Self::SlotsMoving => Error::unavailable("slots of the cluster kept moving during the scan"),
            Self::WrongMode(mode) => Error::invalid(match mode {
                Mode::ClusterNode => "the server is a node of a cluster: open it with the scheme `redis-cluster:`",
                Mode::Sentinel => "the server is a Sentinel, which has no entries: open the address of the master",
                Mode::Alone | Mode::Unknown => {
                    "the server is not in a cluster: open it with the scheme `redis:`, or `rediss:` through TLS"
                }
            }),
            Self::WrongProtocol(bad) => {
                let (kind, message) = mistake(bad).unwrap_or((ErrorKind::Unavailable, "the server cannot be reached"));
                Error::new(kind, message)
            }
            Self::NotProven(reason) => Error::unavailable(reason),
            Self::LayoutChanged => Error::invalid(
                "the namespace was cleared and created again with other settings: open it with those settings",
            ),
            Self::Closed => Error::closed(),
        }
    }

    /// Returns the failure of a command whose error reply the driver has turned into its own error type.
    pub(crate) fn from_driver(error: RedisError) -> Self {
        ServerError::try_from(error).map_or_else(Self::Disconnected, Self::Refused)
    }

    /// Returns the code of the server's error, such as `MOVED`.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(code_of(error)),
            _ => None,
        }
    }
}

/// Returns the error of a read.
pub(crate) fn read_error(failure: Failure) -> Error {
    failure.into_error(Effect::Read)
}

/// Returns the code of a server's error. If a command inside a script fails, Redis 6.2 returns an `ERR` whose text
/// contains the code of the command.
fn code_of(error: &ServerError) -> &str {
    const WRAPPED: [&str; 7] = ["OOM", "MISCONF", "WRONGTYPE", "READONLY", "NOPERM", "NOREPLICAS", "MASTERDOWN"];
    match error.code() {
        "ERR" => {
            let words = error.details().unwrap_or_default();
            let inner = words.split([' ', '-', ':']).find_map(|word| WRAPPED.into_iter().find(|code| *code == word));
            inner.unwrap_or("ERR")
        }
        code => code,
    }
}

/// Returns the error for a server's error, by its code. An error with a known code means that the server has changed
/// nothing. A script may have written before it failed with `ERR` or an unknown code.
fn refused(error: &ServerError, effect: Effect) -> Error {
    let (kind, message) = match code_of(error) {
        "OOM" => (ErrorKind::Capacity, "the server's memory is full"),
        "MISCONF" => (ErrorKind::Capacity, "the server cannot write to its disk and refuses writes"),
        "NOTCOUNTER" => (ErrorKind::Invalid, "the value is not a counter, or the sum does not fit an i64"),
        "WRONGTYPE" => (ErrorKind::Corrupt, "a foreign value of another type is stored under the key"),
        "FOREIGN" => (ErrorKind::Corrupt, "the value under the key is damaged or foreign"),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => {
            (ErrorKind::Denied, "the server refuses the user, or the user lacks a right")
        }
        "LOADING" => (ErrorKind::Unavailable, "the server is loading its data"),
        "BUSY" => (ErrorKind::Unavailable, "the server is busy with a script"),
        "READONLY" => (ErrorKind::Unavailable, "the server is a replica and accepts no writes"),
        "MASTERDOWN" | "NOREPLICAS" => {
            (ErrorKind::Unavailable, "the server has no connection to its master, or to enough replicas")
        }
        "TRYAGAIN" | "MOVED" | "ASK" => (ErrorKind::Unavailable, "the slot of the key is being moved"),
        "CLUSTERDOWN" => (ErrorKind::Unavailable, "the cluster is down"),
        "NOSCRIPT" => (ErrorKind::Unavailable, "the server does not have the script"),
        "UNKILLABLE" => (ErrorKind::Unavailable, "a script on the server cannot be stopped"),
        "CROSSSLOT" => (
            ErrorKind::Invalid,
            "the keys are in different slots: the server belongs to a cluster, so open it as a cluster",
        ),
        "EXECABORT" | "NOTBUSY" | "NOGOODSLAVE" | "NOPROTO" => {
            (ErrorKind::Unavailable, "the server does not support this version of the protocol")
        }
        // The script may have written before it failed.
        "ERR" if error.details().is_some_and(|words| words.contains("script")) => {
            return effect.unanswered("a script failed").with_source(without_text(error));
        }
        // The server does not know the command or refuses its arguments, so it has done nothing.
        "ERR" => (ErrorKind::Unavailable, "the server refuses the command"),
        _ => {
            return effect.unanswered("the server replied with an unknown error").with_source(without_text(error));
        }
    };
    Error::new(kind, message).with_source(without_text(error))
}

fn not_sent(error: &RedisError) -> Error {
    use redis::ErrorKind as Driver;
    let (kind, message) = match error.kind() {
        Driver::AuthenticationFailed => (ErrorKind::Denied, "the server refuses the user or the password"),
        Driver::InvalidClientConfig => {
            (ErrorKind::Invalid, "the address or the settings of the connection are invalid")
        }
        Driver::RESP3NotSupported => (ErrorKind::Invalid, "the server is older than Redis 6"),
        Driver::Server(_) | Driver::Extension => match error.code() {
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => {
                (ErrorKind::Denied, "the server refuses the user or the password")
            }
            _ if error.detail().is_some_and(|text| text.contains("max number of clients")) => {
                (ErrorKind::Capacity, FULL)
            }
            _ => (ErrorKind::Unavailable, "the server refuses the connection"),
        },
        Driver::Io => mistake_of(error).unwrap_or((ErrorKind::Unavailable, "the server cannot be reached")),
        Driver::Parse
        | Driver::UnexpectedReturnType
        | Driver::Client
        | Driver::MasterNameNotFoundBySentinel
        | Driver::NoValidReplicasFoundBySentinel
        | Driver::EmptySentinelList
        | Driver::ClusterConnectionNotFound => (ErrorKind::Unavailable, "the server cannot be reached"),
        _ => (ErrorKind::Unavailable, "the driver could not connect"),
    };
    Error::new(kind, message).with_source(redacted(error))
}

/// The error text for a server that accepts no more connections.
const FULL: &str = "the server has as many connections as its `maxclients` allows";

/// Returns the kind and the message for a reply that a wrong address or a full server causes. Returns `None` for
/// `TooLarge`, because neither causes it.
fn mistake(bad: BadReply) -> Option<(ErrorKind, &'static str)> {
    Some(match bad {
        BadReply::Tls => (
            ErrorKind::Invalid,
            "the server expects TLS at this address: use the scheme `rediss:`, or `redis-cluster:` with `tls=true`",
        ),
        BadReply::NoTls => (
            ErrorKind::Invalid,
            "the server does not speak TLS at this address: use the TLS port of the server, or the scheme without TLS",
        ),
        BadReply::Foreign => (ErrorKind::Invalid, "the server at this address does not speak the Redis protocol"),
        BadReply::Full => (ErrorKind::Capacity, FULL),
        BadReply::TooLarge => return None,
    })
}

/// Returns the kind and the message of an I/O error whose cause is a wrong address, a wrong certificate or a full
/// server; `None` for other I/O errors.
fn mistake_of(error: &RedisError) -> Option<(ErrorKind, &'static str)> {
    use rustls::{AlertDescription as Alert, Error as Tls};
    if let Some(bad) = io_cause::<BadReply>(error) {
        return mistake(*bad);
    }
    let untrusted = "the server's certificate is not trusted: set `ca` to the authority that signed the certificate";
    let refused = "the server refuses the client certificate, or requires one: set `cert` and `key`";
    let mismatch = "the server and this client have no TLS version or cipher in common";
    Some(match io_cause::<Tls>(error)? {
        Tls::InvalidCertificate(_) => (ErrorKind::Denied, untrusted),
        Tls::AlertReceived(Alert::CloseNotify | Alert::InternalError | Alert::UserCanceled) => return None,
        Tls::AlertReceived(Alert::ProtocolVersion | Alert::InsufficientSecurity) | Tls::PeerIncompatible(_) => {
            (ErrorKind::Invalid, mismatch)
        }
        Tls::AlertReceived(_) => (ErrorKind::Denied, refused),
        Tls::InvalidMessage(_) => return mistake(BadReply::NoTls),
        _ => return None,
    })
}

/// Returns the cause of an I/O error. The driver stores the I/O error in an `Arc`, so a walk along `source` does not
/// find the cause.
fn io_cause<T: StdError + 'static>(error: &RedisError) -> Option<&T> {
    type Wrapped = Arc<dyn StdError + Send + Sync>;
    let wrapped = StdError::source(error).and_then(|source| source.downcast_ref::<Wrapped>());
    let cause = wrapped.and_then(|wrapped| wrapped.downcast_ref::<std::io::Error>()).and_then(std::io::Error::get_ref);
    cause.and_then(|cause| cause.downcast_ref::<T>())
}

/// Returns the driver's error without its text, because the text may contain stored data: for a truncated reply the
/// text contains the received bytes.
fn redacted(error: &RedisError) -> RedisError {
    match error.kind() {
        redis::ErrorKind::Io => error.clone(),
        kind => RedisError::from((kind, "text removed, because it may show stored data")),
    }
}

/// Returns a server's error without its text, because the text may contain keys and arguments.
fn without_text(error: &ServerError) -> RedisError {
    match error.kind() {
        Some(kind) => RedisError::from((redis::ErrorKind::from(kind), "an error of the server")),
        None => redis::make_extension_error(error.code().to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use kv_core::Version;

    use super::*;

    fn server_error(line: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() {
            redis::Value::ServerError(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_code_has_its_kind() {
        use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
        let version = Some(Version::random());
        let unanswered = ErrorKind::Indeterminate { version };
        let table = [
            ("OOM command not allowed when used memory > 'maxmemory'.", Capacity),
            ("MISCONF Errors writing to the AOF file", Capacity),
            ("ERR Error running script (call to f_1): @user_script:8: -OOM command not allowed", Capacity),
            ("ERR Error running script (call to f_1): @user_script:8: WRONGTYPE Operation against a key", Corrupt),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Corrupt),
            ("FOREIGN the stored bytes are not an entry", Corrupt),
            ("NOTCOUNTER the value is not a counter", Invalid),
            ("CROSSSLOT Keys in request don't hash to the same slot", Invalid),
            ("NOAUTH Authentication required.", Denied),
            ("WRONGPASS invalid username-password pair or user is disabled.", Denied),
            ("NOPERM this user has no permissions to run the 'set' command", Denied),
            ("LOADING Redis is loading the dataset in memory", Unavailable),
            ("BUSY Redis is busy running a script", Unavailable),
            ("READONLY You can't write against a read only replica.", Unavailable),
            ("MASTERDOWN Link with MASTER is down", Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable),
            ("CLUSTERDOWN Hash slot not served", Unavailable),
            ("MOVED 3999 127.0.0.1:6381", Unavailable),
            ("ASK 3999 127.0.0.1:6381", Unavailable),
            ("NOSCRIPT No matching script.", Unavailable),
            ("ERR unknown command 'FOO', with args beginning with: 'canary'", Unavailable),
            ("ERR user_script:7: attempt to index a nil value script: ab12, on @user_script:7.", unanswered),
            ("SURPRISE canary", unanswered),
        ];
        for (line, kind) in table {
            let error = Failure::Refused(server_error(line)).into_error(Effect::Write(version));
            assert_eq!(error.kind(), kind, "{line}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
        }
        let error = Failure::Refused(server_error("SURPRISE")).into_error(Effect::Read);
        assert_eq!(error.kind(), Unavailable);
    }

    #[test]
    fn a_sent_write_is_indeterminate_and_an_unsent_write_is_unavailable() {
        let version = Some(Version::random());
        let broken = || RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        for failure in [Failure::TimedOut, Failure::Disconnected(broken()), Failure::UnexpectedReply] {
            let error = failure.clone().into_error(Effect::Write(version));
            assert_eq!(error.attempted_version(), version);
            assert_eq!(failure.into_error(Effect::Read).kind(), ErrorKind::Unavailable);
        }
        for failure in [Failure::NotSent(broken()), Failure::NotSentInTime] {
            assert_eq!(failure.into_error(Effect::Write(version)).kind(), ErrorKind::Unavailable);
        }
        assert_eq!(Failure::Closed.into_error(Effect::Read).kind(), ErrorKind::Closed);
    }

    #[test]
    fn a_truncated_reply_does_not_show_its_bytes() {
        let error = redis::parse_redis_value(b"?canary\r\n").unwrap_err();
        let error = Failure::Disconnected(error).into_error(Effect::Read);
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert!(StdError::source(&error).is_some_and(<dyn StdError>::is::<RedisError>));
    }
}
