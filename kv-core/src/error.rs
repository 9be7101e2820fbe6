//! The error type of every store.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::capability::Capability;
use crate::key::Key;
use crate::version::Version;

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error. The kind tells the caller how to react (clause E-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call is wrong and must be fixed. Nothing happened.
    Invalid,
    /// The store lacks a feature, as its [`Capabilities`](crate::Capabilities) declare. Nothing happened.
    Unsupported {
        /// The missing capability.
        capability: Capability,
    },
    /// The backend is unreachable or not ready. Nothing happened; a later retry may succeed.
    Unavailable,
    /// A write may have happened: the write timed out, or the connection broke after the write was sent.
    Indeterminate {
        /// The version that the write gives to the entry. If a `get` returns this version, the write happened.
        version: Option<Version>,
    },
    /// Disk, memory or connections are exhausted. Nothing happened.
    Capacity,
    /// Credentials or permissions are missing. Nothing happened.
    Denied,
    /// The stored bytes are damaged, foreign, or of another type than requested. The bytes stay unchanged.
    Corrupt,
    /// The store was closed.
    Closed,
    /// The loader of [`Kv::get_or_insert_with`](crate::Kv::get_or_insert_with) failed, panicked, or took too long. The
    /// loader's own error is the source; [`Error::load_error`] returns it.
    Load,
    /// The store, or the program that serves it, broke the contract. A retry does not help. A write may have happened.
    Defect,
}

/// The operation that caused an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant names the method")]
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
    Time,
    Watch,
    Publish,
    Subscribe,
    Ping,
    Flush,
    Sweep,
    Close,
    Verify,
}

/// The error of an operation.
///
/// `Display` and `Debug` contain no value and no credential, and the key only as a fingerprint. [`Error::key`] returns
/// the key itself, and the alternate form `{:#?}` contains it.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    operation: Option<Operation>,
    backend: Option<Cow<'static, str>>,
    key: Option<Key>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of any kind. The constructors below are shorter.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Arc::new(Inner { kind, message, operation: None, backend: None, key: None, source: None }))
    }

    /// Creates an `Invalid` error: the call is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Creates an `Unsupported` error for a missing capability.
    pub fn unsupported(capability: Capability) -> Self {
        Self::new(ErrorKind::Unsupported { capability }, format!("the store does not support {capability}"))
    }

    /// Creates an `Unavailable` error: the backend cannot be reached, and nothing happened.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Creates an `Indeterminate` error for a write that may have happened, with the version that it attempted.
    pub fn indeterminate(version: Option<Version>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Indeterminate { version }, message)
    }

    /// Creates a `Capacity` error: disk, memory or connections are exhausted.
    pub fn capacity(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Capacity, message)
    }

    /// Creates a `Denied` error: credentials or permissions are missing.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Denied, message)
    }

    /// Creates a `Corrupt` error: stored bytes are damaged or foreign.
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Creates a `Defect` error: the store broke the contract, and a write may have happened.
    pub fn defect(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Defect, message)
    }

    /// Creates a `Closed` error.
    pub fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the store is closed")
    }

    /// Adds the operation. An operation that was added earlier stays.
    #[must_use]
    pub fn with_operation(mut self, operation: Operation) -> Self {
        Arc::make_mut(&mut self.0).operation.get_or_insert(operation);
        self
    }

    /// Adds the name of the backend. A name that was added earlier stays.
    #[must_use]
    pub fn with_backend(mut self, backend: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.0).backend.get_or_insert_with(|| backend.into());
        self
    }

    /// Sets the key. A later call replaces the key, so that in the end the error has the key that the caller passed.
    #[must_use]
    pub fn with_key(mut self, key: &Key) -> Self {
        Arc::make_mut(&mut self.0).key = Some(key.clone());
        self
    }

    /// Adds the driver's error as the source. Callers can downcast the error that [`source`](StdError::source) returns.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(source.into().into());
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed, if known.
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// Returns the name of the backend that failed, if known.
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// Returns the key of the operation, if there is one.
    pub fn key(&self) -> Option<&Key> {
        self.0.key.as_ref()
    }

    /// Returns the message alone. It is lower case and contains no secrets. Its wording is not part of the API.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// True if a later retry may succeed and cannot apply the call twice.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Capacity)
    }

    /// True if a write may have happened although the call failed.
    pub fn maybe_applied(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Indeterminate { .. } | ErrorKind::Defect)
    }

    /// Returns the missing capability of an `Unsupported` error.
    pub fn capability(&self) -> Option<Capability> {
        match self.0.kind {
            ErrorKind::Unsupported { capability } => Some(capability),
            _ => None,
        }
    }

    /// Returns the error of the loader, if this is a `Load` error of that type. All callers that waited for the load
    /// share this error.
    pub fn load_error<E: StdError + 'static>(&self) -> Option<&E> {
        self.source().filter(|_| matches!(self.0.kind, ErrorKind::Load))?.downcast_ref()
    }

    /// Returns the version that an `Indeterminate` write attempted.
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
            Self::Load => "load",
            Self::Defect => "defect",
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
            Self::Time => "time",
            Self::Watch => "watch",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Ping => "ping",
            Self::Flush => "flush",
            Self::Sweep => "sweep",
            Self::Close => "close",
            Self::Verify => "verify",
        })
    }
}

/// Writes `set on memory: unavailable: … (key ~1a2b3c4d)`, with the parts that are known.
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
