//! The connections for reads.
//!
//! A read runs on the caller's thread, because moving a read to another thread costs more than the read itself.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::Connection;

use crate::connection::DatabaseFile;
use crate::error::read_error;

/// A connection behind a lock. A store in memory has only one connection, which the writer and the readers share.
pub(crate) type SharedConnection = Arc<Mutex<Connection>>;

/// The source of connections for reads.
#[derive(Debug)]
pub(crate) enum Readers {
    /// Separate connections, for a store in a file.
    Pool(Pool),
    /// The writer's connection, for a store in memory.
    Shared(SharedConnection),
}

impl Readers {
    /// Runs `read` with a free connection.
    ///
    /// If all connections are in use, this blocks the thread until another read ends or the timeout passes.
    ///
    /// # Errors
    /// `Closed` after [`close`](Self::close), `Unavailable` if no connection is free within the timeout, and the errors
    /// of `read`.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        match self {
            Self::Pool(pool) => {
                let mut borrowed = pool.borrow()?;
                let Some(connection) = &borrowed.connection else { return Err(Error::closed()) };
                let outcome = read(connection);
                // A failed read may leave the connection in any state, so this connection is not used again.
                borrowed.is_sound = outcome.is_ok();
                outcome
            }
            Self::Shared(connection) => read(&connection.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Closes the free connections now, and each borrowed connection when it is returned.
    pub(crate) fn close(&self) {
        if let Self::Pool(pool) = self {
            let mut state = pool.state();
            state.is_closed = true;
            state.free.clear();
            pool.returned.notify_all();
        }
    }
}

/// A pool of connections for reads, which are opened on demand.
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
    /// The number of open connections, free or borrowed.
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

    /// Opens a connection to the file that the writer has open. If another file is at the path, fails before SQLite
    /// opens that file.
    fn open(&self) -> Result<Connection> {
        let open = || {
            self.database.check_in_place()?;
            let connection = self.database.open_reader().map_err(read_error)?;
            self.database.check_in_place()?;
            Ok(connection)
        };
        // Closing the store removes the log.
        open().map_err(|error| if self.state().is_closed { Error::closed() } else { error })
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
                borrowed.connection = Some(self.open()?);
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

/// A borrowed connection. Dropping this returns the connection to the pool, even after a panic.
struct Borrowed<'p> {
    pool: &'p Pool,
    connection: Option<Connection>,
    /// True if the connection may be used again.
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
