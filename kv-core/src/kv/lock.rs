//! Locks with a time to live.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::handle::Kv;
use crate::BoxFuture;
use crate::capability::Capability;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{DeleteOptions, SetOptions, SetOutcome, When};
use crate::store::KvStore;
use crate::version::Version;

impl Kv {
    /// Takes a lock for `ttl`. Awaiting the builder returns the [`Lock`], or `None` if another holder has it.
    ///
    /// The lock is an entry under the key, and it expires. A holder that ends without releasing the lock blocks others
    /// for at most `ttl`. **The lock is not a fencing token.** A holder that is paused for longer than `ttl` does not
    /// notice that another holder has taken the lock. Protect critical writes with a condition as well.
    ///
    /// # Errors
    /// `Invalid` for a `ttl` of zero. `Unsupported` without the locks capability: the store may evict entries, or lacks
    /// conditions or versions. `Indeterminate` if the lock may have been taken. Such a lock expires after `ttl`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock may have been taken. Such a lock expires after `ttl`.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// if let Some(lock) = kv.lock(["jobs", "nightly"], Duration::from_secs(30)).await? {
    ///     assert!(kv.lock(["jobs", "nightly"], Duration::from_secs(30)).await?.is_none());
    ///     lock.release().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self, key: impl IntoKey, ttl: Duration) -> Acquire<'_> {
        Acquire { kv: self, key: key.into_key(), ttl, wait: Duration::ZERO }
    }
}

/// An attempt to take a lock, made when it is awaited.
#[derive(Debug)]
#[must_use = "no lock is taken until this is awaited"]
pub struct Acquire<'kv> {
    kv: &'kv Kv,
    key: Result<Key>,
    ttl: Duration,
    wait: Duration,
}

impl Acquire<'_> {
    /// The pause after the first failed attempt. Each further pause is twice as long, up to [`Self::MAX_PAUSE`].
    const INITIAL_PAUSE: Duration = Duration::from_millis(10);
    /// The longest pause between two attempts.
    const MAX_PAUSE: Duration = Duration::from_millis(500);

    /// Waits for at most this long, by the handle's clock, while another holder has the lock. The builder polls the
    /// store with growing pauses, so waiting callers are not served in order.
    pub fn wait(mut self, max: Duration) -> Self {
        self.wait = max;
        self
    }

    async fn run(self) -> Result<Option<Lock>> {
        let Self { kv, key, ttl, wait } = self;
        let key = key?;
        check_ttl(&key, ttl)?;
        kv.info().capabilities.require(Capability::Locks)?;
        let deadline = kv.clock.now().checked_add(wait);
        let mut pause = Self::INITIAL_PAUSE;
        loop {
            if let Some(lock) = Lock::take(kv, &key, ttl).await? {
                return Ok(Some(lock));
            }
            let remaining = match deadline {
                Some(deadline) => deadline.duration_since(kv.clock.now()).unwrap_or_default(),
                None => Duration::MAX,
            };
            if remaining.is_zero() {
                return Ok(None);
            }
            // Jitter keeps waiting callers from polling at the same time.
            kv.clock.sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>()).min(remaining)).await;
            pause = (pause * 2).min(Self::MAX_PAUSE);
        }
    }
}

impl<'kv> IntoFuture for Acquire<'kv> {
    type Output = Result<Option<Lock>>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Checks that the time to live is not zero, because a lock that expires at once would be granted to every caller.
fn check_ttl(key: &Key, ttl: Duration) -> Result<()> {
    if ttl.is_zero() {
        return Err(Error::invalid("a lock needs a time to live of more than zero").with_key(key));
    }
    Ok(())
}

/// A lock that is held until it is released or expires. The lock is not a fencing token: see [`Kv::lock`].
///
/// Dropping the lock releases it in the background if a tokio runtime is running. Otherwise, the lock stays until it
/// expires. [`Lock::release`] waits for the release and returns its result.
#[derive(Debug)]
#[must_use = "a dropped lock is released"]
pub struct Lock {
    store: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    key: Key,
    token: Bytes,
    /// The version of this holder's last write; `None` if that write is indeterminate.
    version: Option<Version>,
    /// The earliest time at which the lock expires: the time just before the write plus the time to live. `None` if
    /// that time cannot be represented, so that the lock never expires.
    expires_at: Option<SystemTime>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Held,
    /// A renewal found that the lock was no longer held.
    Lost,
    Released,
}

impl Lock {
    /// Returns the key of the lock.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the random text that is stored as the lock's value and identifies this holder.
    pub fn token(&self) -> &str {
        std::str::from_utf8(&self.token).unwrap_or_default()
    }

