//! Drivers that answer on the caller's thread.

use std::fmt::Debug;
use std::hint::black_box;
use std::pin::pin;

use anykv::{Bytes, Error, Key, KeyPrefix, Result};
use async_trait::async_trait;
use futures_util::FutureExt;
use kv_cli::bench::{Dataset, Operation, Subject, Traffic};

/// A map or an embedded engine.
pub(crate) trait Inline: Debug + Send + Sync + 'static {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// What an acknowledged write survives.
    fn survives(&self) -> &'static str {
        "nothing"
    }

    fn get(&self, key: &Key) -> Option<Bytes>;

    fn set(&self, key: &Key, value: Bytes);

    /// Writes entries, and makes them as safe as they will be, together.
    fn set_many(&self, entries: &[(Key, Bytes)]) {
        for (key, value) in entries {
            self.set(key, value.clone());
        }
    }

    fn remove(&self, key: &Key);

    /// How many entries lie under the prefix; `None` where it has no order.
    fn list(&self, prefix: &KeyPrefix) -> Option<usize> {
        let _ = prefix;
        None
    }
}

/// The range of keys under a prefix, as texts.
pub(super) fn range(prefix: &KeyPrefix) -> (String, String) {
    let from = prefix.as_str().unwrap_or_default();
    // The character behind the separator; see "Keys" in ARCHITECTURE.md.
    (from.to_owned(), format!("{from}$"))
}

/// A future that waits for nothing, unless a cache tidies up, or two threads meet at one key of it.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    const POLLS: u32 = 256;
    let mut future = pin!(future);
    loop {
        // A thread that gives way on a busy machine comes back late, and the cache would pay for it.
        for _ in 0..POLLS {
            if let Some(output) = future.as_mut().now_or_never() {
                return output;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

/// Such a driver as a subject: called where it is awaited, as the stores of anykv read embedded engines too.
#[derive(Debug)]
pub(crate) struct InlineSubject<D>(pub(crate) D);

impl<D: Inline> InlineSubject<D> {
    fn once(&self, operation: Operation, traffic: &mut Traffic) -> Result<()> {
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
                _ => Err(Error::corrupt("nothing is under a prefix that was loaded")),
            },
            Operation::GetMany => {
                traffic.many().iter().for_each(|key| drop(black_box(self.0.get(key))));
                Ok(())
            }
            Operation::SetTtl | Operation::Cas | Operation::Mixed => Err(Error::invalid("it has no such operation")),
        }
    }
}

#[async_trait]
impl<D: Inline> Subject for InlineSubject<D> {
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
        (0..count).try_for_each(|_| self.once(operation, traffic))
    }

    /// What is measured here is dropped behind the measurement.
    async fn clear(&self, _: &Dataset) -> Result<()> {
        Ok(())
    }
}
