//! The running loads by key.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
/// - A load that waits for itself, directly or through other loads of the process, fails with `Invalid`. A wait in a
///   task that the loader itself has spawned is not recognised; such a load ends at the deadline.
/// - If the loader panics, only its callers get an error.
pub struct Flights<V> {
    shared: Arc<Shared<V>>,
}

struct Shared<V> {
    running: Mutex<Running<V>>,
    /// The number of running loads, which writers read without the lock.
    len: AtomicUsize,
}

/// All running loads. A key has several loads if it was written while the earlier loads ran. The earlier loads stay in
/// the map until they end, because each further write must wait if one of them is storing its value.
///
/// No code of a caller runs under the lock of this map: neither the loader nor the drop of its task.
type Running<V> = HashMap<Key, Vec<Flight<V>>>;

struct Flight<V> {
    id: LoadId,
    fence: Fence,
    result: Receiver<V>,
}

/// Receives the result of a load.
type Receiver<V> = watch::Receiver<Option<Result<V>>>;

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    /// The maximum number of loads that run at once. One more load fails with `Capacity`.
    pub const MAX_LOADS: usize = 10_000;

    /// The timeout of a load.
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
        let (mut result, wait) = match self.join(key)? {
            Joined::Running(result, wait) => (result, wait),
            Joined::New(Start { id, fence, entry, sender, result, wait, runtime }) => {
                match catch_unwind(AssertUnwindSafe(|| load(fence))) {
                    Ok(load) => {
                        let work = bounded(load, Arc::clone(clock));
                        // A runtime that has ended drops the task at once, together with the entry and the sender.
                        runtime.spawn(CURRENT.scope(id, async move {
                            let loaded = work.await;
                            entry.end(&sender, loaded);
                        }));
                    }
                    Err(_panic) => entry.end(&sender, Err(panicked())),
                }
                (result, wait)
            }
        };
        let loaded = result.wait_for(Option::is_some).await.map(|loaded| loaded.clone());
        drop(wait);
        match loaded {
            Ok(Some(loaded)) => loaded,
            Ok(None) | Err(_) => Err(Error::unavailable("the runtime of the load has ended")),
        }
    }

    /// Prevents running loads of a key from storing their values. Call it before the key is written or removed. It
    /// waits for a load that is already storing its value. Later callers start a load of their own.
    ///
    /// # Cancel safety
    /// If the future is dropped, the loads still cannot start to store, and a later call waits for a load that is
    /// storing.
    pub async fn fence(&self, key: &Key) {
        if !self.is_idle() {
            let fences: Vec<Fence> = self.running().get(key).into_iter().flatten().filter_map(Flight::raise).collect();
            settled(fences).await;
        }
    }

    /// As [`Flights::fence`], for every key that the prefix covers.
    pub async fn fence_prefix(&self, prefix: &KeyPrefix) {
        if !self.is_idle() {
            let is_covered = |(key, _): &(&Key, &Vec<Flight<V>>)| prefix.covers(key);
            let fences: Vec<Fence> = self
                .running()
                .iter()
                .filter(is_covered)
                .flat_map(|(_, flights)| flights)
                .filter_map(Flight::raise)
                .collect();
            settled(fences).await;
        }
    }

    /// True if no load is running.
    pub fn is_idle(&self) -> bool {
        self.len() == 0
    }

    /// Joins the running load of a key, or registers a new one.
    fn join(&self, key: &Key) -> Result<Joined<V>> {
        let mut running = self.running();
        if let Some(flight) = running.get(key).into_iter().flatten().find(|flight| !flight.fence.is_raised()) {
            return Ok(Joined::Running(flight.result.clone(), Wait::begin(flight.id)?));
        }
        let len = self.len();
        if len >= Self::MAX_LOADS {
            return Err(Error::capacity(format!("{len} loads are running already")));
        }
        let runtime = Handle::try_current().map_err(|_| Error::unavailable("a load needs a tokio runtime"))?;
        let (id, fence) = (LoadId::next(), Fence::default());
        // If a load starts another load, it waits for that load, too.
        let wait = Wait::begin(id)?;
        let (sender, result) = watch::channel(None);
        let flight = Flight { id, fence: fence.clone(), result: result.clone() };
        running.entry(key.clone()).or_default().push(flight);
        self.shared.len.store(len + 1, Ordering::Release);
        let entry = Entry { flights: self.clone(), key: key.clone(), id };
        Ok(Joined::New(Start { id, fence, entry, sender, result, wait, runtime }))
    }
}

