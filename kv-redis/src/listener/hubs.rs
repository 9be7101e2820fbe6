//! The hubs that pass changes and messages to subscribers, and the status of the listener that feeds the hubs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kv_core::Key;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::error::Failure;
use crate::layout::{Layout, slot_of};
use crate::listener::watchers::Watchers;

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
    /// The number of the latest call to `listen` that is served. A call is served if a round that began after the call
    /// was successful.
    pub(super) served: u64,
    /// The number of failed rounds.
    pub(super) failures: u64,
    pub(super) last_failure: Option<Failure>,
}

impl Status {
    /// True if the listener receives all notifications of this kind.
    pub(super) fn receives(&self, kind: Kind) -> bool {
        match kind {
            Kind::Changes => self.changes,
            Kind::Messages => self.messages,
        }
    }
}

/// The hubs of a store, and the data that the store and its listener share.
#[derive(Debug)]
pub(crate) struct Hubs {
    pub(crate) watchers: Arc<Watchers>,
    pub(super) layout: Arc<Layout>,
    /// The prefix of the names of all channels of the namespace.
    pub(super) channel_prefix: String,
    /// The slot whose master receives and sends the messages. All publishers and subscribers use this master, so that
    /// no message passes through the cluster bus, which may lose messages without an error.
    pub(super) message_slot: u16,
    pub(super) status: watch::Sender<Status>,
    /// The task of the listener; `None` if it was not started or has ended.
    pub(super) task: Mutex<Option<JoinHandle<()>>>,
    /// The number of calls to `listen`.
    pub(super) calls: AtomicU64,
    /// Wakes the listener if a connection is lost, `listen` is called, or a server may have changed.
    pub(super) wake: Arc<Notify>,
}

impl Hubs {
    pub(crate) fn new(
        layout: Arc<Layout>,
        channel_prefix: String,
        watch_loss_bound: Duration,
        wake: Arc<Notify>,
    ) -> Self {
        let message_slot = slot_of(channel_prefix.as_bytes());
        Self {
            watchers: Arc::new(Watchers::new(watch_loss_bound)),
            layout,
            channel_prefix,
            message_slot,
            status: watch::Sender::default(),
            task: Mutex::new(None),
            calls: AtomicU64::new(0),
            wake,
        }
    }

    /// Returns the name of a channel on the server, and the slot whose master receives and sends the channel's
    /// messages.
    pub(crate) fn channel(&self, channel: &Key) -> (String, u16) {
        (format!("{}{}", self.channel_prefix, channel.as_str()), self.message_slot)
    }

    /// Ends the streams of all subscribers, and the listener.
    pub(crate) fn close(&self) {
        self.watchers.close();
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    pub(super) fn has_subscribers(&self, kind: Kind) -> bool {
        match kind {
            Kind::Changes => self.watchers.changes.has_subscribers(),
            Kind::Messages => self.watchers.messages.has_subscribers(),
        }
    }

    /// Marks a kind as not received, so that the listener may end the notifications of this kind. If the kind has a
    /// subscriber again, changes nothing and returns false.
    pub(super) fn retire(&self, kind: Kind) -> bool {
        // A caller of `listen` subscribes to the hub first, and then takes this lock and waits for the status.
        // Therefore either the check below finds the subscription, or the caller waits until the kind is received
        // again.
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
