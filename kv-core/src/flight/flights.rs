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
use super::writes::{Target, Writes, Writing};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyPrefix};

/// The running loads by key. Clones share the same loads.
///
/// - The first caller of a key starts the load. Callers that come while the load runs get the same value or the same
///   error.
/// - A load runs in its own task. The load continues if its callers are dropped or no longer polled (clause A-2).
/// - A load that waits for itself, directly or through other loads of the process, fails with `Invalid`. A wait in a
///   task that the loader itself has spawned is not recognised. Such a load ends at the deadline.
/// - If a loader panics, only the callers of this load get an error.
pub struct Flights<V> {
    shared: Arc<Shared<V>>,
}

struct Shared<V> {
    running: Mutex<Running<V>>,
    /// The number of running loads, which writers read without the lock.
    len: AtomicUsize,
}

/// All running loads and writes. A key has several loads if it was written while the earlier loads ran. The earlier
/// loads stay in the map until they end, because each further write must wait if an earlier load is storing its value.
///
/// No code of a caller runs under the lock of this map: neither the loader nor the drop of its task.
struct Running<V> {
    loads: HashMap<Key, Vec<Flight<V>>>,
    writes: Writes,
}

struct Flight<V> {
    id: LoadId,
    fence: Fence,
    /// True until a write of the key begins or ends.
    is_joinable: bool,
    result: Receiver<V>,
}

/// Receives the result of a load.
type Receiver<V> = watch::Receiver<Option<Result<V>>>;

impl<V: Clone + Send + Sync + 'static> Flights<V> {
    /// The maximum number of loads that run at once. One more load fails with `Capacity`.
    pub const MAX_LOADS: usize = 10_000;

    /// The timeout of a load.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// Joins the running load of a key, or starts a load with `load`. The load must store its value inside of
    /// [`Fence::store`].
    ///
    /// # Errors
    /// The error of the load, which all callers of the load share. `Load` if the loader panicked or took longer than
    /// [`Flights::DEADLINE`] on `clock`, `Invalid` if the load waits for itself, `Capacity` if too many loads are
    /// running, and `Unavailable` outside of a tokio runtime or if the runtime ends.
    ///
    /// # Cancel safety
    /// If the future is dropped, the load continues.
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

    /// Prevents running loads of a key from storing their values. Call this method before the key is written or
    /// removed. The method waits for a load that is already storing its value. Later callers start a new load.
    ///
    /// # Cancel safety
    /// If the future is dropped, the loads still cannot start to store, and a later call waits for a load that is
    /// storing.
    pub async fn fence(&self, key: &Key) {
        if !self.is_idle() {
            let fences = self.running().raise(&Target::Keys(vec![key.clone()]));
            settled(fences).await;
        }
    }

    /// Fences as [`Flights::fence`] does, for every key that the prefix covers.
    pub async fn fence_prefix(&self, prefix: &KeyPrefix) {
        if !self.is_idle() {
            let fences = self.running().raise(&Target::Prefix(prefix.clone()));
            settled(fences).await;
        }
    }

    /// Fences as [`Flights::fence`] does, for a write on a store without conditions: a load that begins before the
    /// returned guard is dropped also does not store its value. On such a store, the load would overwrite the newer
    /// value. Drop the guard when the write has ended.
    ///
    /// # Cancel safety
    /// The same as for [`Flights::fence`].
    pub async fn write(&self, keys: Vec<Key>) -> Writing<V> {
        self.begin_write(Target::Keys(keys)).await
    }

    /// Fences as [`Flights::write`] does, for every key that the prefix covers.
    pub async fn write_prefix(&self, prefix: KeyPrefix) -> Writing<V> {
        self.begin_write(Target::Prefix(prefix)).await
    }

    async fn begin_write(&self, target: Target) -> Writing<V> {
        let (writing, fences) = {
            let mut running = self.running();
            running.writes.begin(&target);
            let fences = running.raise(&target);
            (Writing::new(self.clone(), target), fences)
        };
        settled(fences).await;
        writing
    }

    /// True if no load is running.
    pub fn is_idle(&self) -> bool {
        self.len() == 0
    }

    /// Joins the running load of a key, or registers a new load.
    fn join(&self, key: &Key) -> Result<Joined<V>> {
        let mut running = self.running();
        if let Some(flight) = running.loads.get(key).into_iter().flatten().find(|flight| flight.is_joinable) {
            return Ok(Joined::Running(flight.result.clone(), Wait::begin(flight.id)?));
        }
        let len = self.len();
        if len >= Self::MAX_LOADS {
            return Err(Error::capacity(format!("{len} loads are running already")));
        }
        let runtime = Handle::try_current().map_err(|_| Error::unavailable("a load needs a tokio runtime"))?;
        let (id, fence) = (LoadId::next(), Fence::default());
        // A load that starts another load also waits for that load.
        let wait = Wait::begin(id)?;
        let (sender, result) = watch::channel(None);
        if running.writes.covers(key) {
            fence.raise();
        }
        let flight = Flight { id, fence: fence.clone(), is_joinable: true, result: result.clone() };
        running.loads.entry(key.clone()).or_default().push(flight);
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
        let flights = running.loads.get_mut(key)?;
        let position = flights.iter().position(|flight| flight.id == id)?;
        let removed = flights.swap_remove(position);
        if flights.is_empty() {
            running.loads.remove(key);
        }
        self.shared.len.store(self.len().saturating_sub(1), Ordering::Release);
        Some(removed)
    }

    /// Ends a write. Later callers must not join the loads that began while the write ran.
    pub(super) fn end_write(&self, target: &Target) {
        let mut running = self.running();
        running.writes.end(target);
        running.for_each(target, |flight| flight.is_joinable = false);
    }
}

