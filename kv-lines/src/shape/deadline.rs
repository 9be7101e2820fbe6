//! The JSON form of deadlines.

use std::time::{Duration, SystemTime};

use kv_core::{Deadline, Expires, Expiry};
use serde::{Deserialize, Serialize};

/// A deadline: milliseconds since the Unix epoch, `null` for never, `"unknown"` if the store does not report the
/// deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExpiresAt {
    /// The deadline, in milliseconds since the Unix epoch.
    Millis(u64),
    /// The entry does not expire.
    Never,
    /// The store does not report deadlines.
    Unknown(Unknown),
}

/// The JSON string `"unknown"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// The only value.
    Unknown,
}

impl From<Expires> for ExpiresAt {
    fn from(expires: Expires) -> Self {
        match expires {
            Expires::At(moment) => Self::Millis(unix_millis(moment)),
            Expires::Never => Self::Never,
            _ => Self::Unknown(Unknown::Unknown),
        }
    }
}

impl From<ExpiresAt> for Expires {
    fn from(expires: ExpiresAt) -> Self {
        match expires {
            ExpiresAt::Millis(millis) => Deadline::from_millis(millis).into(),
            ExpiresAt::Never => Self::Never,
            ExpiresAt::Unknown(Unknown::Unknown) => Self::Unknown,
        }
    }
}

/// Converts a moment into milliseconds since the Unix epoch, rounded up.
pub fn unix_millis(moment: SystemTime) -> u64 {
    let deadline = Deadline::resolve(Expiry::At(moment), SystemTime::UNIX_EPOCH, None);
    deadline.as_millis().unwrap_or(u64::MAX)
}

/// Returns the expiry at `since` after the Unix epoch, or `Never` if the system cannot represent that moment.
pub fn expiry_at_unix(since: Duration) -> Expiry {
    match SystemTime::UNIX_EPOCH.checked_add(since) {
        Some(moment) => Expiry::At(moment),
        None => Expiry::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_milliseconds_null_or_unknown() {
        let json = |expires: Expires| serde_json::to_string(&ExpiresAt::from(expires)).unwrap();
        assert_eq!(json(Deadline::from_millis(1_767_225_600_123).into()), "1767225600123");
        assert_eq!((json(Expires::Never).as_str(), json(Expires::Unknown).as_str()), ("null", r#""unknown""#));
        assert_eq!(json(Deadline::from_millis(0).into()), "0");
        for expires in [Expires::Never, Expires::Unknown, Deadline::from_millis(5).into()] {
            let read: ExpiresAt = serde_json::from_str(&json(expires)).unwrap();
            assert_eq!(Expires::from(read), expires);
        }
    }
}
