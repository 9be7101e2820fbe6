//! Clearing a prefix.
//!
//! A clear takes several batches of limited size, so that other writes are delayed only briefly.

use std::ops::{Bound, RangeBounds};

use kv_core::{Key, KeyPrefix, Result};
use sled::IVec;

use crate::batch_builder::BatchBuilder;
use crate::codec::{Physical, data_key, data_range};
use crate::evaluate;
use crate::pending::PendingRecord;
use crate::queue::Queue;
use crate::request::WriteInfo;

/// The maximum number of records that one batch removes.
const MAX_RECORDS: usize = 1_000;
/// The number of removed bytes, in values and their headers, at which a batch ends.
pub(crate) const MAX_BYTES: usize = 8 << 20;

impl Queue {
    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let mut range = data_range(text_range(prefix));
        let mut removed = 0;
        loop {
            let remaining = range.clone();
            let evaluate = move |batch: &mut BatchBuilder<'_>| batch.clear(&remaining, MAX_RECORDS, MAX_BYTES);
            let (removed_now, last) = self.write(WriteInfo::scan(MAX_BYTES), evaluate).await?;
            removed += removed_now;
            match last {
                Some(last) => range.0 = Bound::Excluded(last.to_vec()),
                None => return Ok(removed),
            }
        }
    }
}

/// Returns the range of the canonical texts of the keys under a prefix.
fn text_range(prefix: &KeyPrefix) -> (Bound<String>, Bound<String>) {
    let (start, end) = prefix.range();
    (Bound::Included(start.to_owned()), end.map_or(Bound::Unbounded, Bound::Excluded))
}

impl BatchBuilder<'_> {
    /// Removes the entries in a range until one of the two limits is reached. Returns the number of removed entries
    /// that were live or damaged. Also returns the physical key after which to continue, which is `None` at the end of
    /// the range.
    fn clear(
        &mut self,
        range: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
        max_records: usize,
        max_bytes: usize,
    ) -> Result<(u64, Option<IVec>)> {
        let mut removed = self.clear_pending(range)?;
        let mut bytes = 0;
        for (seen, item) in self.tree().range::<Vec<u8>, _>(range.clone()).enumerate() {
            let (physical, stored) = item.map_err(|error| self.tree_error(error))?;
            bytes += stored.len();
            if let Physical::Data(key) = Physical::decode(&physical) {
                removed += u64::from(evaluate::remove(self, &key)?);
            }
            if seen + 1 >= max_records || bytes >= max_bytes {
                return Ok((removed, Some(physical)));
            }
        }
        Ok((removed, None))
    }

    /// Removes the entries of a range that are new in this batch. The scan of the tree does not find them.
    fn clear_pending(&mut self, range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Result<u64> {
        let is_new = |record: &PendingRecord| record.before.is_none() && record.after.is_some();
        let records = self.changes().records.iter();
        let new = records.filter(|(key, record)| is_new(record) && range.contains(&data_key(key)));
        let keys: Vec<Key> = new.map(|(key, _)| key.clone()).collect();
        let mut removed = 0;
        for key in keys {
            removed += u64::from(evaluate::remove(self, &key)?);
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use kv_core::{Deadline, ListQuery, Version, stored};

    use super::*;
    use crate::pending::PendingChanges;

    #[test]
    fn a_clear_removes_entries_that_were_written_earlier_in_the_same_batch() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut batch = BatchBuilder::new(&db, SystemTime::UNIX_EPOCH, PendingChanges::default(), None);
        let (inside, outside) = (Key::new(["k", "1"]).unwrap(), Key::new(["l"]).unwrap());
        for key in [&inside, &outside] {
            let stored = stored::encode(key, &Version::random(), Deadline::NEVER, b"value");
            batch.put(key, Some(stored)).unwrap();
        }
        let range = data_range(ListQuery::new(Key::new(["k"]).unwrap()).range().unwrap());
        assert_eq!(batch.clear(&range, 10, 1_000).unwrap(), (1, None));
        assert!(batch.live(&inside).unwrap().is_none());
        assert!(batch.live(&outside).unwrap().is_some());
    }
}
