//! Locks that expire.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::handle::Kv;
use crate::BoxFuture;
use crate::capability::Capability;
use crate::clock::Clock;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{DeleteOptions, SetOptions, SetOutcome, When};
use crate::store::KvStore;
use crate::version::Version;

impl Kv {
    /// Takes a lock for `ttl`: awaited, it gives the [`Lock`], or `None` where another holds it.
    ///
    /// The lock is an entry of its own under the key, which expires: a holder that ends without releasing it keeps others
    /// out for `ttl` at most. **It is no fence.** A holder that was paused for longer than `ttl` does not know that
    /// another holds the lock by now; what must not be done twice is written under a condition as well.
    ///
    /// # Errors
    /// `Unsupported` without the locks capability: the store may evict the lock, or has no conditions or versions.
    /// `Indeterminate` where the lock may have been taken; it then frees itself after `ttl`.
    ///
    /// # Cancel safety
    /// After a dropped future the lock may have been taken; it then frees itself after `ttl`.
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

/// The taking of a lock, which happens when it is awaited.
#[derive(Debug)]
#[must_use = "no lock is taken until this is awaited"]
pub struct Acquire<'kv> {
    kv: &'kv Kv,
    key: Result<Key>,
    ttl: Duration,
    wait: Duration,
}

impl Acquire<'_> {
    /// The first pause between two tries; each is twice as long as the one before, up to [`Self::LONGEST_PAUSE`].
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_millis(500);

    /// Waits for this long at most, by the handle's clock, while another holds the lock. It asks again after growing
    /// pauses; who waits longest is not served first.
    pub fn wait(mut self, max: Duration) -> Self {
        self.wait = max;
        self
    }

    async fn run(self) -> Result<Option<Lock>> {
        let Self { kv, key, ttl, wait } = self;
        let key = key?;
        kv.info().capabilities.require(Capability::Locks)?;
        let give_up = kv.clock.now().checked_add(wait);
        let mut pause = Self::FIRST_PAUSE;
        loop {
            if let Some(lock) = Lock::take(kv, &key, ttl).await? {
                return Ok(Some(lock));
            }
            let left = match give_up {
                Some(moment) => moment.duration_since(kv.clock.now()).unwrap_or_default(),
                None => Duration::MAX,
            };
            if left.is_zero() {
                return Ok(None);
            }
            // A random part, so that those who wait do not keep asking at the same moment.
            kv.clock.sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>()).min(left)).await;
            pause = (pause * 2).min(Self::LONGEST_PAUSE);
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

/// A lock that is held until it is released or expires. It is no fence: see [`Kv::lock`].
///
/// Dropping it releases it in the background where a tokio runtime is running, and leaves it to expire where none is;
/// [`Lock::release`] waits for the release and tells what came of it.
#[derive(Debug)]
#[must_use = "a dropped lock is released"]
pub struct Lock {
    store: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    key: Key,
    token: Bytes,
    /// The version of our last write; `None` when that write is indeterminate.
    version: Option<Version>,
    /// When the lock expires at the earliest, counted from before the write; `None` is never.
    expires_at: Option<SystemTime>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Held,
    /// A renewal found that it is another's or nobody's.
    Lost,
    Released,
}

impl Lock {
    /// The key of the lock.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The random text that is stored as the lock's value and tells this holder from every other.
    pub fn token(&self) -> &str {
        std::str::from_utf8(&self.token).unwrap_or_default()
    }

    /// Whether the lock has expired by the handle's clock, or a renewal found it lost. `false` is no promise: the store's
    /// clock may run ahead, and the next moment may be too late.
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost || self.expires_at.is_some_and(|moment| moment <= self.clock.now())
    }

    /// Holds the lock for `ttl` from now on, and tells whether it was still held. Once it was not, it never is again.
    ///
    /// # Errors
    /// What the store gives; the lock is held until its old deadline then. `Indeterminate` where it may have been renewed.
    ///
    /// # Cancel safety
    /// After a dropped future the lock is held until its old deadline at least, or the new one where that is sooner.
    pub async fn renew(&mut self, ttl: Duration) -> Result<bool> {
        if self.state != State::Held {
            return Ok(false);
        }
        let options = SetOptions::default().with_expiry(Expiry::After(ttl)).with_when(self.is_ours());
        let (before, renewed) = (self.expires_at, self.clock.now().checked_add(ttl));
        // Whatever becomes of this future or its write, the token tells what is ours and the sooner deadline is safe.
        self.version = None;
        self.expires_at = sooner(before, renewed);
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

    /// Releases the lock if it is still held, and tells whether it was. A lock that another took meanwhile stays.
    ///
    /// # Errors
    /// What the store gives; the lock frees itself at its deadline then.
    ///
    /// # Cancel safety
    /// After a dropped future the lock is released in the background, as when it is dropped.
    pub async fn release(mut self) -> Result<bool> {
        if self.state != State::Held {
            return Ok(false);
        }
        let options = DeleteOptions::default().with_when(self.is_ours());
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

    /// The condition that the entry is this lock's: its last version or, after a write in doubt, its token.
    fn is_ours(&self) -> When {
        match self.version {
            Some(version) => When::Version(version),
            None => When::Value(self.token.clone()),
        }
    }
}

fn sooner(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.state != State::Held {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let options = DeleteOptions::default().with_when(self.is_ours());
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        // Nobody is there to hear of a failure: the lock frees itself at its deadline.
        runtime.spawn(async move { store.delete(&key, &options).await });
    }
}
