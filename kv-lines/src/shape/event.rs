//! The JSON forms of the events of watches and subscriptions.

use kv_core::{Error, GapReason, Key, Message, MessageEvent, Result, WatchEvent};
use serde::{Deserialize, Serialize};

use super::entry::{self, Entry};
use super::error::Failure;
use super::key::Segments;
use super::value::Value;

/// An event of a watch. `K` is the form of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<K> {
    /// The key has a live entry that was written or touched.
    Set {
        /// The key.
        key: K,
        /// The entry, unless the watch is for keys only.
        #[serde(flatten)]
        entry: Option<Entry>,
    },
    /// The key has no live entry any more.
    Removed {
        /// The key.
        key: K,
    },
    /// The key has changed. Only a watch of changes sends this event.
    Changed {
        /// The key.
        key: K,
    },
    /// The snapshot is complete.
    SnapshotEnd,
    /// Events are possibly lost from now on. A gap or the end follows.
    Suspended {
        /// The reason.
        reason: Reason,
    },
    /// Events may be lost.
    Gap {
        /// The reason.
        reason: Reason,
    },
    /// An event of a kind that this version does not know.
    Unknown,
}

impl<K> Event<K> {
    /// Encodes an event. `encode_key` converts the key of the event.
    pub fn of(event: &WatchEvent, encode_key: impl Fn(&Key) -> K) -> Self {
        match event {
            WatchEvent::Set { key, entry } => {
                Self::Set { key: encode_key(key), entry: entry::encode_entry(entry.as_ref()) }
            }
            WatchEvent::Removed { key } => Self::Removed { key: encode_key(key) },
            WatchEvent::Changed { key } => Self::Changed { key: encode_key(key) },
            WatchEvent::SnapshotEnd => Self::SnapshotEnd,
            WatchEvent::Suspended { reason } => Self::Suspended { reason: (*reason).into() },
            WatchEvent::Gap { reason } => Self::Gap { reason: (*reason).into() },
            _ => Self::Unknown,
        }
    }
}

/// The reason of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is the reason of the same name")]
pub enum Reason {
    Lagged,
    Reconnected,
    Flushed,
    Disconnected,
    Unanswered,
    ServerChanged,
    NotReported,
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// Returns the name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lagged => "lagged",
            Self::Reconnected => "reconnected",
            Self::Flushed => "flushed",
            Self::Disconnected => "disconnected",
            Self::Unanswered => "unanswered",
            Self::ServerChanged => "server-changed",
            Self::NotReported => "not-reported",
            Self::Unknown => "unknown",
        }
    }
}

impl From<GapReason> for Reason {
    fn from(reason: GapReason) -> Self {
        match reason {
            GapReason::Lagged => Self::Lagged,
            GapReason::Reconnected => Self::Reconnected,
            GapReason::Flushed => Self::Flushed,
            GapReason::Disconnected => Self::Disconnected,
            GapReason::Unanswered => Self::Unanswered,
            GapReason::ServerChanged => Self::ServerChanged,
            GapReason::NotReported => Self::NotReported,
            _ => Self::Unknown,
        }
    }
}

/// An unknown reason becomes `Reconnected`, because in either case events may be lost.
impl From<Reason> for GapReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Lagged => Self::Lagged,
            Reason::Reconnected | Reason::Unknown => Self::Reconnected,
            Reason::Flushed => Self::Flushed,
            Reason::Disconnected => Self::Disconnected,
            Reason::Unanswered => Self::Unanswered,
            Reason::ServerChanged => Self::ServerChanged,
            Reason::NotReported => Self::NotReported,
        }
    }
}

/// An event of a running stream, as the protocol sends it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum StreamEvent {
    Set {
        key: Segments,
        #[serde(flatten)]
        entry: Option<Entry>,
    },
    Removed {
        key: Segments,
    },
    Changed {
        key: Segments,
    },
    SnapshotEnd,
    Message {
        channel: Segments,
        #[serde(flatten)]
        payload: Value,
    },
    Suspended {
        reason: Reason,
    },
    Gap {
        reason: Reason,
    },
    Error {
        error: Failure,
    },
    End,
    #[serde(other)]
    Unknown,
}

impl From<&WatchEvent> for StreamEvent {
    fn from(event: &WatchEvent) -> Self {
        match Event::of(event, |key| Segments::from(key)) {
            Event::Set { key, entry } => Self::Set { key, entry },
            Event::Removed { key } => Self::Removed { key },
            Event::Changed { key } => Self::Changed { key },
            Event::SnapshotEnd => Self::SnapshotEnd,
            Event::Suspended { reason } => Self::Suspended { reason },
            Event::Gap { reason } => Self::Gap { reason },
            Event::Unknown => Self::Unknown,
        }
    }
}

impl From<&MessageEvent> for StreamEvent {
    fn from(event: &MessageEvent) -> Self {
        match event {
            MessageEvent::Message(message) => {
                Self::Message { channel: (&message.channel).into(), payload: Value::of(&message.payload) }
            }
            MessageEvent::Suspended { reason } => Self::Suspended { reason: (*reason).into() },
            MessageEvent::Gap { reason } => Self::Gap { reason: (*reason).into() },
            _ => Self::Unknown,
        }
    }
}

/// An event type that can be decoded from the protocol.
pub(crate) trait FromStreamEvent: Sized {
    /// Decodes an event. Returns `None` at the end of the stream.
    fn from_stream_event(event: StreamEvent) -> Option<Result<Self>>;
}

impl FromStreamEvent for WatchEvent {
    fn from_stream_event(event: StreamEvent) -> Option<Result<Self>> {
        let set =
            |key: Segments, entry: Option<Entry>| Ok(Self::Set { key: key.key()?, entry: entry::decode_entry(entry)? });
        Some(match event {
            StreamEvent::Set { key, entry } => set(key, entry),
            StreamEvent::Removed { key } => key.key().map(|key| Self::Removed { key }),
            StreamEvent::Changed { key } => key.key().map(|key| Self::Changed { key }),
            StreamEvent::SnapshotEnd => Ok(Self::SnapshotEnd),
            StreamEvent::Suspended { reason } => Ok(Self::Suspended { reason: reason.into() }),
            StreamEvent::Gap { reason } => Ok(Self::Gap { reason: reason.into() }),
            StreamEvent::Error { error } => Err(error.into_error()),
            StreamEvent::End => return None,
            StreamEvent::Message { .. } | StreamEvent::Unknown => Err(unknown_event()),
        })
    }
}

impl FromStreamEvent for MessageEvent {
    fn from_stream_event(event: StreamEvent) -> Option<Result<Self>> {
        let message = |channel: Segments, payload: Value| {
            Ok(Self::Message(Message { channel: channel.key()?, payload: payload.into_bytes()? }))
        };
        Some(match event {
            StreamEvent::Message { channel, payload } => message(channel, payload),
            StreamEvent::Suspended { reason } => Ok(Self::Suspended { reason: reason.into() }),
            StreamEvent::Gap { reason } => Ok(Self::Gap { reason: reason.into() }),
            StreamEvent::Error { error } => Err(error.into_error()),
            StreamEvent::End => return None,
            StreamEvent::Set { .. }
            | StreamEvent::Removed { .. }
            | StreamEvent::Changed { .. }
            | StreamEvent::SnapshotEnd
            | StreamEvent::Unknown => Err(unknown_event()),
        })
    }
}

fn unknown_event() -> Error {
    Error::corrupt("the server sent an event that this version does not know")
}
