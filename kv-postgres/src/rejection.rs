//! Connections that are rejected, for a reason that a retry does not change.

use std::error::Error as StdError;
use std::io;

use kv_core::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

use crate::error::{Code, ends_connection, kind_of};

/// The reason why a connection was rejected.
#[derive(Debug, Clone)]
pub(crate) enum Rejection {
    /// The server responded with an error that is not temporary.
    ServerError(SqlState),
    /// The server does not offer TLS, or TLS cannot be used with the address.
    NoTls,
    /// One side does not accept the certificate or the protocol of the other.
    Tls(rustls::Error),
}

impl Rejection {
    /// Returns the rejection that the driver's error from connecting describes. Returns `None` for an error that may be
    /// temporary.
    pub(crate) fn find(error: &tokio_postgres::Error) -> Option<Self> {
        if let Some(code) = error.code() {
            let (kind, _) = Self::kind(code);
            let is_permanent = matches!(kind, ErrorKind::Invalid | ErrorKind::Denied) && !ends_connection(code);
            return is_permanent.then(|| Self::ServerError(code.clone()));
        }
        let cause = error.source()?;
        match cause.downcast_ref::<io::Error>() {
            Some(cause) => cause.get_ref()?.downcast_ref().cloned().map(Self::Tls),
            // Only the text identifies this error of the driver: the kind of the error is private, and its source is a
            // plain string.
            None => (error.to_string() == "error performing TLS handshake").then_some(Self::NoTls),
        }
    }

    /// Returns the kind and the message of an error from connecting. Unlike in [`kind_of`], the table cannot be the
    /// cause, but a setting of the URL or of the role can be the cause.
    fn kind(code: &SqlState) -> (ErrorKind, &'static str) {
        match (code.code(), code.code().get(..2).unwrap_or_default()) {
            ("42501", _) => kind_of(code),
            (_, "22" | "42") => {
                (ErrorKind::Invalid, "the server refuses a session setting, for example one in the URL's `options`")
            }
            _ => kind_of(code),
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::ServerError(code) => {
                let (kind, message) = Self::kind(&code);
                Error::new(kind, message).with_source(Code(code.code().to_owned()))
            }
            Self::NoTls => Error::invalid("`sslmode` requires TLS, and the server does not offer it"),
            Self::Tls(error) => Error::new(
                ErrorKind::Denied,
                "the TLS handshake failed: one side does not accept the certificate or the protocol of the other",
            )
            .with_source(error),
        }
    }
}
