//! Loading and storing missing values.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::expiry_methods;
use super::handle::Kv;
use crate::BoxFuture;
use crate::capability::Capability;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{SetOptions, SetOutcome, When};

impl Kv {
    /// Reads a value. If it is absent, awaiting the builder runs the loader and stores the loaded value.
    ///
    /// Only one loader runs for a key at a time, among all clones of the handle and all their namespaces in this
    /// process. Other callers wait and get its value. If the loader fails or its future is dropped, the next waiting
    /// caller runs its own loader. If another process stores a value meanwhile, that value wins over the loaded one; a
    /// store without conditions overwrites it.
    ///
    /// The error type is the loader's own. It must implement `From<Error>`, as a boxed `dyn Error`, `anyhow::Error`,
    /// [`Error`] itself or an application's own type can.
    ///
    /// # Errors
    /// The errors of the loader, of [`Kv::get`] and of [`Kv::set`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the loaded value is not stored, was stored, or will be stored.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # type Failure = Box<dyn std::error::Error + Send + Sync>;
    /// async fn fetch_rate(currency: &str) -> Result<f64, Failure> {
    ///     // asks a slow service
    /// #   Ok(if currency == "EUR" { 1.0 } else { Err("unknown")? })
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Failure> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let rate = kv
    ///     .get_or_insert_with(["rates", "EUR"], || fetch_rate("EUR"))
    ///     .ttl(Duration::from_secs(600))
    ///     .ttl_jitter(0.1)
    ///     .await?;
    /// assert_eq!(rate, 1.0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_insert_with<T, E, F, L>(&self, key: impl IntoKey, loader: F) -> GetOrInsertWith<'_, F>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        F: FnOnce() -> L,
        L: Future<Output = Result<T, E>>,
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

    /// Shortens the time to live by a random part of it, up to `fraction` (0.0 to 1.0), so that values that were loaded
    /// together do not expire together. An expiry at a fixed time is not shortened.
    pub fn ttl_jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction.clamp(0.0, 1.0);
        self
    }

    async fn run<T, E, L>(self) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        F: FnOnce() -> L,
        L: Future<Output = Result<T, E>>,
    {
        let Self { kv, key, loader, expiry, jitter } = self;
        let key = key?;
        let bytes = if let Some(entry) = kv.read(&key).await? {
            entry.value
        } else {
            let load = async {
                // Another load may have ended after the first read and before this one started.
                if let Some(entry) = kv.read(&key).await? {
                    return Ok(entry.value);
                }
                let loaded = kv.write_as(&key, &loader().await?)?;
                Ok(kv.insert(&key, loaded, with_jitter(expiry, jitter)).await?)
            };
            kv.loads.join(kv.stored_key(&key)).run::<E>(load).await?
        };
        // The caller that loaded also decodes the stored bytes, so that it gets the same value as later readers.
        Ok(kv.read_as(&key, &bytes)?)
    }
}

impl Kv {
    /// Stores a loaded value unless the key has one by now. Returns the bytes that are stored.
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

impl<'kv, T, E, F, L> IntoFuture for GetOrInsertWith<'kv, F>
where
    T: Serialize + DeserializeOwned + Send + 'kv,
    E: From<Error> + Send + 'kv,
    F: FnOnce() -> L + Send + 'kv,
    L: Future<Output = Result<T, E>> + Send + 'kv,
{
    type Output = Result<T, E>;
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
    fn jitter_only_shortens_and_by_no_more_than_its_fraction() {
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
