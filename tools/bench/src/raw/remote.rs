//! Asynchronous drivers of servers.

use std::fmt::Debug;

use anykv::{Bytes, Error, Key, KeyPrefix, Result};
use async_trait::async_trait;
use kv_cli::bench::{Dataset, Operation, Subject, Traffic};

/// The client of a server.
pub(crate) trait RemoteDriver: Debug + Send + Sync + 'static {
    /// The name in reports.
    fn name(&self) -> &'static str;

    /// The failure that an acknowledged write survives.
    fn survives(&self) -> &'static str;

    fn get(&self, key: &Key) -> impl Future<Output = Option<Bytes>> + Send;

    fn set(&self, key: &Key, value: Bytes) -> impl Future<Output = ()> + Send;

    /// Writes as [`RemoteDriver::set`] does, with a TTL of [`TTL`](kv_cli::bench::TTL). Returns `None` if the driver
    /// has no TTL.
    fn set_ttl(&self, key: &Key, value: Bytes) -> impl Future<Output = Option<()>> + Send;

    fn set_many(&self, entries: &[(Key, Bytes)]) -> impl Future<Output = ()> + Send;

    /// Returns the number of keys that have a value.
    fn get_many(&self, keys: &[Key]) -> impl Future<Output = usize> + Send;

    /// Lists up to 100 entries under the prefix and returns their number.
    fn list(&self, prefix: &KeyPrefix) -> impl Future<Output = usize> + Send;

    /// True if the driver has the operation.
    fn can(&self, operation: Operation) -> bool {
        let _ = operation;
        true
    }
}

/// A [`RemoteDriver`] as a [`Subject`].
#[derive(Debug)]
pub(crate) struct RemoteSubject<D>(pub(crate) D);

impl<D: RemoteDriver> RemoteSubject<D> {
    async fn run_one(&self, operation: Operation, traffic: &mut Traffic) -> Result<()> {
        let wrong = |message: &'static str| Err(Error::corrupt(message));
        match operation {
            Operation::Get => match self.0.get(traffic.key()).await {
                Some(_) => Ok(()),
                None => wrong("an entry is missing"),
            },
            Operation::GetMiss => match self.0.get(traffic.missing()).await {
                None => Ok(()),
                Some(_) => wrong("an entry was found that was never written"),
            },
            Operation::Overwrite => {
                let value = traffic.value();
                self.0.set(traffic.key(), value).await;
                Ok(())
            }
            Operation::SetTtl => {
                let value = traffic.value();
                self.0.set_ttl(traffic.key(), value).await.ok_or_else(|| Error::invalid("the driver has no TTL"))
            }
            Operation::Insert => {
                let (key, value) = (traffic.fresh()?, traffic.value());
                self.0.set(&key, value).await;
                Ok(())
            }
            Operation::List => match self.0.list(traffic.group()).await {
                0 => wrong("a loaded prefix has no entries"),
                _ => Ok(()),
            },
            Operation::GetMany => match self.0.get_many(&traffic.many()).await {
                Traffic::MANY => Ok(()),
                _ => wrong("an entry is missing"),
            },
            Operation::Cas | Operation::Mixed => Err(Error::invalid("the driver does not have this operation")),
        }
    }
}

#[async_trait]
impl<D: RemoteDriver> Subject for RemoteSubject<D> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn durability(&self) -> String {
        self.0.survives().to_owned()
    }

    fn can(&self, operation: Operation) -> bool {
        match operation {
            Operation::Cas | Operation::Mixed => false,
            _ => self.0.can(operation),
        }
    }

    async fn load(&self, entries: Vec<(Key, Bytes)>) -> Result<()> {
        self.0.set_many(&entries).await;
        Ok(())
    }

    async fn operate(&self, operation: Operation, traffic: &mut Traffic, count: usize) -> Result<()> {
        for _ in 0..count {
            self.run_one(operation, traffic).await?;
        }
        Ok(())
    }

    /// Does nothing, because the private server is dropped after the measurement.
    async fn clear(&self, _: &Dataset) -> Result<()> {
        Ok(())
    }
}
