//! Pending changes: the changes of writes that were evaluated and are not in the tree yet.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use kv_core::{Key, stored};
use sled::{Batch, IVec};

use crate::codec::{CHECKSUM_KEY, data_key, index_key};
use crate::tree_checksum::TreeChecksum;

/// The records that writes have read or changed, with their bytes before and after the writes.
#[derive(Debug, Default)]
pub(crate) struct PendingChanges {
    pub(crate) records: HashMap<Key, PendingRecord>,
    /// Index entries to be removed, because no entry has their deadline.
    pub(crate) stray_index_keys: BTreeSet<IVec>,
    /// The number of batch builders that have added to these changes.
    pub(crate) generation: u64,
    /// The approximate number of bytes of the keys, and of the values after the batch.
    pub(crate) bytes: usize,
}

/// The stored bytes of one key; `None` means that the key has no record.
#[derive(Debug)]
pub(crate) struct PendingRecord {
    /// The bytes in the tree when the batch is applied.
    pub(crate) before: Option<IVec>,
    /// The bytes after the batch.
    pub(crate) after: Option<IVec>,
    /// The generation of [`PendingChanges`] at the last change; `None` if the record was only read.
    pub(crate) changed: Option<u64>,
}

/// A batch for sled, and the tree checksum after it.
#[derive(Debug)]
pub(crate) struct TreeBatch {
    pub(crate) batch: Batch,
    pub(crate) checksum: TreeChecksum,
}

impl PendingChanges {
    /// Converts the changes into a batch for a tree with this checksum. `None` if nothing changes.
    pub(crate) fn to_batch(&self, mut checksum: TreeChecksum) -> Option<TreeBatch> {
        let Self { records, stray_index_keys, generation: _, bytes: _ } = self;
        let mut batch = Batch::default();
        let mut is_empty = stray_index_keys.is_empty();
        for (key, PendingRecord { before, after, changed }) in records {
            if changed.is_none() {
                continue;
            }
            is_empty = false;
            let physical = data_key(key);
            let (old, new) = (index_key_of(key, before.as_ref()), index_key_of(key, after.as_ref()));
            if old != new {
                if let Some(old) = old {
                    checksum.remove(&old, &[]);
                    batch.remove(old);
                }
                if let Some(new) = new {
                    checksum.add(&new, &[]);
                    batch.insert(new, &[]);
                }
            }
            if let Some(before) = before {
                checksum.remove(&physical, before);
                if after.is_none() {
                    batch.remove(physical.as_slice());
                }
            }
            if let Some(after) = after {
                checksum.add(&physical, after);
                batch.insert(physical, after.clone());
            }
        }
        for stray in stray_index_keys {
            checksum.remove(stray, &[]);
            batch.remove(stray.clone());
        }
        batch.insert(CHECKSUM_KEY, checksum.encode());
        (!is_empty).then_some(TreeBatch { batch, checksum })
    }
}

/// Returns the physical key in the deadline index for an entry with these stored bytes. `None` if the entry never
/// expires, does not exist or is damaged.
fn index_key_of(key: &Key, stored: Option<&IVec>) -> Option<Vec<u8>> {
    index_key(stored::deadline(key, stored?).ok()?, key)
}
