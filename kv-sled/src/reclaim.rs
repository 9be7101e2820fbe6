//! Reclaiming the space of large values.
//!
//! sled writes a page that holds a large value to a file of its own, and a pointer to it into the log. It removes the
//! file of a replaced page only when the segment of the log with the next pointer is complete. Pointers are short, so
//! without other writes that takes gigabytes of large values; and a file that is still there when the store is closed is
//! never removed. So the worker completes segments itself: it writes padding, one record outside of entries and index,
//! and removes it again. The tree checksum counts the padding like every record, so a crash between the two does no harm.

use std::sync::Arc;

use sled::{Batch, IVec};

use crate::codec::{CHECKSUM_KEY, PADDING_KEY};
use crate::database::{Database, Stop};
use crate::error::from_sled;
use crate::pending::{PendingChanges, TreeBatch};
use crate::salvage::SEGMENT_BYTES;
use crate::worker::Worker;

/// A value counts as large from this many bytes on. sled writes pages over 128 KiB to files of their own, and a page may
/// hold several values.
const LARGE_BYTES: usize = 64 << 10;

/// Bytes of large values, written or replaced, after which the worker reclaims at once.
pub(crate) const DUE_BYTES: u64 = 8 << 20;

/// Bytes of large values, written or replaced, after which the worker reclaims when it sweeps.
pub(crate) const IDLE_BYTES: u64 = 1 << 20;

/// Bytes of the padding record. It stays in the log, where it takes space in a segment.
const PADDING_BYTES: usize = 64 << 10;

/// Writes of the padding. sled frees a segment once the one after it is complete too.
const PADDING_WRITES: usize = 5 * SEGMENT_BYTES / PADDING_BYTES / 2;

impl Worker {
    /// Reclaims the space of replaced large values, if at least this many bytes were written or replaced.
    pub(crate) fn reclaim(&mut self, min_bytes: u64) {
        if self.database.large_bytes() < min_bytes || self.check_writable().is_err() {
            return;
        }
        let heartbeat = Arc::clone(&self.heartbeat);
        let _busy = heartbeat.begin(self.config.operation_timeout);
        // A failure poisons the store.
        let _ = self.database.run(Database::complete_segments);
    }
}

impl Database {
    fn complete_segments(&mut self) -> Result<(), Stop> {
        for number in 0..PADDING_WRITES {
            // sled writes nothing for a value that is there already, so each is different.
            let mut padding = number.to_be_bytes().to_vec();
            padding.resize(PADDING_BYTES, 0);
            self.set_padding(Some(padding.into()))?;
            // sled's threads for files are few. If all of them wait for a lock while its holder waits for one of them
            // to truncate the log, sled hangs for ever (`bump_tip` in `segment.rs`). So no writes pile up.
            self.flush()?;
        }
        self.set_padding(None)?;
        self.flush()?;
        self.reset_large_bytes();
        Ok(())
    }

    fn set_padding(&mut self, padding: Option<IVec>) -> Result<(), Stop> {
        let (mut batch, mut checksum) = (Batch::default(), self.checksum());
        if let Some(before) = self.tree().get(PADDING_KEY).map_err(|error| Stop::Unknown(from_sled(error)))? {
            checksum.remove(PADDING_KEY, &before);
        }
        match padding {
            Some(padding) => {
                checksum.add(PADDING_KEY, &padding);
                batch.insert(PADDING_KEY, padding);
            }
            None => batch.remove(PADDING_KEY),
        }
        batch.insert(CHECKSUM_KEY, checksum.encode());
        self.apply_batch(TreeBatch { batch, checksum })
    }
}

impl PendingChanges {
    /// Bytes of the large values that the changes write or replace.
    pub(crate) fn large_bytes(&self) -> u64 {
        let changed = self.records.values().filter(|record| record.changed.is_some());
        let values = changed.flat_map(|record| [&record.before, &record.after]).flatten().map(|value| value.len());
        values.filter(|&bytes| bytes >= LARGE_BYTES).map(|bytes| bytes as u64).sum()
    }
}