impl<V> Running<V> {
    /// Calls a function for each load of the written keys.
    fn for_each(&mut self, target: &Target, mut each: impl FnMut(&mut Flight<V>)) {
        match target {
            Target::Keys(keys) => {
                for key in keys {
                    self.loads.get_mut(key).into_iter().flatten().for_each(&mut each);
                }
            }
            Target::Prefix(prefix) => {
                let covered = self.loads.iter_mut().filter(|(key, _)| prefix.covers(key));
                covered.flat_map(|(_, flights)| flights).for_each(each);
            }
        }
    }

    /// Prevents the loads of the written keys from storing their values, and later callers from joining them. Returns
    /// the fences of the loads that are already storing their values.
    fn raise(&mut self, target: &Target) -> Vec<Fence> {
        let mut storing = Vec::new();
        self.for_each(target, |flight| {
            flight.is_joinable = false;
            if flight.fence.raise() {
                storing.push(flight.fence.clone());
            }
        });
        storing
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

/// A load that is registered but does not run yet.
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
    // The drop of the load at its deadline may panic. A clock without a timer may panic, too.
    let ended = async {
        match select(Box::pin(load), clock.sleep(deadline)).await {
            Either::Left((loaded, _)) => loaded,
            Either::Right(_) => Err(Error::new(ErrorKind::Load, format!("the loader took longer than {deadline:?}"))),
        }
    };
    AssertUnwindSafe(ended).catch_unwind().await.unwrap_or_else(|_panic| Err(panicked()))
}

fn panicked() -> Error {
    Error::new(ErrorKind::Load, "the loader panicked, or the clock that measures its deadline panicked")
}

/// The entry of a load in the map. Dropping it removes the entry, even if the load's task is cancelled.
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
        // If all callers were dropped, nothing needs the result.
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
        let running = Running { loads: HashMap::new(), writes: Writes::default() };
        Self { shared: Arc::new(Shared { running: Mutex::new(running), len: AtomicUsize::new(0) }) }
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
            // `a` waits for itself, which is an error, and for two other loads.
            Ok(futures_util::future::join_all(needs).await.iter().flatten().sum())
        };
        assert_eq!(flights.run(&keys[0], &clock, load).await.unwrap(), 2);
        assert!(flights.running().loads.is_empty());
        assert_eq!(waits::edges(), 0);
    }
}
