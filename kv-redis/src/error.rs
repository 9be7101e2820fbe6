//! What can go wrong between a call and its answer, as the kinds of the contract.

use std::error::Error as StdError;
use std::sync::Arc;

use kv_core::{Error, ErrorKind, Version};
use redis::{RedisError, ServerError};

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// There is no connection: nothing was sent.
    Unsent(RedisError),
    /// The deadline passed before anything was sent.
    NotInTime,
    /// The deadline passed after the command was sent.
    Late,
    /// The connection broke after the command was sent.
    Lost(RedisError),
    /// The server answered with an error.
    Refused(ServerError),
    /// The server answered with something else than the command gives.
    Strange,
    /// Slots of the cluster have gone on moving while it was scanned.
    Moving,
    /// The namespace is laid out otherwise by now.
    Displaced,
    /// The store was closed.
    Closed,
}

/// What the command behind a failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing.
    Reads,
    /// It gives this version, where it gives one.
    Writes(Option<Version>),
}

impl Effect {
    fn in_doubt(self, message: &'static str) -> Error {
        match self {
            Self::Reads => Error::unavailable(message),
            Self::Writes(version) => Error::indeterminate(version, message),
        }
    }
}

impl Failure {
    pub(crate) fn into_error(self, effect: Effect) -> Error {
        match self {
            Self::Unsent(error) => unsent(&error),
            Self::NotInTime => Error::unavailable("there was no connection within the deadline"),
            Self::Late => effect.in_doubt("the server did not answer within the deadline"),
            Self::Lost(error) => {
                effect.in_doubt("the connection broke before the answer was there").with_source(redacted(&error))
            }
            Self::Refused(error) => refused(&error, effect),
            Self::Strange => effect.in_doubt("the server's answer is not one to this command"),
            Self::Moving => Error::unavailable("slots went on moving while the cluster was scanned"),
            Self::Displaced => {
                Error::invalid("the namespace was cleared and laid out with other settings: open it with those")
            }
            Self::Closed => Error::closed(),
        }
    }

    /// What the driver made of an answer that it has read itself.
    pub(crate) fn of(error: RedisError) -> Self {
        ServerError::try_from(error).map_or_else(Self::Lost, Self::Refused)
    }

    /// The code of the server's error.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(code_of(error)),
            _ => None,
        }
    }
}

/// The error of something that changes nothing.
pub(crate) fn read(failure: Failure) -> Error {
    failure.into_error(Effect::Reads)
}

/// The code of a server's error. Redis 6.2 wraps those of commands inside a script into its text.
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

/// The kind of an error that the server gave, by its code. The server has done nothing where it gives one of these.
fn refused(error: &ServerError, effect: Effect) -> Error {
    let (kind, message) = match code_of(error) {
        "OOM" => (ErrorKind::Capacity, "the server's memory is used up"),
        "MISCONF" => (ErrorKind::Capacity, "the server cannot write to its disk, and takes no writes"),
        "NOTCOUNTER" => {
            (ErrorKind::Invalid, "the value is no counter, or the counter and the amount together do not fit an i64")
        }
        "WRONGTYPE" => (ErrorKind::Corrupt, "another type is stored under the key, which is not ours"),
        "FOREIGN" => (ErrorKind::Corrupt, "what is stored under the key is damaged or not ours"),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => {
            (ErrorKind::Denied, "the server refuses the user, or the right is missing")
        }
        "LOADING" => (ErrorKind::Unavailable, "the server is loading its data"),
        "BUSY" => (ErrorKind::Unavailable, "the server is busy with a script"),
        "READONLY" => (ErrorKind::Unavailable, "the server is a replica, and takes no writes"),
        "MASTERDOWN" | "NOREPLICAS" => (ErrorKind::Unavailable, "the server has lost its master or its replicas"),
        "TRYAGAIN" | "MOVED" | "ASK" => (ErrorKind::Unavailable, "the slot of the key is being moved"),
        "CLUSTERDOWN" => (ErrorKind::Unavailable, "the cluster is down"),
        "NOSCRIPT" | "UNKILLABLE" => (ErrorKind::Unavailable, "the server does not keep scripts"),
        "CROSSSLOT" => (ErrorKind::Invalid, "the keys are in different slots: it is a cluster, open it as one"),
        "EXECABORT" | "NOTBUSY" | "NOGOODSLAVE" | "NOPROTO" => {
            (ErrorKind::Unavailable, "the server does not speak this version of its protocol")
        }
        // A script that has failed may have written before.
        "ERR" if error.details().is_some_and(|words| words.contains("script")) => {
            return effect.in_doubt("a script has failed").with_source(bare(error));
        }
        // A command that the server does not know, or does not take so: nothing of it was done.
        "ERR" => (ErrorKind::Unavailable, "the server refuses the command"),
        _ => {
            return effect.in_doubt("the server gave an error that this crate does not know").with_source(bare(error));
        }
    };
    Error::new(kind, message).with_source(bare(error))
}

