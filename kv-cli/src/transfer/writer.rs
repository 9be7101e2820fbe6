//! Writes entries in bounded batches.

use std::sync::Arc;

use anykv::{Key, KvStore, SetItem};

use crate::exit::Failure;
use crate::progress::Progress;

/// Collects entries and writes them in order, batch by batch.
pub(super) struct Writer<'w> {
    store: Arc<dyn KvStore>,
    progress: &'w Progress,
    batch: Vec<SetItem>,
    bytes: usize,
    written: u64,
}

impl<'w> Writer<'w> {
    /// The number of entries that fill a batch.
    const BATCH_ITEMS: usize = 500;
    /// The number of bytes of values that fill a batch.
    const BATCH_BYTES: usize = 4 << 20;

    pub(super) fn new(store: &Arc<dyn KvStore>, progress: &'w Progress) -> Self {
        Self { store: Arc::clone(store), progress, batch: Vec::new(), bytes: 0, written: 0 }
    }

    /// Adds an entry. If the batch is full, writes the batch and returns its last key.
    pub(super) async fn push(&mut self, item: SetItem) -> Result<Option<Key>, Failure> {
        self.bytes += item.value.len();
        self.batch.push(item);
        if self.batch.len() < Self::BATCH_ITEMS && self.bytes < Self::BATCH_BYTES {
            return Ok(None);
        }
        self.flush().await
    }

    /// Writes the collected entries. Returns the last key, or `None` without entries.
    pub(super) async fn flush(&mut self) -> Result<Option<Key>, Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        for outcome in self.store.set_many(&batch).await {
            // A write without a condition is never refused.
            let _ = outcome?;
            self.written += 1;
            self.progress.advance(1);
        }
        // A call on a memory store never waits. Yield, so that an interrupt is noticed.
        tokio::task::yield_now().await;
        Ok(batch.into_iter().next_back().map(|item| item.key))
    }

    /// Returns the number of written entries.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}
