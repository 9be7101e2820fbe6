//! The connections that read. A read runs on the caller's thread, because moving it to another thread costs more than
//! the read itself.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::connection::DatabaseFile;
use crate::error;

/// The one connection of a store in memory, which writer and readers share.
pub(crate) type SharedConnection = Arc<Mutex<Connection>>;

/// The source of connections for reads.
#[derive(Debug)]
pub(crate) enum Readers {
    /// Connections of their own, for a file.
    Pool(Pool),
    /// The writer's connection, for a store in memory.
    Shared(SharedConnection),
}

impl Readers {
    /// Reads with a free connection. If all are in use, blocks the thread until a read of another thread ends; a read
    /// lasts no longer than one page of a list.
    ///
    /// # Errors
    /// `Closed` after [`close`](Self::close), `Unavailable` if no connection is free in time, and the errors of `read`.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        match self {
            Self::Pool(pool) => {
                let mut borrowed = pool.borrow()?;
                let Some(connection) = &borrowed.connection else { return Err(Error::closed()) };
                let outcome = read(connection);
                // A failed read may leave the connection in any state, so that it is replaced.
                borrowed.is_sound = outcome.is_ok();
                outcome
            }
            Self::Shared(connection) => read(&connection.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Closes the free connections now, and the others when they are returned.
    pub(crate) fn close(&self) {
        if let Self::Pool(pool) = self {
            let mut state = pool.state();
            state.is_closed = true;
            state.free.clear();
            pool.returned.notify_all();
        }
    }
}

/// A pool of reading connections, which are opened on demand.
#[derive(Debug)]
pub(crate) struct Pool {
    database: DatabaseFile,
    max_open: usize,
    timeout: Duration,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<Connection>,
    /// The number of connections, free or borrowed.
    open: usize,
    is_closed: bool,
}

impl Pool {
    pub(crate) fn new(database: DatabaseFile, max_open: usize, timeout: Duration) -> Self {
        Self { database, max_open: max_open.max(1), timeout, state: Mutex::default(), returned: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
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
            if state.open < self.max_open {
                state.open += 1;
                drop(state);
                let mut borrowed = Borrowed { pool: self, connection: None, is_sound: false };
                borrowed.connection = Some(self.database.open_reader().map_err(error::read)?);
                return Ok(borrowed);
            }
            let (next, waited) =
                self.returned.wait_timeout(state, self.timeout).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() {
                return Err(Error::unavailable(format!("no connection was free within {:?}", self.timeout)));
            }
        }
    }
}

/// A borrowed connection. Dropping it returns the connection, also after a panic or when a future is dropped.
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
