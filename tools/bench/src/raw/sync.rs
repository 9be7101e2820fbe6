//! Synchronous drivers, which are called inline on the caller's thread.

use std::fmt::Debug;
use std::hint::black_box;
use std::pin::pin;

use anykv::{Bytes, Error, Key, KeyPrefix, Result};
use async_trait::async_trait;
use futures_util::FutureExt;
use kv_cli::bench::{Dataset, Operation, Subject, Traffic};

/// A map, a cache or an embedded engine.
pub(crate) trait SyncDriver: Debug + Send + Sync + 'static {
    /// The name in reports.
    fn name(&self) -> &'static str;

    /// The failure that an acknowledged write survives.
    fn survives(&self) -> &'static str {
        "nothing"
    }

    fn get(&self, key: &Key) -> Option<Bytes>;

    fn set(&self, key: &Key, value: Bytes);

    /// Writes entries as one batch, as durable as a single write.
    fn set_many(&self, entries: &[(Key, Bytes)]) {
        for (key, value) in entries {
            self.set(key, value.clone());
        }
    }

    fn remove(&self, key: &Key);

    /// Lists up to 100 entries under the prefix and returns their number; `None` if the driver has no order.
    fn list(&self, prefix: &KeyPrefix) -> Option<usize> {
        let _ = prefix;
        None
    }
}

/// Returns the range of encoded keys under a prefix: the inclusive start and the exclusive end.
pub(super) fn range(prefix: &KeyPrefix) -> (String, String) {
    let from = prefix.as_str().unwrap_or_default();
    // `$` is the character after the separator. See "Keys" in ARCHITECTURE.md.
    (from.to_owned(), format!("{from}$"))
}

/// Polls a future that is ready at once, except while a cache does its maintenance or two threads access the same key.
pub(crate) fn poll_until_ready<T>(future: impl Future<Output = T>) -> T {
    const POLLS: u32 = 256;
    let mut future = pin!(future);
    loop {
        // Spin first: on a busy machine, a thread that yields resumes late, and the delay would count against the
        // cache.
        for _ in 0..POLLS {
            if let Some(output) = future.as_mut().now_or_never() {
                return output;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

/// A [`SyncDriver`] as a [`Subject`]. The driver is called inline in the awaiting task. The stores of anykv read
/// embedded engines in the same way.
#[derive(Debug)]
pub(crate) struct SyncSubject<D>(pub(crate) D);

impl<D: SyncDriver> SyncSubject<D> {
    fn run_one(&self, operation: Operation, traffic: &mut Traffic) -> Result<()> {
        match operation {
            Operation::Get => self.0.get(traffic.key()).map(drop).ok_or_else(|| Error::corrupt("an entry is missing")),
            Operation::GetMiss => match self.0.get(traffic.missing()) {
                None => Ok(()),
                Some(_) => Err(Error::corrupt("an entry was found that was never written")),
            },
            Operation::Overwrite => {
                let value = traffic.value();
                self.0.set(traffic.key(), value);
                Ok(())
            }
            Operation::Insert => {
                let (key, value) = (traffic.fresh()?, traffic.value());
                self.0.set(&key, value);
                Ok(())
            }
            Operation::List => match self.0.list(traffic.group()) {
                Some(1..) => Ok(()),
                _ => Err(Error::corrupt("a loaded prefix has no entries")),
            },
            Operation::GetMany => {
                traffic.many().iter().for_each(|key| drop(black_box(self.0.get(key))));
                Ok(())
            }
            Operation::SetTtl | Operation::Cas | Operation::Mixed => {
                Err(Error::invalid("the driver does not have this operation"))
            }
        }
    }
}

#[async_trait]
impl<D: SyncDriver> Subject for SyncSubject<D> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn durability(&self) -> String {
        self.0.survives().to_owned()
    }

    fn can(&self, operation: Operation) -> bool {
        match operation {
            Operation::List => self.0.list(&KeyPrefix::ALL).is_some(),
            Operation::SetTtl | Operation::Cas | Operation::Mixed => false,
            _ => true,
        }
    }

    async fn load(&self, entries: Vec<(Key, Bytes)>) -> Result<()> {
        self.0.set_many(&entries);
        Ok(())
    }

    async fn operate(&self, operation: Operation, traffic: &mut Traffic, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.run_one(operation, traffic))
    }

    /// Does nothing, because the database is dropped after the measurement.
    async fn clear(&self, _: &Dataset) -> Result<()> {
        Ok(())
    }
}