fn unsent(error: &RedisError) -> Error {
    use redis::ErrorKind as Driver;
    let (kind, message) = match error.kind() {
        Driver::AuthenticationFailed => (ErrorKind::Denied, "the server refuses user or password"),
        Driver::InvalidClientConfig => (ErrorKind::Invalid, "the address or the settings of the connection are wrong"),
        Driver::RESP3NotSupported => (ErrorKind::Invalid, "the server is older than Redis 6"),
        Driver::Server(_) | Driver::Extension => match error.code() {
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => (ErrorKind::Denied, "the server refuses user or password"),
            _ => (ErrorKind::Unavailable, "the server refuses the connection"),
        },
        Driver::Io if is_certificate(error) => (ErrorKind::Denied, "the server's certificate is not trusted"),
        Driver::Io
        | Driver::Parse
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

/// The driver keeps the error of the connection behind two pointers, which its chain of sources does not follow.
fn is_certificate(error: &RedisError) -> bool {
    type Kept = Arc<dyn StdError + Send + Sync>;
    let kept = StdError::source(error).and_then(|source| source.downcast_ref::<Kept>());
    let cause = kept.and_then(|kept| kept.downcast_ref::<std::io::Error>()).and_then(std::io::Error::get_ref);
    let cause = cause.and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// The driver's error without the texts that may show keys and values: a reply that was cut is told with its bytes.
fn redacted(error: &RedisError) -> RedisError {
    match error.kind() {
        redis::ErrorKind::Io => error.clone(),
        kind => RedisError::from((kind, "without its text, which may show what is stored")),
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
    use super::*;

    fn server_error(line: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() {
            redis::Value::ServerError(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_code_has_the_kind_that_says_what_to_do() {
        use ErrorKind::{Capacity, Corrupt, Denied, Invalid, Unavailable};
        let version = Some(Version::random());
        let in_doubt = ErrorKind::Indeterminate { version };
        let table = [
            ("OOM command not allowed when used memory > 'maxmemory'.", Capacity),
            ("MISCONF Errors writing to the AOF file", Capacity),
            ("ERR Error running script (call to f_1): @user_script:8: -OOM command not allowed", Capacity),
            ("ERR Error running script (call to f_1): @user_script:8: WRONGTYPE Operation against a key", Corrupt),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Corrupt),
            ("FOREIGN the stored bytes are not an entry", Corrupt),
            ("NOTCOUNTER the value is no counter", Invalid),
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
            ("ERR user_script:7: attempt to index a nil value script: ab12, on @user_script:7.", in_doubt),
            ("SURPRISE canary", in_doubt),
        ];
        for (line, kind) in table {
            let error = Failure::Refused(server_error(line)).into_error(Effect::Writes(version));
            assert_eq!(error.kind(), kind, "{line}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
        }
        let error = Failure::Refused(server_error("SURPRISE")).into_error(Effect::Reads);
        assert_eq!(error.kind(), Unavailable);
    }

    #[test]
    fn a_write_that_was_sent_is_in_doubt_and_one_that_was_not_is_unavailable() {
        let version = Some(Version::random());
        let broken = || RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        for failure in [Failure::Late, Failure::Lost(broken()), Failure::Strange] {
            let error = failure.clone().into_error(Effect::Writes(version));
            assert_eq!(error.attempted_version(), version);
            assert_eq!(failure.into_error(Effect::Reads).kind(), ErrorKind::Unavailable);
        }
        for failure in [Failure::Unsent(broken()), Failure::NotInTime] {
            assert_eq!(failure.into_error(Effect::Writes(version)).kind(), ErrorKind::Unavailable);
        }
        assert_eq!(Failure::Closed.into_error(Effect::Reads).kind(), ErrorKind::Closed);
    }

    #[test]
    fn a_reply_that_was_cut_does_not_show_its_bytes() {
        let error = redis::parse_redis_value(b"?canary\r\n").unwrap_err();
        let error = Failure::Lost(error).into_error(Effect::Reads);
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert!(StdError::source(&error).is_some_and(<dyn StdError>::is::<RedisError>));
    }
}
