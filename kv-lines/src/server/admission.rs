//! The admission of connections. A peer that has not sent a correct `hello` takes no place of a session, and is
//! disconnected if newer connections need its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinHandle};

/// The places of a server. Clones share the places.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One permit for each session.
    sessions: Arc<Semaphore>,
    /// One permit for each connection that is not a session yet.
    waiting: Arc<Semaphore>,
    strangers: Mutex<Strangers>,
}

/// The tasks of the connections without a correct `hello`, from the oldest to the newest.
#[derive(Debug, Default)]
struct Strangers {
    next: u64,
    /// `None` until the task is spawned.
    tasks: BTreeMap<u64, Option<AbortHandle>>,
}

impl Admission {
    pub(super) fn new(sessions: usize, waiting: usize) -> Self {
        let (sessions, waiting) = (Arc::new(Semaphore::new(sessions)), Arc::new(Semaphore::new(waiting)));
        Self { shared: Arc::new(Shared { sessions, waiting, strangers: Mutex::default() }) }
    }

    /// Spawns the task of a connection. If too many connections wait, disconnects the oldest connection that has not
    /// sent `hello`. If all waiting connections have sent `hello`, waits until one of them becomes a session.
    pub(super) async fn spawn<F>(&self, serve: impl FnOnce(Stranger) -> F + Send) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.shared.waiting.available_permits() == 0 {
            self.shared.disconnect_oldest();
        }
        // The semaphore is never closed.
        let place = Arc::clone(&self.shared.waiting).acquire_owned().await.ok();
        let id = self.shared.strangers().add();
        let stranger = Stranger { shared: Arc::clone(&self.shared), id, _place: place };
        let task = tokio::spawn(serve(stranger));
        // The task may have been admitted or may have ended meanwhile.
        if let Some(handle) = self.shared.strangers().tasks.get_mut(&id) {
            *handle = Some(task.abort_handle());
        }
        task
    }
}

impl Shared {
    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disconnect_oldest(&self) {
        let oldest = {
            let mut strangers = self.strangers();
            let oldest = strangers.tasks.iter().find(|(_, task)| task.is_some()).map(|(id, _)| *id);
            oldest.and_then(|id| strangers.tasks.remove(&id)).flatten()
        };
        if let Some(task) = oldest {
            task.abort();
        }
    }
}

impl Strangers {
    fn add(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        self.tasks.insert(id, None);
        id
    }
}

/// A connection that has not sent a correct `hello`.
#[derive(Debug)]
pub(super) struct Stranger {
    shared: Arc<Shared>,
    id: u64,
    _place: Option<OwnedSemaphorePermit>,
}

impl Stranger {
    /// Waits for the place of a session, after a correct `hello`. The connection is no longer disconnected in favour of
    /// newer connections. The connection keeps its place among the waiting connections until it becomes a session.
    pub(super) async fn admit(self) -> Option<OwnedSemaphorePermit> {
        self.shared.strangers().tasks.remove(&self.id);
        // The semaphore is never closed.
        Arc::clone(&self.shared.sessions).acquire_owned().await.ok()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.shared.strangers().tasks.remove(&self.id);
    }
}
