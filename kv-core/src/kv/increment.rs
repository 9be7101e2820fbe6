//! Counters.

use super::expiry::expiry_methods;
use super::handle::Kv;
use crate::BoxFuture;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::IncrementOptions;

impl Kv {
    /// Adds to a counter. Awaiting the builder returns the new value. A missing counter starts at zero.
    ///
    /// A counter is stored as decimal text, which [`Kv::get`] reads as a number if the codec is JSON. The expiry
    /// applies only if this call creates the counter. An existing counter keeps its deadline.
    ///
    /// # Errors
    /// `Unsupported` without the counters capability. `Invalid` if the sum overflows `i64` or the value is not a
    /// counter; the value then stays. `Indeterminate` if the addition may have happened.
    ///
    /// # Cancel safety
    /// If the future is dropped, the addition is not applied, was applied, or will be applied.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let calls = kv.increment(["calls", "203.0.113.7"], 1).ttl(Duration::from_secs(60)).await?;
    /// assert_eq!(calls, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn increment(&self, key: impl IntoKey, by: i64) -> Increment<'_> {
        Increment { kv: self, key: key.into_key(), by, expiry: self.default_expiry }
    }
}

/// An addition to a counter, sent when it is awaited.
#[derive(Debug)]
#[must_use = "nothing is added until the increment is awaited"]
pub struct Increment<'kv> {
    kv: &'kv Kv,
    key: Result<Key>,
    by: i64,
    expiry: Expiry,
}

impl Increment<'_> {
    /// Sets the expiry of a counter that this call creates.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!();
}

impl<'kv> IntoFuture for Increment<'kv> {
    type Output = Result<i64>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { kv, key, by, expiry } = self;
        Box::pin(async move {
            let (key, options) = (key?, IncrementOptions::default().with_expiry(expiry));
            let _writing = kv.fence(&key).await;
            kv.store.increment(&key, by, &options).await.map_err(|error| error.with_key(&key))
        })
    }
}
