//! Failures of requests, and their kinds in the contract.

use std::error::Error as StdError;
use std::sync::Arc;

use kv_core::adapter::{Effect, ErrorContext};
use kv_core::{Error, ErrorKind};
use redis::{RedisError, ServerError};

use crate::server::mode::Mode;
use crate::server::reply_bounds::BadReply;

/// The name of the backend in reports and errors.
pub(crate) const NAME: &str = "redis";

/// Adds backend, operation and key to errors.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// The reason for which a request has no usable reply.
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
    /// The server replied with an error.
    Refused(ServerError),
    /// The server's reply does not fit the command.
    UnexpectedReply,
    /// Slots of the cluster kept moving during a scan.
    SlotsMoving,
    /// The server runs in a mode that does not fit the scheme.
    WrongMode(Mode),
    /// The server at the address does not speak the protocol of the scheme.
    WrongProtocol(BadReply),
    /// The namespace was cleared and created again with another layout.
    LayoutChanged,
    /// The store was closed.
    Closed,
}

impl Failure {
    /// The error for a caller. An unanswered request has the effect `effect`, if the server carried it out.
    pub(crate) fn into_error(self, effect: Effect) -> Error {
        match self {
            Self::NotSent(error) => not_sent(&error),
            Self::NotSentInTime => Error::unavailable("there was no connection within the deadline"),
            Self::TimedOut => effect.unanswered("the server did not answer within the deadline"),
            Self::Disconnected(error) => {
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
            Self::LayoutChanged => Error::invalid(
                "the namespace was cleared and created again with other settings: open it with those settings",
            ),
            Self::Closed => Error::closed(),
        }
    }

    /// The failure of a command whose reply the driver has parsed itself.
    pub(crate) fn from_driver(error: RedisError) -> Self {
        ServerError::try_from(error).map_or_else(Self::Disconnected, Self::Refused)
    }

    /// The code of the server's error.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(code_of(error)),
            _ => None,
        }
    }
}

/// The error of a request that changes nothing.
pub(crate) fn read_error(failure: Failure) -> Error {
    failure.into_error(Effect::Read)
}

/// The code of a server's error. Redis 6.2 puts the code of a command inside a script into the text of an `ERR`.
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

/// The error for a server's error, by its code. With each code that has a kind here, the server has changed nothing.
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
        "READONLY" => (ErrorKind::Unavailable, "the server is a replica and takes no writes"),
        "MASTERDOWN" | "NOREPLICAS" => (ErrorKind::Unavailable, "the server has lost its master or its replicas"),
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
        // A script may have written before it failed.
        "ERR" if error.details().is_some_and(|words| words.contains("script")) => {
            return effect.unanswered("a script failed").with_source(bare(error));
        }
        // The server does not know the command or refuses its arguments, and did nothing.
        "ERR" => (ErrorKind::Unavailable, "the server refuses the command"),
        _ => {
            return effect.unanswered("the server replied with an unknown error").with_source(bare(error));
        }
    };
    Error::new(kind, message).with_source(bare(error))
}

fn not_sent(error: &RedisError) -> Error {
    use redis::ErrorKind as Driver;
    let (kind, message) = match error.kind() {
        Driver::AuthenticationFailed => (ErrorKind::Denied, "the server refuses user or password"),
        Driver::InvalidClientConfig => {
            (ErrorKind::Invalid, "the address or the settings of the connection are invalid")
        }
        Driver::RESP3NotSupported => (ErrorKind::Invalid, "the server is older than Redis 6"),
        Driver::Server(_) | Driver::Extension => match error.code() {
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => (ErrorKind::Denied, "the server refuses user or password"),
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

const FULL: &str = "the server has as many connections as its `maxclients` allows";

fn mistake(bad: BadReply) -> Option<(ErrorKind, &'static str)> {
    Some(match bad {
        BadReply::Tls => (
            ErrorKind::Invalid,
            "the server expects TLS at this address: use the scheme `rediss:`, or `redis-cluster:` with `tls=true`",
        ),
        BadReply::NoTls => (
            ErrorKind::Invalid,
            "the server does not speak TLS at this address: use its TLS port, or the scheme without TLS",
        ),
        BadReply::Foreign => (ErrorKind::Invalid, "the server at this address does not speak Redis' protocol"),
        BadReply::Full => (ErrorKind::Capacity, FULL),
        BadReply::TooLarge => return None,
    })
}

/// The kind and message of a mistake in address or certificates, which no retry mends; `None` for other I/O errors.
fn mistake_of(error: &RedisError) -> Option<(ErrorKind, &'static str)> {
    use rustls::{AlertDescription as Alert, Error as Tls};
    if let Some(bad) = io_cause::<BadReply>(error) {
        return mistake(*bad);
    }
    let untrusted = "the server's certificate is not trusted: `ca` must be the authority that signed it";
    let refused = "the server refuses our certificate, or wants one: set `cert` and `key`";
    let mismatch = "the server and this client have no version or cipher of TLS in common";
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

/// The cause of an I/O error. The driver wraps the error in an `Arc`, which its chain of sources does not lead to.
fn io_cause<T: StdError + 'static>(error: &RedisError) -> Option<&T> {
    type Wrapped = Arc<dyn StdError + Send + Sync>;
    let wrapped = StdError::source(error).and_then(|source| source.downcast_ref::<Wrapped>());
    let cause = wrapped.and_then(|wrapped| wrapped.downcast_ref::<std::io::Error>()).and_then(std::io::Error::get_ref);
    cause.and_then(|cause| cause.downcast_ref::<T>())
}

/// The driver's error without its text, which may show keys and values: for a truncated reply it contains the bytes.
fn redacted(error: &RedisError) -> RedisError {
    match error.kind() {
        redis::ErrorKind::Io => error.clone(),
        kind => RedisError::from((kind, "text removed, because it may show stored data")),
    }
}

/// A server's error without its text, which may show keys and arguments.
fn bare(error: &ServerError) -> RedisError {
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
    fn a_sent_write_is_indeterminate_and_an_unsent_one_unavailable() {
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
