//! The running loads by key.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::fence::Fence;
use super::waits::{CURRENT, LoadId, Wait};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyPrefix};

/// The running loads by key. Clones share the same loads.
///
/// - The first caller of a key starts its load; callers that come while it runs get the same value or the same error.
/// - A load runs in a task of its own. It goes on if its callers are dropped or no longer polled (clause A-2).
/// - A load that waits for itself, directly or through other loads of the process, fails with `Invalid`. A loader that
///   waits through a task that it spawned itself is not recognised; its load ends at the deadline.
/// - A panic of the loader is an error of its callers alone.
pub struct Flights<V> {
    shared: Arc<Shared<V>>,
}

struct Shared<V> {
    running: Mutex<HashMap<Key, Flight<V>>>,
    /// The length of `running`, which writers read without the lock.
    len: AtomicUsize,
}

struct Flight<V> {
    id: LoadId,
    fence: Fence,
    result: watch::Receiver<Option<Result<V>>>,
}

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    /// The most loads that run at once. One more fails with `Capacity`.
    pub const MAX_LOADS: usize = 10_000;

    /// The longest time that a load may take.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// Joins the running load of a key, or starts one with `load`. The load must store its value inside of
    /// [`Fence::store`].
    ///
    /// # Errors
    /// The load's own error, which all its callers share. `Load` if the loader panicked or took longer than
    /// [`Flights::DEADLINE`] on `clock`, `Invalid` if the load waits for itself, `Capacity` if too many loads are
    /// running, and `Unavailable` outside of a tokio runtime or if the runtime ends.
    ///
    /// # Cancel safety
    /// If the future is dropped, the load goes on.
    pub async fn run<F>(&self, key: &Key, clock: &Arc<dyn Clock>, load: impl FnOnce(Fence) -> F) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let (mut result, wait) = {
            let mut running = self.running();
            match running.get(key) {
                Some(flight) => (flight.result.clone(), Wait::begin(flight.id)?),
                None if running.len() >= Self::MAX_LOADS => {
                    return Err(Error::capacity(format!("{} loads are running already", Self::MAX_LOADS)));
                }
                None => {
                    let runtime =
                        Handle::try_current().map_err(|_| Error::unavailable("a load needs a tokio runtime"))?;
                    let id = LoadId::next();
                    // A load that starts another one waits for it, too.
                    let wait = Wait::begin(id)?;
                    let (sender, result) = watch::channel(None);
                    let fence = Fence::default();
                    let entry = Entry { flights: self.clone(), key: key.clone(), id };
                    let work = bounded(load(fence.clone()), Arc::clone(clock));
                    runtime.spawn(CURRENT.scope(id, async move {
                        let loaded = work.await;
                        // Later callers must read the store: the value may have been removed since.
                        drop(entry);
                        // Callers that are gone need no result.
                        let _ = sender.send(Some(loaded));
                    }));
                    running.insert(key.clone(), Flight { id, fence, result: result.clone() });
                    self.shared.len.store(running.len(), Ordering::Release);
                    (result, wait)
                }
            }
        };
        let loaded = result.wait_for(Option::is_some).await.map(|loaded| loaded.clone());
        drop(wait);
        match loaded {
            Ok(Some(loaded)) => loaded,
            Ok(None) | Err(_) => Err(Error::unavailable("the runtime of the load has ended")),
        }
    }

    /// Forbids running loads of a key to store their values: call it before the key is written or removed. Callers that
    /// come later start a load of their own.
    pub async fn fence(&self, key: &Key) {
        if !self.is_idle() {
            let flight = self.remove_if(key, |_| true);
            if let Some(flight) = flight {
                flight.fence.raise().await;
            }
        }
    }

    /// As [`Flights::fence`], for every key that the prefix covers.
    pub async fn fence_prefix(&self, prefix: &KeyPrefix) {
        if self.is_idle() {
            return;
        }
        let covered: Vec<Key> = self.running().keys().filter(|key| prefix.covers(key)).cloned().collect();
        for key in &covered {
            self.fence(key).await;
        }
    }

    /// True if no load is running.
    pub fn is_idle(&self) -> bool {
        self.shared.len.load(Ordering::Acquire) == 0
    }
}

impl<V> Flights<V> {
    fn running(&self) -> MutexGuard<'_, HashMap<Key, Flight<V>>> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_if(&self, key: &Key, condition: impl FnOnce(&Flight<V>) -> bool) -> Option<Flight<V>> {
        let mut running = self.running();
        if !running.get(key).is_some_and(condition) {
            return None;
        }
        let flight = running.remove(key);
        self.shared.len.store(running.len(), Ordering::Release);
        flight
    }
}

/// Ends a load at its deadline, and turns a panic into an error.
async fn bounded<V>(load: impl Future<Output = Result<V>> + Send, clock: Arc<dyn Clock>) -> Result<V> {
    let deadline = Flights::<()>::DEADLINE;
    let load = Box::pin(AssertUnwindSafe(load).catch_unwind());
    match select(load, clock.sleep(deadline)).await {
        Either::Left((Ok(loaded), _)) => loaded,
        Either::Left((Err(_panic), _)) => Err(Error::new(ErrorKind::Load, "the loader panicked")),
        Either::Right(_) => Err(Error::new(ErrorKind::Load, format!("the loader took longer than {deadline:?}"))),
    }
}

/// The entry of a load in the map. Dropping it removes the entry, also when the load's task is cancelled.
struct Entry<V> {
    flights: Flights<V>,
    key: Key,
    id: LoadId,
}

impl<V> Drop for Entry<V> {
    fn drop(&mut self) {
        self.flights.remove_if(&self.key, |flight| flight.id == self.id);
    }
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { running: Mutex::default(), len: AtomicUsize::new(0) }) }
    }
}

impl<V> Clone for Flights<V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Shows only the number of loads, because keys may be secrets.
impl<V> fmt::Debug for Flights<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.shared.len.load(Ordering::Acquire);
        f.debug_struct("Flights").field("len", &len).finish_non_exhaustive()
    }
}
