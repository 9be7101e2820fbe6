//! Values that are loaded once and then read.

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
    /// Reads a value; where there is none, awaited, it runs the loader and stores what that gives.
    ///
    /// One loader runs for a key at a time, among all clones of the handle and all its namespaces in this process; the
    /// others wait and get its value. Where it fails or its future is dropped, the next who waits runs its own. What
    /// another process stored meanwhile wins over what was loaded; a store without conditions is overwritten.
    ///
    /// The error is the loader's own type, which takes in the handle's errors by `From`: a boxed `dyn Error`,
    /// `anyhow::Error`, an application's own type or [`Error`] itself.
    ///
    /// # Errors
    /// What the loader gives, and as [`Kv::get`] and [`Kv::set`].
    ///
    /// # Cancel safety
    /// After a dropped future the loaded value is stored, not stored, or still to be stored.
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

/// A read that loads what is missing, when it is awaited.
#[must_use = "nothing is read or loaded until it is awaited"]
pub struct GetOrInsertWith<'kv, F> {
    kv: &'kv Kv,
    key: Result<Key>,
    loader: F,
    expiry: Expiry,
    jitter: f64,
}

impl<F> GetOrInsertWith<'_, F> {
    /// Sets how long a loaded value lives.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!();

    /// Shortens the time to live by a random part of itself, up to `fraction` (0.0 to 1.0), so that values which were
    /// loaded together do not all expire together. A moment to expire at stays as it is.
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
                // Another load may have ended between that read and this turn.
                if let Some(entry) = kv.read(&key).await? {
                    return Ok(entry.value);
                }
                let loaded = kv.write_as(&key, &loader().await?)?;
                Ok(kv.insert(&key, loaded, shortened(expiry, jitter)).await?)
            };
            kv.flights.join(kv.stored_key(&key)).land::<E>(load).await?
        };
        // Also who loaded gets what a later read will give.
        Ok(kv.read_as(&key, &bytes)?)
    }
}

impl Kv {
    /// Stores a loaded value, unless one is there by now, and gives the one that stays.
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

fn shortened(expiry: Expiry, jitter: f64) -> Expiry {
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
        let drawn: Vec<_> = (0..1_000).map(|_| shortened(Expiry::After(ttl), 0.2)).collect();
        for expiry in &drawn {
            let Expiry::After(shorter) = *expiry else { panic!("{expiry:?}") };
            assert!(shorter <= ttl && shorter >= Duration::from_secs(80), "{shorter:?}");
        }
        assert!(drawn.iter().any(|expiry| *expiry != drawn[0]));
        assert_eq!(shortened(Expiry::After(ttl), 0.0), Expiry::After(ttl));
        assert_eq!(shortened(Expiry::Never, 0.5), Expiry::Never);
        assert!(matches!(shortened(Expiry::After(Duration::MAX), 1.0), Expiry::After(_)));
    }
}
