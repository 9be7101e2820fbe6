//! Reclaiming the space of large values.
//!
//! sled writes a page with a large value to a separate file, and a pointer to that file into the log. When the page
//! is replaced, sled removes the old file only after the log segment with the new pointer is full. Pointers are short,
//! so without other writes it takes gigabytes of large values to fill a segment. If the store is closed before the
//! segment is full, the old file is never removed.
//!
//! Therefore the worker fills segments itself: it writes padding, which is one record that is neither an entry nor in
//! the index, and removes the padding again. The tree checksum counts the padding like every other record, so a crash
//! while the padding is there does no harm.

use std::sync::Arc;

use sled::{Batch, IVec};

use crate::codec::{CHECKSUM_KEY, PADDING_KEY};
use crate::database::{Database, Stop};
use crate::error::from_sled;
use crate::pending::{PendingChanges, TreeBatch};
use crate::salvage::SEGMENT_BYTES;
use crate::worker::Worker;

/// The minimum number of bytes of a large value. sled writes a page of more than 128 KiB to a separate file. The
/// minimum is lower, because a page may hold several values.
const LARGE_BYTES: usize = 64 << 10;

/// The number of bytes of large values, written or replaced, at which the worker reclaims after the current batch.
pub(crate) const DUE_BYTES: u64 = 8 << 20;

/// The number of bytes of large values, written or replaced, at which the worker reclaims after its next sweep.
pub(crate) const IDLE_BYTES: u64 = 1 << 20;

/// The number of bytes of the padding record. This is too little for a separate file, so the record fills the log.
const PADDING_BYTES: usize = 64 << 10;

/// The number of times that the padding is written. Together, these writes fill two and a half segments, because sled
/// frees a segment only after the next segment is full, too.
const PADDING_WRITES: usize = 5 * SEGMENT_BYTES / PADDING_BYTES / 2;

impl Worker {
    /// Reclaims the space of replaced large values, if at least this many bytes were written or replaced.
    pub(crate) fn reclaim(&mut self, min_bytes: u64) {
        if self.database.large_bytes() < min_bytes || self.check_removable().is_err() {
            return;
        }
        let heartbeat = Arc::clone(&self.heartbeat);
        let _busy = heartbeat.begin(self.config.operation_timeout);
        // A failure poisons the store.
        let _ = self.database.run(Database::complete_segments);
    }
}

impl Database {
    /// Writes padding until the current segment and the next segment of the log are full.
    fn complete_segments(&mut self) -> Result<(), Stop> {
        for number in 0..PADDING_WRITES {
            // Each value differs, because sled writes nothing if the key already has the same value.
            let mut padding = number.to_be_bytes().to_vec();
            padding.resize(PADDING_BYTES, 0);
            self.set_padding(Some(padding.into()))?;
            // Flush after each write, so that no writes pile up in sled. sled has few I/O threads. If all I/O threads
            // wait for a lock while the holder of that lock waits for an I/O thread to truncate the log, sled hangs for
            // ever (`bump_tip` in `segment.rs`).
            self.flush()?;
        }
        self.set_padding(None)?;
        self.flush()?;
        self.reset_large_bytes();
        Ok(())
    }

    /// Writes or removes the padding record, together with the tree checksum.
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
        self.apply_batch(TreeBatch { batch, checksum }, &[])
    }
}

impl PendingChanges {
    /// The number of bytes of the large values that these changes write, replace or remove.
    pub(crate) fn large_bytes(&self) -> u64 {
        let changed = self.records.values().filter(|record| record.changed.is_some());
        let values = changed.flat_map(|record| [&record.before, &record.after]).flatten().map(|value| value.len());
        values.filter(|&bytes| bytes >= LARGE_BYTES).map(|bytes| bytes as u64).sum()
    }
}
