//! Parses the server's pushes and passes them to the hubs.

use std::sync::Arc;

use kv_core::{GapReason, Key, Message};
use redis::{PushInfo, PushKind, Value};

use crate::layout::Layout;
use crate::listener::hubs::Hubs;
use crate::listener::watchers::Watchers;

/// Passes the pushes of one connection to the hubs.
pub(super) struct PushReceiver {
    watchers: Arc<Watchers>,
    layout: Arc<Layout>,
    channel_prefix: String,
}

impl PushReceiver {
    pub(super) fn new(hubs: &Hubs) -> Self {
        Self {
            watchers: Arc::clone(&hubs.watchers),
            layout: Arc::clone(&hubs.layout),
            channel_prefix: hubs.channel_prefix.clone(),
        }
    }

    pub(super) fn receive(&self, PushInfo { kind, data }: PushInfo) {
        match kind {
            PushKind::Invalidate => match data.into_iter().next() {
                Some(Value::Array(keys)) => {
                    for key in keys {
                        if let Value::BulkString(physical) = key
                            && let Some(key) = self.layout.key_at(&physical)
                        {
                            self.watchers.changes.notify(&key);
                        }
                    }
                }
                // An invalidation without keys reports a `FLUSHALL` or a `FLUSHDB`.
                _ => self.watchers.changes.gap(GapReason::Flushed),
            },
            PushKind::PMessage => {
                if let Some(message) = self.message(data) {
                    self.watchers.messages.notify(&message);
                }
            }
            _ => {}
        }
    }

    /// Parses a message; `None` if the channel does not belong to the namespace.
    fn message(&self, data: Vec<Value>) -> Option<Message> {
        let mut parts = data.into_iter().skip(1);
        let (Value::BulkString(channel), Value::BulkString(payload)) = (parts.next()?, parts.next()?) else {
            return None;
        };
        let channel = std::str::from_utf8(&channel).ok()?.strip_prefix(&self.channel_prefix)?;
        Some(Message { channel: Key::parse_stored(channel).ok()?, payload: payload.into() })
    }
}
