//! The effect of a call whose answer did not come.

use std::borrow::Cow;

use crate::error::Error;
use crate::version::Version;

/// The effect that a call has if the backend carried it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// No effect, or one that may happen twice: the call can be repeated.
    Read,
    /// A write, with the version that it gives to the entry, if it gives one.
    Write(Option<Version>),
}

impl Effect {
    /// The error of a request that was sent and not answered: `Unavailable` for a read, `Indeterminate` with the
    /// attempted version for a write (clause E-1).
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
        assert_eq!(Effect::Read.unanswered("no answer").kind(), ErrorKind::Unavailable);
        assert_eq!(Effect::Write(version).unanswered("no answer").attempted_version(), version);
    }
}
