//! The hubs that pass changes and messages to subscribers, and the status of the listener that feeds them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kv_core::Key;
use kv_core::hub::{Changes, Hub, Messages};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::error::Failure;
use crate::layout::{Layout, slot_of};

/// The kind of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Changes,
    Messages,
}

/// The status of the listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    /// True if the listener receives changes from every master.
    pub(super) changes: bool,
    /// True if the listener receives messages.
    pub(super) messages: bool,
    /// The number of the last call to `listen` that a successful round, begun after the call, has served.
    pub(super) served: u64,
    /// The number of failed rounds, and the last failure.
    pub(super) failures: u64,
    pub(super) last_failure: Option<Failure>,
}

impl Status {
    pub(super) fn receives(&self, kind: Kind) -> bool {
        match kind {
            Kind::Changes => self.changes,
            Kind::Messages => self.messages,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Hubs {
    pub(crate) changes: Hub<Changes>,
    pub(crate) messages: Hub<Messages>,
    pub(super) layout: Arc<Layout>,
    pub(super) channel_prefix: String,
    /// The slot whose master carries the messages. All publishers and subscribers use that server, so no message
    /// crosses the cluster bus, which may lose messages silently.
    pub(super) message_slot: u16,
    pub(super) status: watch::Sender<Status>,
    pub(super) task: Mutex<Option<JoinHandle<()>>>,
    /// The number of calls to `listen`.
    pub(super) calls: AtomicU64,
    /// Wakes the listener: a connection was lost, or there is a new call.
    pub(super) wake: Arc<Notify>,
}

impl Hubs {
    pub(crate) fn new(layout: Arc<Layout>, channel_prefix: String) -> Self {
        let message_slot = slot_of(channel_prefix.as_bytes());
        Self {
            changes: Hub::new(),
            messages: Hub::new(),
            layout,
            channel_prefix,
            message_slot,
            status: watch::Sender::default(),
            task: Mutex::new(None),
            calls: AtomicU64::new(0),
            wake: Arc::default(),
        }
    }

    /// The name of a channel on the server, and the slot whose master carries its messages.
    pub(crate) fn channel(&self, channel: &Key) -> (String, u16) {
        (format!("{}{}", self.channel_prefix, channel.as_str()), self.message_slot)
    }

    pub(crate) fn close(&self) {
        self.changes.close();
        self.messages.close();
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    pub(super) fn has_subscribers(&self, kind: Kind) -> bool {
        match kind {
            Kind::Changes => self.changes.has_subscribers(),
            Kind::Messages => self.messages.has_subscribers(),
        }
    }

    /// Marks a kind as no longer received, unless it has a subscriber again. Returns false in that case.
    pub(super) fn retire(&self, kind: Kind) -> bool {
        // A caller of `listen` subscribes to the hub first and reads the status under this lock, so it sees the change.
        let _task = self.task.lock();
        if self.has_subscribers(kind) {
            return false;
        }
        self.status.send_modify(|status| match kind {
            Kind::Changes => status.changes = false,
            Kind::Messages => status.messages = false,
        });
        true
    }
}
