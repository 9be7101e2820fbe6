//! Loading and storing missing values.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::expiry_methods;
use super::handle::Kv;
use crate::BoxFuture;
use crate::capability::Capability;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::flight::Fence;
use crate::key::{IntoKey, Key};
use crate::options::{SetOptions, SetOutcome, When};

impl Kv {
    /// Reads a value. If the value is absent, awaiting the builder runs the loader and stores the loaded value.
    ///
    /// - Only one loader runs for a key at a time, among all clones of the handle and all their namespaces in this
    ///   process. Callers that come while the loader runs get the same value or the same error.
    /// - The loader runs in its own task. The loader continues if its caller is dropped or no longer polled.
    /// - If a write or a deletion of the key through any of these handles begins after the load began, the loaded value
    ///   is returned and not stored. If the load began during the write, the loaded value never replaces the written
    ///   value. On a store without conditions, the loaded value is not stored.
    /// - If another process stores a value while the loader runs, that value stays and is returned. Only a store
    ///   without conditions overwrites that value with the loaded value. Such a store also overwrites a value that was
    ///   written through [`Kv::store`], or by a write whose future was dropped.
    /// - A loader that needs the value of its own key, directly or through other loaders, fails with `Invalid`.
    ///
    /// # Errors
    /// `Load` if the loader fails, panics, or takes longer than
    /// [`Flights::DEADLINE`](crate::flight::Flights::DEADLINE); [`Error::load_error`] returns the loader's own error.
    /// If the loader fails with an [`Error`] of this crate, that error is returned instead of `Load`. The other errors
    /// are those of [`Kv::get`] and [`Kv::set`], and `Unavailable` outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped, the load continues, and its value will be stored.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// async fn fetch_rate(currency: &str) -> Result<f64, std::io::Error> {
    ///     // asks a slow service
    /// #   Ok(if currency == "EUR" { 1.0 } else { Err(std::io::ErrorKind::NotFound)? })
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let rate = kv
    ///     .get_or_insert_with(["rates", "EUR"], || fetch_rate("EUR"))
    ///     .ttl(Duration::from_secs(600))
    ///     .ttl_jitter(0.1)
    ///     .await?;
    /// assert_eq!(rate, 1.0);
    ///
    /// let error = kv.get_or_insert_with(["rates", "XXX"], || fetch_rate("XXX")).await.unwrap_err();
    /// assert!(error.load_error::<std::io::Error>().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_insert_with<T, E, F, L>(&self, key: impl IntoKey, loader: F) -> GetOrInsertWith<'_, F>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
    {
        GetOrInsertWith { kv: self, key: key.into_key(), loader, expiry: self.default_expiry, jitter: 0.0 }
    }
}

/// A read that loads a missing value, run when it is awaited.
#[must_use = "nothing is read or loaded until it is awaited"]
pub struct GetOrInsertWith<'kv, F> {
    kv: &'kv Kv,
    key: Result<Key>,
    loader: F,
    expiry: Expiry,
    jitter: f64,
}

impl<F> GetOrInsertWith<'_, F> {
    /// Sets the expiry of a loaded value.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!();

    /// Shortens the time to live by a random part of at most `fraction` (0.0 to 1.0), so that values that were loaded
    /// together do not expire together. An expiry at a fixed time is not shortened.
    pub fn ttl_jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction.clamp(0.0, 1.0);
        self
    }

    async fn run<T, E, L>(self) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
    {
        let Self { kv, key, loader, expiry, jitter } = self;
        let key = key?;
        let bytes = if let Some(entry) = kv.read(&key).await? {
            entry.value
        } else {
            let (owned, own_key) = (kv.clone(), key.clone());
            let load = |fence: Fence| async move {
                // Another load may have ended after the first read and before this load started.
                if let Some(entry) = owned.read(&own_key).await? {
                    return Ok(entry.value);
                }
                let loaded = loader().await.map_err(|error| load_error(error.into()).with_key(&own_key))?;
                let loaded = owned.write_as(&own_key, &loaded)?;
                let stored = fence.store(owned.insert(&own_key, loaded.clone(), with_jitter(expiry, jitter))).await;
                stored.unwrap_or(Ok(loaded))
            };
            kv.loads.run(&kv.stored_key(&key), &kv.clock, load).await.map_err(|error| error.with_key(&key))?
        };
        // The caller that loaded also decodes the stored bytes, so that it gets the same value as later readers.
        kv.read_as(&key, &bytes)
    }
}

impl Kv {
    /// Stores a loaded value unless the key has a value by now. Returns the bytes that are stored.
    async fn insert(&self, key: &Key, loaded: Bytes, expiry: Expiry) -> Result<Bytes> {
        let when = if self.can(Capability::Conditions) { When::Absent } else { When::Always };
        let options = SetOptions::default().with_when(when).with_expiry(expiry);
        let outcome = self.store.set(key, loaded.clone(), &options).await.map_err(|error| error.with_key(key))?;
        Ok(match outcome {
            SetOutcome::Refused { current: Some(entry) } => entry.value,
            SetOutcome::Refused { current: None } | SetOutcome::Stored { .. } => loaded,
        })
    }
}

fn with_jitter(expiry: Expiry, jitter: f64) -> Expiry {
    match expiry {
        Expiry::After(ttl) if jitter > 0.0 => {
            let part = ttl.as_secs_f64() * jitter * rand::random::<f64>();
            Expiry::After(ttl.saturating_sub(Duration::try_from_secs_f64(part).unwrap_or_default()))
        }
        unchanged => unchanged,
    }
}

/// Converts the error of a loader. An [`Error`] of this crate is returned unchanged, because its kind tells the caller
/// how to react.
fn load_error(error: Box<dyn StdError + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::new(ErrorKind::Load, "the loader failed").with_source(other),
    }
}

impl<'kv, T, E, F, L> IntoFuture for GetOrInsertWith<'kv, F>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    F: FnOnce() -> L + Send + 'static,
    L: Future<Output = Result<T, E>> + Send + 'static,
{
    type Output = Result<T>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<F> std::fmt::Debug for GetOrInsertWith<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kv: _, key, loader: _, expiry, jitter } = self;
        let mut fields = f.debug_struct("GetOrInsertWith");
        fields.field("key", key).field("expiry", expiry).field("jitter", jitter).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_shortens_a_ttl_by_at_most_the_given_fraction() {
        let ttl = Duration::from_secs(100);
        let drawn: Vec<_> = (0..1_000).map(|_| with_jitter(Expiry::After(ttl), 0.2)).collect();
        for expiry in &drawn {
            let Expiry::After(shorter) = *expiry else { panic!("{expiry:?}") };
            assert!(shorter <= ttl && shorter >= Duration::from_secs(80), "{shorter:?}");
        }
        assert!(drawn.iter().any(|expiry| *expiry != drawn[0]));
        assert_eq!(with_jitter(Expiry::After(ttl), 0.0), Expiry::After(ttl));
        assert_eq!(with_jitter(Expiry::Never, 0.5), Expiry::Never);
        assert!(matches!(with_jitter(Expiry::After(Duration::MAX), 1.0), Expiry::After(_)));
    }
}
