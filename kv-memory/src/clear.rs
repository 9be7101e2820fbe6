//! Clearing a prefix.

use std::ops::Bound;

use kv_core::{Key, KeyPrefix, Result};

use crate::state::State;
use crate::update;
use crate::yielding::{BATCH, yield_now};

impl State {
    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.admit(1).await?;
        let (first, end) = prefix.range();
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut count, mut after) = (0, None::<Key>);
        loop {
            let start = after.as_ref().map_or(Bound::Included(first), |after| Bound::Excluded(after.as_str()));
            // Each batch starts after the last key of the previous batch. Therefore the loop ends even if concurrent
            // writers keep inserting keys that the loop has already passed.
            let keys = self.engine.order().keys_in((start, end), false, BATCH);
            for key in &keys {
                count += u64::from(self.engine.update(key, update::clear).await);
            }
            match keys.last() {
                Some(last) => after = Some(last.clone()),
                None => return Ok(count),
            }
            yield_now().await;
        }
    }
}
