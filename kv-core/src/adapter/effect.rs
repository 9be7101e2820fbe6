//! The effect of a request. The effect decides the kind of the error if no response arrives.

use std::borrow::Cow;

use crate::error::Error;
use crate::version::Version;

/// The effect that a request has if the backend carried it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The request has no effect, or an effect that may be applied twice. Therefore the request can be repeated.
    Read,
    /// The request is a write. The field is the version that the write gives to the entry, or `None` if the write gives
    /// no version.
    Write(Option<Version>),
}

impl Effect {
    /// Returns the error of a request that was sent and got no response (clause E-1): `Unavailable` for a read, and
    /// `Indeterminate` with the attempted version for a write.
    pub fn unanswered(self, message: impl Into<Cow<'static, str>>) -> Error {
        match self {
            Self::Read => Error::unavailable(message),
            Self::Write(version) => Error::indeterminate(version, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn only_an_unanswered_write_is_indeterminate() {
        let version = Some(Version::random());
        assert_eq!(Effect::Read.unanswered("no response").kind(), ErrorKind::Unavailable);
        assert_eq!(Effect::Write(version).unanswered("no response").attempted_version(), version);
    }
}
