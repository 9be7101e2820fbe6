//! The connections that read, on the caller's own thread: a hop to another one costs more than a read.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::error;
use crate::schema::Place;

/// A connection that the writer and the readers of a store in memory share.
pub(crate) type SharedConnection = Arc<Mutex<Connection>>;

/// What reads.
#[derive(Debug)]
pub(crate) enum Readers {
    /// Connections beside the writer's.
    Pool(Pool),
    /// The one connection that a store in memory has.
    One(SharedConnection),
}

impl Readers {
    /// Reads by a free connection. It waits for one only while others read, which takes no longer than a page.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        match self {
            Self::Pool(pool) => {
                let mut borrowed = pool.borrow()?;
                let Some(connection) = &borrowed.connection else { return Err(Error::closed()) };
                let outcome = read(connection);
                // What failed may have left the connection in any state; a new one is opened in its place.
                borrowed.is_sound = outcome.is_ok();
                outcome
            }
            Self::One(connection) => read(&connection.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Closes the connections that are free, and the others as they come back.
    pub(crate) fn close(&self) {
        if let Self::Pool(pool) = self {
            let mut state = pool.state();
            state.is_closed = true;
            state.free.clear();
            pool.returned.notify_all();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pool {
    place: Place,
    most: usize,
    patience: Duration,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Connection>,
    /// How many there are, free or not.
    open: usize,
    is_closed: bool,
}

impl Pool {
    pub(crate) fn new(place: Place, most: usize, patience: Duration) -> Self {
        Self { place, most: most.max(1), patience, state: Mutex::default(), returned: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn borrow(&self) -> Result<Borrowed<'_>> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return Err(Error::closed());
            }
            if let Some(connection) = state.free.pop() {
                return Ok(Borrowed { pool: self, connection: Some(connection), is_sound: false });
            }
            if state.open < self.most {
                state.open += 1;
                drop(state);
                let mut borrowed = Borrowed { pool: self, connection: None, is_sound: false };
                borrowed.connection = Some(self.place.open_reader().map_err(error::read)?);
                return Ok(borrowed);
            }
            let (next, waited) =
                self.returned.wait_timeout(state, self.patience).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() {
                return Err(Error::unavailable(format!("no connection was free for {:?}", self.patience)));
            }
        }
    }
}

/// A connection on loan. It comes back when this is dropped, also by a panic or a future that is dropped.
struct Borrowed<'p> {
    pool: &'p Pool,
    connection: Option<Connection>,
    is_sound: bool,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        match self.connection.take() {
            Some(connection) if self.is_sound && !state.is_closed => state.free.push(connection),
            _ => state.open -= 1,
        }
        self.pool.returned.notify_one();
    }
}
