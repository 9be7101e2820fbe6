//! Sweeping expired entries.
//!
//! The worker sweeps in the background, and a call can sweep at any time.

use std::sync::Arc;
use std::time::SystemTime;

use kv_core::{Result, stored};

use crate::batch_builder::BatchBuilder;
use crate::clear::MAX_BYTES;
use crate::codec::{Physical, index_range};
use crate::queue::Queue;
use crate::request::WriteInfo;
use crate::stats::count;
use crate::worker::Worker;

/// The maximum number of index entries that one batch reads.
const MAX_ENTRIES: usize = 1_000;

impl Queue {
    pub(crate) async fn sweep(&self) -> Result<u64> {
        let mut removed = 0;
        loop {
            let evaluate = |batch: &mut BatchBuilder<'_>| batch.sweep(MAX_ENTRIES);
            let (seen, removed_now) = self.write(WriteInfo::scan(MAX_BYTES), evaluate).await?;
            removed += removed_now;
            if seen < MAX_ENTRIES {
                return Ok(removed);
            }
        }
    }
}

impl Worker {
    /// Removes one batch of expired entries. Returns false if there may be more expired entries.
    pub(crate) fn sweep(&mut self) -> bool {
        if self.check_removable().is_err() {
            return true;
        }
        let heartbeat = Arc::clone(&self.heartbeat);
        let _busy = heartbeat.begin(self.config.operation_timeout);
        // Do not flush: if a crash restores the removed entries, a later sweep removes them again.
        let done = self.database.run(|database| database.change(|_, batch| Ok(batch.sweep(MAX_ENTRIES))));
        if let Ok((Ok((seen, _)), changed)) = done {
            count(&self.state.counters.swept, changed.len() as u64);
            return seen < MAX_ENTRIES;
        }
        true
    }
}

impl BatchBuilder<'_> {
    /// Reads at most `limit` index entries with the earliest deadlines and removes their expired entries. Returns the
    /// number of index entries that were read, and the number of entries that were removed.
    fn sweep(&mut self, limit: usize) -> Result<(usize, u64)> {
        let Ok(since) = self.now().duration_since(SystemTime::UNIX_EPOCH) else { return Ok((0, 0)) };
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let (mut seen, mut removed) = (0, 0);
        for item in self.tree().range(index_range(millis)).take(limit) {
            let (physical, _) = item.map_err(|error| self.tree_error(error))?;
            seen += 1;
            let Physical::Index(deadline, key) = Physical::decode(&physical) else {
                self.remove_index_key(physical);
                continue;
            };
            // The index is derived from the entries, so the entry is right if index and entry disagree.
            let actual = self.stored(&key)?.and_then(|stored| stored::deadline(&key, &stored).ok());
            if actual == Some(deadline) {
                self.put(&key, None)?;
                removed += 1;
            } else if self.deadline_in_tree(&key)? != Some(deadline) {
                self.remove_index_key(physical);
            }
        }
        Ok((seen, removed))
    }
}
