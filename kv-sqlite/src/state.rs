//! The state that all clones of a store and its tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Capabilities, Clock, Error, Result, StoreInfo};
use tokio::sync::watch;

use crate::liveness::CheckedKeys;
use crate::message_hub::MessageHub;
use crate::readers::Readers;
use crate::runtime::StoreRuntime;
use crate::statement::Statements;
use crate::watchers::Watchers;
use crate::writer::queue::Queue;

/// The state of an open store. Each operation is a method of this type, in the file that is named after the operation.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) info: StoreInfo,
    pub(crate) queue: Queue,
    pub(crate) readers: Arc<Readers>,
    pub(crate) sql: Arc<Statements>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watchers: Watchers,
    pub(crate) messages: Arc<MessageHub>,
    pub(crate) checked: Arc<CheckedKeys>,
    pub(crate) is_closed: Arc<AtomicBool>,
    /// Becomes true when the writer has ended.
    pub(crate) ended: watch::Receiver<bool>,
    pub(crate) runtime: Arc<StoreRuntime>,
}

impl State {
    /// Checks that the store is open.
    ///
    /// # Errors
    /// `Closed` after the store was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    pub(crate) fn readers(&self) -> Result<&Arc<Readers>> {
        self.check_open()?;
        Ok(&self.readers)
    }

    pub(crate) fn queue(&self) -> Result<&Queue> {
        self.check_open()?;
        Ok(&self.queue)
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.info.capabilities
    }

    /// Waits until all earlier acknowledged writes are synced.
    ///
    /// # Errors
    /// The errors of [`Queue::flush`].
    pub(crate) async fn flush(&self) -> Result<()> {
        self.queue()?.flush().await
    }

    /// Rejects new calls and waits until the queued writes are committed.
    ///
    /// # Errors
    /// `Unavailable` if the writer does not end within the timeout of a call. The writer still commits the queued
    /// writes.
    pub(crate) async fn close(&self) -> Result<()> {
        self.is_closed.store(true, Ordering::Release);
        self.queue.close();
        let mut ended = self.ended.clone();
        // An error of `wait_for` means that the writer's thread has ended without setting the flag, by a panic.
        let waited = self.queue.limit(async { ended.wait_for(|ended| *ended).await.map(|_| ()) }).await;
        match waited {
            Some(_) => Ok(()),
            None => {
                Err(Error::unavailable("the writer did not end within the timeout; it still commits the queued writes"))
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A message stream does not hold the state, so the stream would wait forever for a store that was dropped.
        self.messages.close();
    }
}
