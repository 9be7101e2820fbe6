//! One error for every operation of every store; its kind says what the caller should do.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::capability::Capability;
use crate::key::Key;
use crate::version::Version;

/// The result of every operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, named by what the caller should do about it (clause E-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call itself is wrong: fix it. Nothing happened.
    Invalid,
    /// This store cannot do that and says so in its [`Capabilities`](crate::Capabilities). Nothing happened.
    Unsupported {
        /// What is missing.
        capability: Capability,
    },
    /// The backend cannot be reached or is not ready. Nothing happened: try again later.
    Unavailable,
    /// A write may or may not have happened: it timed out, or the connection broke after it was sent.
    Indeterminate {
        /// The version that the write would have given: a `get` that shows it tells that the write happened.
        version: Option<Version>,
    },
    /// Disk, memory or connections are used up. Nothing happened.
    Capacity,
    /// Credentials or rights are missing. Nothing happened.
    Denied,
    /// What is stored under the key is damaged, foreign, or not what the caller asked to decode. It is left as it is.
    Corrupt,
    /// The store was closed.
    Closed,
}

/// The operation that an [`Error`] came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the method of the same name")]
pub enum Operation {
    Open,
    Get,
    Set,
    Delete,
    Contains,
    GetMany,
    SetMany,
    DeleteMany,
    List,
    Clear,
    Touch,
    Increment,
    Commit,
    Watch,
    Publish,
    Subscribe,
    Ping,
    Flush,
    Sweep,
    Close,
}

/// Why an operation of a store failed.
///
/// `Display` and `Debug` show no value, no credential, and the key only as a fingerprint; [`Error::key`] and the alternate
/// `{:#?}` give the key itself.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    operation: Option<Operation>,
    backend: Option<Cow<'static, str>>,
    key: Option<Key>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of any kind; the constructors below are shorter.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { kind, message, operation: None, backend: None, key: None, source: None }))
    }

    /// The call is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The store lacks a capability.
    pub fn unsupported(capability: Capability) -> Self {
        Self::new(ErrorKind::Unsupported { capability }, format!("the store does not support {capability}"))
    }

    /// The backend is not there, and nothing happened.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// A write that may have happened, with the version that it would have given.
    pub fn indeterminate(version: Option<Version>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Indeterminate { version }, message)
    }

    /// Disk, memory or connections are used up.
    pub fn capacity(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Capacity, message)
    }

    /// Credentials or rights are missing.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Denied, message)
    }

    /// Stored bytes are damaged or foreign.
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// The store was closed.
    pub fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the store is closed")
    }

    /// Says which operation failed; the innermost to say so wins.
    #[must_use]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Says which backend failed; the innermost to say so wins.
    #[must_use]
    pub fn with_backend(mut self, backend: impl Into<Cow<'static, str>>) -> Self {
        self.0.backend.get_or_insert_with(|| backend.into());
        self
    }

    /// Says which key it was about, as the caller knows it: the outermost to say so wins.
    #[must_use]
    pub fn with_key(mut self, key: &Key) -> Self {
        self.0.key = Some(key.clone());
        self
    }

    /// Keeps the driver's error; it still downcasts from [`source`](StdError::source).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, where known.
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// The name of the backend that failed, where known.
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// The key that the operation was about, where there is one.
    pub fn key(&self) -> Option<&Key> {
        self.0.key.as_ref()
    }

    /// The message alone: lower case, no secrets, not part of the API.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later, and repeating it cannot apply it twice.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Capacity)
    }

    /// Whether a write may have happened although it failed.
    pub fn maybe_applied(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Indeterminate { .. })
    }

    /// The capability that is missing, for an `Unsupported` error.
    pub fn capability(&self) -> Option<Capability> {
        match self.0.kind {
            ErrorKind::Unsupported { capability } => Some(capability),
            _ => None,
        }
    }

    /// The version that an `Indeterminate` write would have given.
    pub fn attempted_version(&self) -> Option<Version> {
        match self.0.kind {
            ErrorKind::Indeterminate { version } => version,
            _ => None,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid",
            Self::Unsupported { .. } => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Indeterminate { .. } => "indeterminate",
            Self::Capacity => "capacity",
            Self::Denied => "denied",
            Self::Corrupt => "corrupt",
            Self::Closed => "closed",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Contains => "contains",
            Self::GetMany => "get_many",
            Self::SetMany => "set_many",
            Self::DeleteMany => "delete_many",
            Self::List => "list",
            Self::Clear => "clear",
            Self::Touch => "touch",
            Self::Increment => "increment",
            Self::Commit => "commit",
            Self::Watch => "watch",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Ping => "ping",
            Self::Flush => "flush",
            Self::Sweep => "sweep",
            Self::Close => "close",
        })
    }
}

/// `set on memory: unavailable: … (key ~1a2b3c4d)`, with the parts that are known.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, operation, backend, key, source: _ } = &*self.0;
        match (operation, backend) {
            (Some(operation), Some(backend)) => write!(f, "{operation} on {backend}: ")?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            (None, Some(backend)) => write!(f, "{backend}: ")?,
            (None, None) => {}
        }
        write!(f, "{kind}: {message}")?;
        match key {
            Some(key) => write!(f, " (key {})", key.fingerprint()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, operation, backend, key, source } = &*self.0;
        let whole_key = f.alternate();
        let mut fields = f.debug_struct("Error");
        fields.field("kind", kind).field("message", message);
        if let Some(operation) = operation {
            fields.field("operation", operation);
        }
        if let Some(backend) = backend {
            fields.field("backend", backend);
        }
        if let Some(key) = key {
            let fingerprint = key.fingerprint();
            fields.field("key", if whole_key { key as &dyn fmt::Debug } else { &fingerprint });
        }
        if let Some(source) = source {
            fields.field("source", &source.to_string());
        }
        fields.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
