//! Connections that are rejected for a reason that a retry does not change.

use std::error::Error as StdError;
use std::io;

use kv_core::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

use crate::error::{Code, ends_connection, kind_of};

/// The reason why a connection was rejected.
#[derive(Debug, Clone)]
pub(crate) enum Rejection {
    /// The server answered with an error that is not temporary.
    Answer(SqlState),
    /// The server has no TLS, or TLS cannot be used with the address.
    NoTls,
    /// One side does not accept the certificate or the protocol of the other.
    Tls(rustls::Error),
}

impl Rejection {
    /// The rejection in an error of the driver while connecting. `None` for an error that may be temporary.
    pub(crate) fn find(error: &tokio_postgres::Error) -> Option<Self> {
        if let Some(code) = error.code() {
            let (kind, _) = Self::kind(code);
            let is_permanent = matches!(kind, ErrorKind::Invalid | ErrorKind::Denied) && !ends_connection(code);
            return is_permanent.then(|| Self::Answer(code.clone()));
        }
        let cause = error.source()?;
        match cause.downcast_ref::<io::Error>() {
            Some(cause) => cause.get_ref()?.downcast_ref().cloned().map(Self::Tls),
            // The driver's own text is the only mark of its errors about TLS. Their cause is text as well.
            None => (error.to_string() == "error performing TLS handshake").then_some(Self::NoTls),
        }
    }

    /// As [`kind_of`]. While connecting, only the settings in the URL and of the role can be wrong, not the table.
    fn kind(code: &SqlState) -> (ErrorKind, &'static str) {
        match (code.code(), code.code().get(..2).unwrap_or_default()) {
            ("42501", _) => kind_of(code),
            (_, "22" | "42") => {
                (ErrorKind::Invalid, "the server refuses a setting of the session, such as in `options` of the URL")
            }
            _ => kind_of(code),
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Answer(code) => {
                let (kind, message) = Self::kind(&code);
                Error::new(kind, message).with_source(Code(code.code().to_owned()))
            }
            Self::NoTls => Error::invalid("`sslmode` requires TLS, and the server does not offer it"),
            Self::Tls(error) => {
                Error::new(ErrorKind::Denied, "the server and this side do not accept each other's TLS")
                    .with_source(error)
            }
        }
    }
}
