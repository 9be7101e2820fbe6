//! Single-flight: one running load for each key, shared by all its callers.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::key::Key;

type Cell = Arc<OnceCell<Bytes>>;

/// The running loads by stored key. Clones share the same loads.
#[derive(Clone, Default)]
pub(super) struct SingleFlight {
    cells: Arc<Mutex<HashMap<Key, Cell>>>,
}

impl SingleFlight {
    /// Joins the running load of a key, or starts one.
    pub(super) fn join(&self, key: Key) -> Call {
        let cell = Arc::clone(self.cells().entry(key.clone()).or_default());
        Call { loads: self.clone(), key, cell }
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<Key, Cell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_if(&self, call: &Call, condition: impl FnOnce(&Cell) -> bool) {
        let mut cells = self.cells();
        if cells.get(&call.key).is_some_and(|cell| Arc::ptr_eq(cell, &call.cell) && condition(cell)) {
            cells.remove(&call.key);
        }
    }
}

/// Shows only the number of loads, because keys may be secrets.
impl fmt::Debug for SingleFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").field("len", &self.cells().len()).finish_non_exhaustive()
    }
}

/// One caller's part in the load of a key. The last caller to leave removes the load, also when its future is dropped.
pub(super) struct Call {
    loads: SingleFlight,
    key: Key,
    cell: Cell,
}

impl Call {
    /// Returns the loaded value. If no other caller is loading, this caller runs `load`; otherwise it waits. If the
    /// running load fails or is dropped, the next waiting caller runs its own `load`.
    pub(super) async fn run<E>(&self, load: impl Future<Output = Result<Bytes, E>>) -> Result<Bytes, E> {
        let load = async {
            let loaded = load.await?;
            // Later callers must read the store: the loaded value may have been removed since.
            self.loads.remove_if(self, |_| true);
            Ok(loaded)
        };
        self.cell.get_or_try_init(|| load).await.cloned()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Callers join and leave under the lock, so the count is exact: one for the map and one for this caller.
        self.loads.remove_if(self, |cell| Arc::strong_count(cell) == 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_caller_to_leave_removes_the_load() {
        let loads = SingleFlight::default();
        let key = Key::new(["k"]).unwrap();
        let (first, second) = (loads.join(key.clone()), loads.join(key.clone()));
        drop(first);
        assert_eq!(loads.cells().len(), 1);
        drop(second);
        assert!(loads.cells().is_empty());

        let failed = loads.join(key.clone()).run(async { Err::<Bytes, _>("no") }).await;
        assert_eq!(failed, Err("no"));
        assert!(loads.cells().is_empty());
    }

    #[tokio::test]
    async fn a_finished_load_is_not_joined() {
        let loads = SingleFlight::default();
        let key = Key::new(["k"]).unwrap();
        let lingering = loads.join(key.clone());
        assert_eq!(lingering.run(async { Ok::<_, ()>("old".into()) }).await.unwrap(), "old");
        assert_eq!(loads.join(key).run(async { Ok::<_, ()>("new".into()) }).await.unwrap(), "new");
        drop(lingering);
        assert!(loads.cells().is_empty());
    }
}
