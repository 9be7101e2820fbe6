//! Drivers of servers.

use std::fmt::Debug;

use anykv::{Bytes, Error, Key, KeyPrefix, Result};
use async_trait::async_trait;
use kv_cli::bench::{Dataset, Operation, Subject, Traffic};

/// A client of a server.
pub(crate) trait Remote: Debug + Send + Sync + 'static {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// What an acknowledged write survives.
    fn survives(&self) -> &'static str;

    fn get(&self, key: &Key) -> impl Future<Output = Option<Bytes>> + Send;

    fn set(&self, key: &Key, value: Bytes) -> impl Future<Output = ()> + Send;

    /// As [`Remote::set`], with an hour to live; `None` where there is no such thing.
    fn set_ttl(&self, key: &Key, value: Bytes) -> impl Future<Output = Option<()>> + Send;

    fn set_many(&self, entries: &[(Key, Bytes)]) -> impl Future<Output = ()> + Send;

    /// How many values were found.
    fn get_many(&self, keys: &[Key]) -> impl Future<Output = usize> + Send;

    /// How many entries lie under the prefix.
    fn list(&self, prefix: &KeyPrefix) -> impl Future<Output = usize> + Send;

    /// Whether it has this.
    fn can(&self, operation: Operation) -> bool {
        let _ = operation;
        true
    }
}

/// Such a client as a subject.
#[derive(Debug)]
pub(crate) struct RemoteSubject<D>(pub(crate) D);

impl<D: Remote> RemoteSubject<D> {
    async fn once(&self, operation: Operation, traffic: &mut Traffic) -> Result<()> {
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
                self.0.set_ttl(traffic.key(), value).await.ok_or_else(|| Error::invalid("it has no deadlines"))
            }
            Operation::Insert => {
                let (key, value) = (traffic.fresh()?, traffic.value());
                self.0.set(&key, value).await;
                Ok(())
            }
            Operation::List => match self.0.list(traffic.group()).await {
                0 => wrong("nothing is under a prefix that was loaded"),
                _ => Ok(()),
            },
            Operation::GetMany => match self.0.get_many(&traffic.many()).await {
                Traffic::MANY => Ok(()),
                _ => wrong("an entry is missing"),
            },
            Operation::Cas | Operation::Mixed => Err(Error::invalid("it has no such operation")),
        }
    }
}

#[async_trait]
impl<D: Remote> Subject for RemoteSubject<D> {
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
            self.once(operation, traffic).await?;
        }
        Ok(())
    }

    /// The server is private and goes with the measurement.
    async fn clear(&self, _: &Dataset) -> Result<()> {
        Ok(())
    }
}