impl<V> Flights<V> {
    fn running(&self) -> MutexGuard<'_, Running<V>> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Removes a load. The caller must drop the returned load after it has released the lock.
    fn remove(&self, key: &Key, id: LoadId) -> Option<Flight<V>> {
        let mut running = self.running();
        let flights = running.get_mut(key)?;
        let position = flights.iter().position(|flight| flight.id == id)?;
        let removed = flights.swap_remove(position);
        if flights.is_empty() {
            running.remove(key);
        }
        self.shared.len.store(self.len().saturating_sub(1), Ordering::Release);
        Some(removed)
    }
}

impl<V> Flight<V> {
    /// Prevents the load from storing its value. Returns the fence of the load if the load is already storing its
    /// value.
    fn raise(&self) -> Option<Fence> {
        self.fence.raise().then(|| self.fence.clone())
    }
}

async fn settled(fences: Vec<Fence>) {
    for fence in fences {
        fence.settled().await;
    }
}

/// The part of a caller in a load.
enum Joined<V> {
    Running(Receiver<V>, Wait),
    /// The caller must start the load.
    New(Start<V>),
}

/// A load that is registered and does not run yet.
struct Start<V> {
    id: LoadId,
    fence: Fence,
    entry: Entry<V>,
    sender: watch::Sender<Option<Result<V>>>,
    result: Receiver<V>,
    wait: Wait,
    runtime: Handle,
}

/// Ends a load at its deadline, and turns a panic into an error.
async fn bounded<V>(load: impl Future<Output = Result<V>> + Send, clock: Arc<dyn Clock>) -> Result<V> {
    let deadline = Flights::<()>::DEADLINE;
    // Dropping the load at its deadline may panic, too, and a clock without a timer may panic.
    let ended = async {
        match select(Box::pin(load), clock.sleep(deadline)).await {
            Either::Left((loaded, _)) => loaded,
            Either::Right(_) => Err(Error::new(ErrorKind::Load, format!("the loader took longer than {deadline:?}"))),
        }
    };
    AssertUnwindSafe(ended).catch_unwind().await.unwrap_or_else(|_panic| Err(panicked()))
}

fn panicked() -> Error {
    Error::new(ErrorKind::Load, "the loader panicked, or the clock of its deadline")
}

/// The entry of a load in the map. Dropping it removes the entry, also when the load's task is cancelled.
struct Entry<V> {
    flights: Flights<V>,
    key: Key,
    id: LoadId,
}

impl<V> Entry<V> {
    /// Removes the entry, and then sends the result. After the result is known, new callers must read the store,
    /// because the value may have been removed.
    fn end(self, sender: &watch::Sender<Option<Result<V>>>, loaded: Result<V>) {
        drop(self);
        // If all callers were dropped, no one needs the result.
        let _ = sender.send(Some(loaded));
    }
}

impl<V> Drop for Entry<V> {
    fn drop(&mut self) {
        self.flights.remove(&self.key, self.id);
    }
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { running: Mutex::new(HashMap::new()), len: AtomicUsize::new(0) }) }
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
        f.debug_struct("Flights").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::flight::waits;

    #[tokio::test]
    async fn loads_that_have_ended_leave_neither_an_entry_nor_a_wait() {
        let flights = Flights::<u32>::default();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let keys: Vec<Key> = ["a", "b", "c"].iter().filter_map(|name| Key::new([name]).ok()).collect();
        let (inner, inner_clock, needed) = (flights.clone(), Arc::clone(&clock), keys.clone());
        let load = move |_| async move {
            let needs = needed.iter().map(|key| inner.run(key, &inner_clock, |_| async { Ok(1) }));
            // `a` waits for itself, which is an error, and for two others.
            Ok(futures_util::future::join_all(needs).await.iter().flatten().sum())
        };
        assert_eq!(flights.run(&keys[0], &clock, load).await.unwrap(), 2);
        assert!(flights.running().is_empty());
        assert_eq!(waits::edges(), 0);
    }
}
