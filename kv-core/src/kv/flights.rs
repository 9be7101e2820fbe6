//! The loads under way: one a key, whoever asks.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::key::Key;

type Cell = Arc<OnceCell<Bytes>>;

/// The loads under way by stored key; clones are one set.
#[derive(Clone, Default)]
pub(super) struct Flights {
    cells: Arc<Mutex<HashMap<Key, Cell>>>,
}

impl Flights {
    /// Joins the load of a key that is under way, or begins one.
    pub(super) fn join(&self, key: Key) -> Flight {
        let cell = Arc::clone(self.cells().entry(key.clone()).or_default());
        Flight { flights: self.clone(), key, cell }
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<Key, Cell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_if(&self, flight: &Flight, is_due: impl FnOnce(&Cell) -> bool) {
        let mut cells = self.cells();
        if cells.get(&flight.key).is_some_and(|cell| Arc::ptr_eq(cell, &flight.cell) && is_due(cell)) {
            cells.remove(&flight.key);
        }
    }
}

/// How many there are; their keys may be secrets.
impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.cells().len()).finish_non_exhaustive()
    }
}

/// A seat in the load of one key. The last to leave takes it off the list, also when its future was dropped.
pub(super) struct Flight {
    flights: Flights,
    key: Key,
    cell: Cell,
}

impl Flight {
    /// Gives what was loaded: by `load`, unless somebody else loads, who is then waited for. Where that one fails or is
    /// dropped, the next who waits goes on with its own `load`.
    pub(super) async fn land<E>(&self, load: impl Future<Output = Result<Bytes, E>>) -> Result<Bytes, E> {
        let load = async {
            let loaded = load.await?;
            // Who comes from now on reads the store, and is not told what somebody may have removed since.
            self.flights.remove_if(self, |_| true);
            Ok(loaded)
        };
        self.cell.get_or_try_init(|| load).await.cloned()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Seats are taken and left under the lock, so the count is exact: the list's own and this one.
        self.flights.remove_if(self, |cell| Arc::strong_count(cell) == 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_when_the_last_one_leaves() {
        let flights = Flights::default();
        let key = Key::new(["k"]).unwrap();
        let (one, other) = (flights.join(key.clone()), flights.join(key.clone()));
        drop(one);
        assert_eq!(flights.cells().len(), 1);
        drop(other);
        assert!(flights.cells().is_empty());

        let failed = flights.join(key.clone()).land(async { Err::<Bytes, _>("no") }).await;
        assert_eq!(failed, Err("no"));
        assert!(flights.cells().is_empty());
    }

    #[tokio::test]
    async fn a_finished_load_is_not_joined_any_more() {
        let flights = Flights::default();
        let key = Key::new(["k"]).unwrap();
        let lingering = flights.join(key.clone());
        assert_eq!(lingering.land(async { Ok::<_, ()>("old".into()) }).await.unwrap(), "old");
        assert_eq!(flights.join(key).land(async { Ok::<_, ()>("new".into()) }).await.unwrap(), "new");
        drop(lingering);
        assert!(flights.cells().is_empty());
    }
}
