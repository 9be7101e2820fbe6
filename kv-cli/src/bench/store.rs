//! An anykv store as a subject.

use std::sync::Arc;
use std::time::Duration;

use anykv::{
    Bytes, Capability, DeleteOptions, Error, Expiry, Key, KeyPrefix, KvStore, ListQuery, Result, SetItem, SetOptions,
    Survives, When,
};
use async_trait::async_trait;

use super::dataset::Dataset;
use super::operation::Operation;
use super::subject::Subject;
use super::traffic::Traffic;

/// The time to live of entries with a deadline. It is longer than any benchmark, so that no entry expires.
pub const TTL: Duration = Duration::from_secs(3_600);

/// A store behind `Arc<dyn KvStore>`, as applications use it.
#[derive(Debug, Clone)]
pub struct StoreSubject {
    name: String,
    store: Arc<dyn KvStore>,
    with_ttl: SetOptions,
}

impl StoreSubject {
    /// Creates a subject from a store.
    pub fn new(name: impl Into<String>, store: Arc<dyn KvStore>) -> Self {
        Self { name: name.into(), store, with_ttl: SetOptions::default().with_expiry(Expiry::After(TTL)) }
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn KvStore> {
        &self.store
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<()> {
        let outcome = self.store.set(key, value, options).await?;
        if outcome.is_stored() { Ok(()) } else { Err(unexpected("a write without a condition was refused")) }
    }

    /// Reads an entry, and writes its key if the entry is unchanged. A refusal is a valid result, because another task
    /// may have been faster.
    async fn compare_and_set(&self, key: &Key, value: Bytes) -> Result<()> {
        let when = match self.store.get(key).await? {
            Some(entry) => entry.version.map_or(When::Value(entry.value), When::Version),
            None => When::Absent,
        };
        let _ = self.store.set(key, value, &SetOptions::default().with_when(when)).await?;
        Ok(())
    }

    async fn mixed(&self, traffic: &mut Traffic) -> Result<()> {
        match traffic.below(1_000) {
            // A deleted key is missing until it is written again, so absence is a valid result.
            0..723 => self.store.get(traffic.key()).await.map(drop),
            723..982 => {
                let value = traffic.value();
                self.set(traffic.key(), value, &self.with_ttl).await
            }
            982..996 => self.store.delete(traffic.key(), &DeleteOptions::default()).await.map(drop),
            _ => {
                let value = traffic.value();
                self.compare_and_set(traffic.key(), value).await
            }
        }
    }

    async fn once(&self, operation: Operation, traffic: &mut Traffic) -> Result<()> {
        match operation {
            Operation::Get => match self.store.get(traffic.key()).await? {
                Some(_) => Ok(()),
                None => Err(unexpected("a loaded entry is missing")),
            },
            Operation::GetMiss => match self.store.get(traffic.missing()).await? {
                None => Ok(()),
                Some(_) => Err(unexpected("an entry that was never written exists")),
            },
            Operation::Overwrite => {
                let value = traffic.value();
                self.set(traffic.key(), value, &SetOptions::default()).await
            }
            Operation::SetTtl => {
                let value = traffic.value();
                self.set(traffic.key(), value, &self.with_ttl).await
            }
            Operation::Insert => {
                let (key, value) = (traffic.fresh()?, traffic.value());
                self.set(&key, value, &SetOptions::default()).await
            }
            Operation::Cas => {
                let value = traffic.value();
                self.compare_and_set(traffic.key(), value).await
            }
            Operation::List => {
                let query = ListQuery::new(traffic.group().clone()).with_limit(Traffic::MANY);
                let found = self.store.list(&query).await?.items.len();
                // The operation `mixed` may have deleted some entries.
                if found > 0 { Ok(()) } else { Err(unexpected("a loaded prefix has no entries")) }
            }
            Operation::GetMany => {
                for result in self.store.get_many(&traffic.many()).await {
                    result?;
                }
                Ok(())
            }
            Operation::Mixed => self.mixed(traffic).await,
        }
    }
}

#[async_trait]
impl Subject for StoreSubject {
    fn name(&self) -> &str {
        &self.name
    }

    fn durability(&self) -> String {
        let durability = self.store.info().capabilities.durability;
        let survives = match durability.survives {
            Survives::Volatile => "nothing",
            Survives::Process => "kill -9 of this process",
            Survives::Server => "the end of the server",
            Survives::Power => "loss of power",
            _ => return durability.to_string(),
        };
        if durability.interval.is_zero() {
            return survives.to_owned();
        }
        format!("{survives}, except for the last {}", humantime::format_duration(durability.interval))
    }

    fn can(&self, operation: Operation) -> bool {
        let capabilities = &self.store.info().capabilities;
        match operation {
            Operation::List => capabilities.has(Capability::List),
            Operation::Cas | Operation::Mixed => capabilities.has(Capability::Conditions),
            // A store that may evict does not guarantee that a loaded entry exists.
            Operation::Get => !capabilities.may_evict,
            _ => true,
        }
    }

    async fn load(&self, entries: Vec<(Key, Bytes)>) -> Result<()> {
        let items: Vec<SetItem> = entries.into_iter().map(|(key, value)| SetItem::new(key, value)).collect();
        for outcome in self.store.set_many(&items).await {
            // A write without a condition is never refused.
            let _ = outcome?;
        }
        Ok(())
    }

    async fn operate(&self, operation: Operation, traffic: &mut Traffic, count: usize) -> Result<()> {
        // `Get` has a separate loop, because on a memory store a `get` takes less time than the dispatch of an
        // operation.
        if operation == Operation::Get {
            for _ in 0..count {
                if self.store.get(traffic.key()).await?.is_none() {
                    return Err(unexpected("a loaded entry is missing"));
                }
            }
            return Ok(());
        }
        for _ in 0..count {
            self.once(operation, traffic).await?;
        }
        Ok(())
    }

    async fn clear(&self, dataset: &Dataset) -> Result<()> {
        if self.store.info().capabilities.has(Capability::List) {
            self.store.clear(&KeyPrefix::ALL).await?;
            return Ok(());
        }
        let loaded = (0..dataset.entries()).map(Dataset::key);
        let mut keys = loaded.chain(dataset.fresh_keys());
        loop {
            let batch: Vec<Key> = keys.by_ref().take(256).collect::<Result<_>>()?;
            if batch.is_empty() {
                return Ok(());
            }
            for outcome in self.store.delete_many(&batch).await {
                let _ = outcome?;
            }
        }
    }
}

/// Creates the error for a wrong result, which invalidates the benchmark.
fn unexpected(message: &'static str) -> Error {
    Error::corrupt(message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anykv::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn every_operation_runs_on_loaded_entries_and_clear_removes_all() {
        let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
        let subject = StoreSubject::new("memory", Arc::clone(&store));
        let dataset = Arc::new(Dataset::new(250, 10, 1).unwrap());
        let entries = (0..250).map(|number| (Dataset::key(number).unwrap(), Bytes::from_static(b"value"))).collect();
        subject.load(entries).await.unwrap();
        let mut traffic = dataset.traffic();
        for operation in Operation::ALL {
            assert!(subject.can(operation));
            subject.operate(operation, &mut traffic, 20).await.unwrap();
        }
        subject.clear(&dataset).await.unwrap();
        assert!(store.list(&ListQuery::default()).await.unwrap().items.is_empty());
        let missing = subject.operate(Operation::Get, &mut traffic, 1).await.unwrap_err();
        assert_eq!(missing.message(), "a loaded entry is missing");
    }
}
