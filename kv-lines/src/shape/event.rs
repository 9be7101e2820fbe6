//! What watchers and subscribers hear.

use kv_core::{Error, GapReason, Key, Message, MessageEvent, Result, WatchEvent};
use serde::{Deserialize, Serialize};

use super::entry::{self, Entry};
use super::error::Failure;
use super::key::Segments;
use super::value::Value;

/// A watched change, with keys of any form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<K> {
    /// The key has a live entry that was written or touched.
    Set {
        /// Which.
        key: K,
        /// The entry, unless only keys were asked for.
        #[serde(flatten)]
        entry: Option<Entry>,
    },
    /// The key has no live entry any more.
    Removed {
        /// Which.
        key: K,
    },
    /// Everything that was there has been told.
    SnapshotEnd,
    /// Something may have been missed.
    Gap {
        /// Why.
        reason: Reason,
    },
    /// A kind of event that this program does not know.
    Unknown,
}

impl<K> Event<K> {
    /// The event as it is shown.
    pub fn of(event: &WatchEvent, show: impl Fn(&Key) -> K) -> Self {
        match event {
            WatchEvent::Set { key, entry } => Self::Set { key: show(key), entry: entry::shown(entry.as_ref()) },
            WatchEvent::Removed { key } => Self::Removed { key: show(key) },
            WatchEvent::SnapshotEnd => Self::SnapshotEnd,
            WatchEvent::Gap { reason } => Self::Gap { reason: (*reason).into() },
            _ => Self::Unknown,
        }
    }
}

/// Why something may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the reason of the same name")]
pub enum Reason {
    Lagged,
    Reconnected,
    Flushed,
    Unknown,
}

impl Reason {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lagged => "lagged",
            Self::Reconnected => "reconnected",
            Self::Flushed => "flushed",
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
            _ => Self::Unknown,
        }
    }
}

/// A reason that this program does not know tells a loss all the same.
impl From<Reason> for GapReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Lagged => Self::Lagged,
            Reason::Reconnected | Reason::Unknown => Self::Reconnected,
            Reason::Flushed => Self::Flushed,
        }
    }
}

/// What a line of a running stream says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Heard {
    Set {
        key: Segments,
        #[serde(flatten)]
        entry: Option<Entry>,
    },
    Removed {
        key: Segments,
    },
    SnapshotEnd,
    Message {
        channel: Segments,
        #[serde(flatten)]
        payload: Value,
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

impl From<&WatchEvent> for Heard {
    fn from(event: &WatchEvent) -> Self {
        match Event::of(event, |key| Segments::from(key)) {
            Event::Set { key, entry } => Self::Set { key, entry },
            Event::Removed { key } => Self::Removed { key },
            Event::SnapshotEnd => Self::SnapshotEnd,
            Event::Gap { reason } => Self::Gap { reason },
            Event::Unknown => Self::Unknown,
        }
    }
}

impl From<&MessageEvent> for Heard {
    fn from(event: &MessageEvent) -> Self {
        match event {
            MessageEvent::Message(message) => {
                Self::Message { channel: (&message.channel).into(), payload: Value::of(&message.payload) }
            }
            MessageEvent::Gap { reason } => Self::Gap { reason: (*reason).into() },
            _ => Self::Unknown,
        }
    }
}

/// An event of a stream, read from its line; `None` at the end of the stream.
pub(crate) trait Hear: Sized {
    fn hear(heard: Heard) -> Option<Result<Self>>;
}

impl Hear for WatchEvent {
    fn hear(heard: Heard) -> Option<Result<Self>> {
        let set = |key: Segments, read: Option<Entry>| Ok(Self::Set { key: key.key()?, entry: entry::read(read)? });
        Some(match heard {
            Heard::Set { key, entry } => set(key, entry),
            Heard::Removed { key } => key.key().map(|key| Self::Removed { key }),
            Heard::SnapshotEnd => Ok(Self::SnapshotEnd),
            Heard::Gap { reason } => Ok(Self::Gap { reason: reason.into() }),
            Heard::Error { error } => Err(error.into_error()),
            Heard::End => return None,
            Heard::Message { .. } | Heard::Unknown => Err(unknown()),
        })
    }
}

impl Hear for MessageEvent {
    fn hear(heard: Heard) -> Option<Result<Self>> {
        let message = |channel: Segments, payload: Value| {
            Ok(Self::Message(Message { channel: channel.key()?, payload: payload.into_bytes()? }))
        };
        Some(match heard {
            Heard::Message { channel, payload } => message(channel, payload),
            Heard::Gap { reason } => Ok(Self::Gap { reason: reason.into() }),
            Heard::Error { error } => Err(error.into_error()),
            Heard::End => return None,
            Heard::Set { .. } | Heard::Removed { .. } | Heard::SnapshotEnd | Heard::Unknown => Err(unknown()),
        })
    }
}

fn unknown() -> Error {
    Error::corrupt("the server told an event that this program does not know")
}