    /// True if the lock has expired by the handle's clock, or if a renewal found that the lock was no longer held.
    /// `false` is not a guarantee: the store's clock may be ahead, and the lock may expire right after the call.
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost || self.expires_at.is_some_and(|moment| moment <= self.clock.now())
    }

    /// Extends the lock to `ttl` from now. Returns false if the lock was no longer held. A lost lock stays lost.
    ///
    /// # Errors
    /// The error of the store. After an error, the lock stays held until its old deadline. `Indeterminate` if the
    /// renewal may have happened.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock is held at least until its old or its new deadline, whichever is earlier.
    pub async fn renew(&mut self, ttl: Duration) -> Result<bool> {
        check_ttl(&self.key, ttl)?;
        if self.state != State::Held {
            return Ok(false);
        }
        let options = SetOptions::default().with_expiry(Expiry::After(ttl)).with_when(self.ownership());
        let (before, renewed) = (self.expires_at, self.clock.now().checked_add(ttl));
        // If the future is dropped or the write fails, the token still proves ownership, and the earlier deadline is
        // safe.
        self.version = None;
        self.expires_at = earlier(before, renewed);
        match self.store.set(&self.key, self.token.clone(), &options).await {
            Ok(SetOutcome::Stored { version, previous: _ }) => {
                (self.version, self.expires_at) = (version, renewed);
                Ok(true)
            }
            Ok(SetOutcome::Refused { .. }) => {
                self.state = State::Lost;
                Ok(false)
            }
            Err(error) => {
                if !error.maybe_applied() {
                    self.expires_at = before;
                }
                Err(error.with_key(&self.key))
            }
        }
    }

    /// Releases the lock. Returns false if this holder no longer held the lock. A lock that another holder has taken
    /// stays taken.
    ///
    /// # Errors
    /// The error of the store. After an error, the lock expires at its deadline.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock is released in the background, as when the lock is dropped.
    pub async fn release(mut self) -> Result<bool> {
        if self.state != State::Held {
            return Ok(false);
        }
        let options = DeleteOptions::default().with_when(self.ownership());
        let outcome = self.store.delete(&self.key, &options).await;
        self.state = State::Released;
        Ok(outcome.map_err(|error| error.with_key(&self.key))?.is_deleted())
    }

    async fn take(kv: &Kv, key: &Key, ttl: Duration) -> Result<Option<Self>> {
        let token = Bytes::from(Version::random().to_string());
        let options = SetOptions::default().with_expiry(Expiry::After(ttl)).with_when(When::Absent);
        let expires_at = kv.clock.now().checked_add(ttl);
        let outcome = kv.store.set(key, token.clone(), &options).await.map_err(|error| error.with_key(key))?;
        let SetOutcome::Stored { version, previous: _ } = outcome else { return Ok(None) };
        let (store, clock, key) = (Arc::clone(&kv.store), Arc::clone(&kv.clock), key.clone());
        Ok(Some(Self { store, clock, key, token, version, expires_at, state: State::Held }))
    }

    /// The condition that this holder owns the entry: the version of the last write or, after an indeterminate write,
    /// the token.
    fn ownership(&self) -> When {
        match self.version {
            Some(version) => When::Version(version),
            None => When::Value(self.token.clone()),
        }
    }
}

fn earlier(first: Option<SystemTime>, second: Option<SystemTime>) -> Option<SystemTime> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.min(second)),
        (first, second) => first.or(second),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.state != State::Held {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let options = DeleteOptions::default().with_when(self.ownership());
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        // The result is ignored: after a failure the lock expires at its deadline.
        runtime.spawn(async move { store.delete(&key, &options).await });
    }
}
