//! The state that all clones of a handle share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Capabilities, Clock, Error, Result, StoreInfo};
use tokio::sync::watch;

use crate::liveness::CheckedKeys;
use crate::message::MessageHub;
use crate::pool::Readers;
use crate::runtime::StoreRuntime;
use crate::statement::Statements;
use crate::watchers::Watchers;
use crate::writer::queue::Queue;

/// The state of an open store. The operations are methods of it, each in the file of its name.
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
    /// `Closed` after [`close`](Self::close).
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

    /// Rejects new calls and waits until the queued writes are written.
    ///
    /// # Errors
    /// `Unavailable` if the writer does not end within the timeout of a call. It continues with the queued writes.
    pub(crate) async fn close(&self) -> Result<()> {
        self.is_closed.store(true, Ordering::Release);
        self.queue.close();
        let mut ended = self.ended.clone();
        // An error of `wait_for` means that the writer's thread is gone, which counts as ended.
        let waited = self.queue.limit(async { ended.wait_for(|ended| *ended).await.map(|_| ()) }).await;
        match waited {
            Some(_) => Ok(()),
            None => {
                Err(Error::unavailable("the writer did not end within the timeout; it still writes the queued writes"))
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // Message streams do not hold the state. Without this they would wait forever.
        self.messages.close();
    }
}
