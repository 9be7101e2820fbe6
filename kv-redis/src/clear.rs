//! Clearing a prefix.

use kv_core::adapter::Effect;
use kv_core::{Capability, Key, KeyPrefix, ListQuery, Result};

use crate::bucket_group::group_by_bucket;
use crate::error::read_error;
use crate::index_reader::IndexReader;
use crate::layout::Shape;
use crate::scan::{Scan, Types};
use crate::state::State;
use crate::write::deleted_flags;
use crate::write_gate::Write;

/// The maximum number of keys that one script deletes.
const KEYS_PER_SCRIPT: usize = 500;

impl State {
    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.check_open()?;
        self.info.capabilities.require(Capability::List)?;
        self.write_gate.check(Write::Remove)?;
        let Some(range) = ListQuery::new(prefix.clone()).range() else { return Ok(0) };
        self.refresh_settings().await?;
        let mut count = 0;
        // With an index that may lack members, `clear` would miss entries. A scan finds all entries.
        if self.layout.shape == Shape::Indexed && self.index_trust.is_complete() {
            let mut reader = IndexReader::new(self.layout.buckets_of(prefix), range, false, KEYS_PER_SCRIPT);
            while reader.fill(self).await.map_err(read_error)? {
                count += self.clear_keys(&reader.drain()).await?;
            }
        } else {
            let mut scan = Scan::begin(self, prefix, Types::Strings).await.map_err(read_error)?;
            while let Some(keys) = scan.next(self).await.map_err(read_error)? {
                count += self.clear_keys(&keys).await?;
            }
        }
        Ok(count)
    }

    /// Deletes the entries of keys. Returns the number of deleted entries.
    async fn clear_keys(&self, keys: &[Key]) -> Result<u64> {
        let groups = group_by_bucket(keys.iter().map(|key| (key, self.layout.place(key))), KEYS_PER_SCRIPT);
        let requests: Vec<_> = groups.iter().map(|group| self.delete_request(group, |key| key.as_str())).collect();
        let mut count = 0;
        for (group, reply) in groups.iter().zip(self.call_many(&requests).await) {
            let flags = deleted_flags(reply, group.members.len());
            let flags = flags.map_err(|failure| failure.into_error(Effect::Write(None)))?;
            count += flags.map(u64::from).sum::<u64>();
        }
        Ok(count)
    }
}
