//! Calls over several keys.

use kv_core::{DeleteOptions, DeleteOutcome, Entry, Error, Key, Result, SetItem, SetOutcome, Version};

use crate::state::State;
use crate::update;
use crate::yielding::charge;

impl State {
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        if self.admit(1).await.is_err() {
            return keys.iter().map(|_| Err(Error::closed())).collect();
        }
        self.engine.get_many(keys).await.into_iter().map(Ok).collect()
    }

    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            outcomes.push(self.set_item(item).await);
        }
        outcomes
    }

    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let options = DeleteOptions::default();
        let mut outcomes = Vec::with_capacity(keys.len());
        for key in keys {
            outcomes.push(self.delete(key, &options).await);
        }
        outcomes
    }

    async fn set_item(&self, item: &SetItem) -> Result<SetOutcome> {
        let SetItem { key, value, options, .. } = item;
        charge(self.engine.cost()).await;
        self.check_set(value, options)?;
        let (value, version) = (value.clone(), Version::random());
        Ok(self.engine.update(key, |current, now| update::set(current, value, version, options, now)).await)
    }
}
