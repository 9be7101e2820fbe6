//! The JSON form of errors.

use kv_core::{Capability, Error, ErrorKind, Version};
use serde::{Deserialize, Serialize};

/// An error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    message: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Invalid,
    Unsupported,
    Unavailable,
    Indeterminate,
    Capacity,
    Denied,
    Corrupt,
    Closed,
    Load,
    Defect,
    #[serde(other)]
    Unknown,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let (mut capability, mut version) = (None, None);
        let kind = match error.kind() {
            ErrorKind::Invalid => Kind::Invalid,
            ErrorKind::Unsupported { capability: missing } => {
                capability = Some(missing.to_string());
                Kind::Unsupported
            }
            ErrorKind::Unavailable => Kind::Unavailable,
            ErrorKind::Indeterminate { version: attempted } => {
                version = attempted;
                Kind::Indeterminate
            }
            ErrorKind::Capacity => Kind::Capacity,
            ErrorKind::Denied => Kind::Denied,
            ErrorKind::Corrupt => Kind::Corrupt,
            ErrorKind::Closed => Kind::Closed,
            ErrorKind::Load => Kind::Load,
            ErrorKind::Defect => Kind::Defect,
            _ => Kind::Unknown,
        };
        Self { kind, capability, version, message: error.to_string() }
    }
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        let Self { kind, capability, version, message } = self;
        let missing = capability.and_then(|name| Capability::ALL.iter().find(|known| known.to_string() == name));
        let kind = match kind {
            Kind::Invalid => ErrorKind::Invalid,
            Kind::Unsupported => match missing {
                Some(&capability) => ErrorKind::Unsupported { capability },
                None => ErrorKind::Invalid,
            },
            Kind::Unavailable => ErrorKind::Unavailable,
            // An unknown kind may belong to a write that was applied.
            Kind::Indeterminate | Kind::Unknown => ErrorKind::Indeterminate { version },
            Kind::Capacity => ErrorKind::Capacity,
            Kind::Denied => ErrorKind::Denied,
            Kind::Corrupt => ErrorKind::Corrupt,
            Kind::Closed => ErrorKind::Closed,
            Kind::Load => ErrorKind::Load,
            Kind::Defect => ErrorKind::Defect,
        };
        Error::new(kind, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_round_trips() {
        let version = Some(Version::random());
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::Unavailable,
            ErrorKind::Indeterminate { version },
            ErrorKind::Indeterminate { version: None },
            ErrorKind::Capacity,
            ErrorKind::Denied,
            ErrorKind::Corrupt,
            ErrorKind::Closed,
            ErrorKind::Load,
            ErrorKind::Defect,
        ]
        .into_iter()
        .chain(Capability::ALL.iter().map(|&capability| ErrorKind::Unsupported { capability }))
        {
            let line = serde_json::to_string(&Failure::from(&Error::new(kind, "why"))).unwrap();
            let read: Failure = serde_json::from_str(&line).unwrap();
            assert_eq!(read.into_error().kind(), kind, "{line}");
        }
        let later: Failure = serde_json::from_str(r#"{"kind":"new","message":"why"}"#).unwrap();
        assert!(later.into_error().maybe_applied());
    }
}
