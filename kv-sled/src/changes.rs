//! What was judged and is not in the tree yet.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use kv_core::{Key, stored};
use sled::{Batch, IVec};

use crate::codec::{LEDGER, data_key, index_key};
use crate::ledger::Ledger;

/// The records that were looked at, as the tree has them and as they are to be.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) records: HashMap<Key, Record>,
    /// Entries of the index that no record stands behind.
    pub(crate) strays: BTreeSet<IVec>,
    /// How often they were gone on with.
    pub(crate) turn: u64,
    /// About how many bytes of keys and values they hold, without those that are replaced.
    pub(crate) bytes: usize,
}

/// One key's stored bytes.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) before: Option<IVec>,
    pub(crate) after: Option<IVec>,
    /// The turn in which it was changed last.
    pub(crate) changed: Option<u64>,
}

/// What is to be applied.
#[derive(Debug)]
pub(crate) struct Applicable {
    pub(crate) batch: Batch,
    pub(crate) ledger: Ledger,
}

impl Changes {
    /// The batch, and the ledger behind it. Nothing where nothing changes.
    pub(crate) fn applicable(&self, mut ledger: Ledger) -> Option<Applicable> {
        let Self { records, strays, turn: _, bytes: _ } = self;
        let mut batch = Batch::default();
        let mut is_empty = strays.is_empty();
        for (key, Record { before, after, changed }) in records {
            if changed.is_none() {
                continue;
            }
            is_empty = false;
            let physical = data_key(key);
            let (old, new) = (indexed(key, before.as_ref()), indexed(key, after.as_ref()));
            if old != new {
                if let Some(old) = old {
                    ledger.remove(&old, &[]);
                    batch.remove(old);
                }
                if let Some(new) = new {
                    ledger.add(&new, &[]);
                    batch.insert(new, &[]);
                }
            }
            if let Some(before) = before {
                ledger.remove(&physical, before);
                if after.is_none() {
                    batch.remove(physical.as_slice());
                }
            }
            if let Some(after) = after {
                ledger.add(&physical, after);
                batch.insert(physical, after.clone());
            }
        }
        for stray in strays {
            ledger.remove(stray, &[]);
            batch.remove(stray.clone());
        }
        batch.insert(LEDGER, ledger.encode());
        (!is_empty).then_some(Applicable { batch, ledger })
    }
}

/// Where the index names a record.
fn indexed(key: &Key, stored: Option<&IVec>) -> Option<Vec<u8>> {
    index_key(stored::deadline(key, stored?).ok()?, key)
}
