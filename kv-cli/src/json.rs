//! How values, deadlines and entries stand in JSON: the same in command output, export files and the protocol.

use std::time::{Duration, SystemTime};

use anykv::{Bytes, Deadline, Entry, Expires, Expiry, GapReason, Key, Version, WatchEvent};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// How a value is written as a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    /// The value is UTF-8 and stands as it is.
    #[default]
    Text,
    /// Base64 with padding.
    Base64,
}

impl Encoding {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// A value of any bytes: text where it is UTF-8, else base64, said by `"encoding":"base64"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Value {
    pub(crate) value: String,
    #[serde(default, skip_serializing_if = "Encoding::is_text")]
    pub(crate) encoding: Encoding,
}

impl Value {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { value: text.to_owned(), encoding: Encoding::Text },
            Err(_) => Self { value: STANDARD.encode(bytes), encoding: Encoding::Base64 },
        }
    }

    /// The bytes, or why they cannot be read.
    pub(crate) fn into_bytes(self) -> Result<Bytes, String> {
        match self.encoding {
            Encoding::Text => Ok(Bytes::from(self.value)),
            Encoding::Base64 => {
                STANDARD.decode(&self.value).map(Bytes::from).map_err(|error| format!("bad base64: {error}"))
            }
        }
    }
}

/// A deadline: milliseconds since the Unix epoch, `null` for never, `"unknown"` where the store cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum ExpiresAt {
    Millis(u64),
    Never,
    Unknown(&'static str),
}

impl From<Expires> for ExpiresAt {
    fn from(expires: Expires) -> Self {
        match expires {
            Expires::At(moment) => Self::Millis(millis(moment)),
            Expires::Never => Self::Never,
            _ => Self::Unknown("unknown"),
        }
    }
}

/// An entry as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShownEntry {
    #[serde(flatten)]
    pub(crate) value: Value,
    pub(crate) version: Option<Version>,
    pub(crate) expires_at: ExpiresAt,
}

impl From<&Entry> for ShownEntry {
    fn from(entry: &Entry) -> Self {
        Self { value: Value::of(&entry.value), version: entry.version, expires_at: entry.expires.into() }
    }
}

/// A watched change as it is shown, with keys of any form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum ShownEvent<K> {
    Set {
        key: K,
        #[serde(flatten)]
        entry: Option<ShownEntry>,
    },
    Removed {
        key: K,
    },
    SnapshotEnd,
    Gap {
        reason: &'static str,
    },
    /// A kind of event that this program does not know.
    Unknown,
}

impl<K> ShownEvent<K> {
    pub(crate) fn of(event: &WatchEvent, show: impl Fn(&Key) -> K) -> Self {
        match event {
            WatchEvent::Set { key, entry } => Self::Set { key: show(key), entry: entry.as_ref().map(ShownEntry::from) },
            WatchEvent::Removed { key } => Self::Removed { key: show(key) },
            WatchEvent::SnapshotEnd => Self::SnapshotEnd,
            WatchEvent::Gap { reason } => Self::Gap { reason: gap(*reason) },
            _ => Self::Unknown,
        }
    }
}

/// The name of the reason for a gap.
pub(crate) fn gap(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Lagged => "lagged",
        GapReason::Reconnected => "reconnected",
        GapReason::Flushed => "flushed",
        _ => "unknown",
    }
}

/// Milliseconds since the Unix epoch, rounded up.
pub(crate) fn millis(moment: SystemTime) -> u64 {
    let deadline = Deadline::resolve(Expiry::At(moment), SystemTime::UNIX_EPOCH, None);
    deadline.as_millis().unwrap_or(u64::MAX)
}

/// The moment that lies this many milliseconds behind the Unix epoch, where the system can represent it.
pub(crate) fn moment(millis: u64) -> Expiry {
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)) {
        Some(moment) => Expiry::At(moment),
        None => Expiry::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_round_trip() {
        for bytes in [&b""[..], b"text", b"\0\n\"", "é🦀".as_bytes(), b"\xff\xfe", &[0xed, 0xa0, 0x80]] {
            let text = serde_json::to_string(&Value::of(bytes)).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap().into_bytes().unwrap(), bytes, "{text}");
        }
        assert_eq!(serde_json::to_string(&Value::of(b"\xff")).unwrap(), r#"{"value":"/w==","encoding":"base64"}"#);
    }

    #[test]
    fn deadlines_are_milliseconds_null_or_unknown() {
        let shown = |expires: Expires| serde_json::to_string(&ExpiresAt::from(expires)).unwrap();
        assert_eq!(shown(Deadline::from_millis(1_767_225_600_123).into()), "1767225600123");
        assert_eq!((shown(Expires::Never).as_str(), shown(Expires::Unknown).as_str()), ("null", r#""unknown""#));
        assert_eq!(shown(Deadline::from_millis(0).into()), "0");
    }
}
