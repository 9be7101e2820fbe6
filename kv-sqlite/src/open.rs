//! Opening a store.
//!
//! Opening connects to the database, and starts the writer, the sweeper and the poller.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kv_core::{Clock, Error, Result, StoreInfo, Version};
use tokio::sync::{oneshot, watch};

use crate::capabilities::MEMORY_CAPABILITIES;
use crate::config::SqliteConfig;
use crate::connection::{DatabaseFile, open_in_memory};
use crate::error::NAME;
use crate::liveness::CheckedKeys;
use crate::message_hub::MessageHub;
use crate::open_files::OpenFiles;
use crate::readers::{Pool, Readers, SharedConnection};
use crate::runtime::{StoreRuntime, Timer};
use crate::state::State;
use crate::statement::{Statements, Table};
use crate::store::SqliteStore;
use crate::watchers::Watchers;
use crate::writer::queue::Queue;
use crate::writer::worker::Writer;
use crate::{poller, sweep};

/// The location of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    Memory,
}

/// The parts of an open database that the handles use.
#[derive(Debug)]
struct Connected {
    readers: Arc<Readers>,
    messages: Arc<MessageHub>,
    /// The database file; `None` in memory.
    database: Option<DatabaseFile>,
}

/// Opens the store. The writer's thread opens the database, so that a caller still gets an error at its timeout if the
/// disk does not respond.
pub(crate) async fn open(
    location: Location,
    table: Table,
    config: SqliteConfig,
    clock: Arc<dyn Clock>,
) -> Result<SqliteStore> {
    let (capabilities, watch_loss_bound) = match &location {
        Location::File(_) => (config.sync.capabilities(), poller::WATCH_LOSS_BOUND),
        // The writer calls the sinks while it holds the lock of the only connection, for which every read waits.
        Location::Memory => (MEMORY_CAPABILITIES, Duration::ZERO),
    };
    let info = StoreInfo::new(NAME, capabilities).with_limits(config.limits()?).with_watch_loss_bound(watch_loss_bound);
    let runtime = Arc::new(StoreRuntime::start()?);
    let timer = runtime.timer().clone();
    let (queue, jobs) = Queue::new(timer.clone(), config.operation_timeout);
    let sql = Arc::new(Statements::new(table));
    let watchers = Watchers::new(random_handle_id(), location != Location::Memory);
    let checked = Arc::new(CheckedKeys::new());
    let is_closed = Arc::new(AtomicBool::new(false));
    let (ended_sender, ended) = watch::channel(false);
    let (reply, connected) = oneshot::channel();

    let timeout = config.operation_timeout;
    let interval = config.sweep_interval;
    let writer = {
        let (runtime, sql, clock, watchers) =
            (Arc::clone(&runtime), Arc::clone(&sql), Arc::clone(&clock), watchers.clone());
        let (checked, is_closed) = (Arc::clone(&checked), Arc::clone(&is_closed));
        move || {
            let (connection, connected, files) =
                match connect(&location, &sql.table, &config, runtime.timer(), watchers.handle_id) {
                    Ok(connected) => connected,
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        return;
                    }
                };
            let writer = Writer {
                connection,
                jobs,
                sql,
                clock,
                runtime,
                watchers,
                messages: Arc::clone(&connected.messages),
                checked,
                readers: Arc::clone(&connected.readers),
                database: connected.database.clone(),
                files,
                min_free: config.min_free.as_u64(),
                checked_schema: Cell::new(None),
                unlogged: RefCell::default(),
                sync: config.sync,
                is_closed,
                last_batch: 0,
                ended: ended_sender,
            };
            // Sending fails if the caller of `open` has given up. Then the store has no handle, and the writer ends.
            if reply.send(Ok(connected)).is_ok() {
                writer.run();
            }
        }
    };
    std::thread::Builder::new()
        .name("kv-sqlite-writer".into())
        .spawn(writer)
        .map_err(|error| Error::capacity("a thread could not be started").with_source(error))?;

    let Connected { readers, messages, database } = match timer.limit(timeout, connected).await {
        Some(connected) => {
            connected.unwrap_or_else(|_| Err(Error::unavailable("the writer ended while it opened the database")))?
        }
        None => return Err(Error::unavailable(format!("the database did not open within {timeout:?}"))),
    };
    timer.spawn(sweep::run_sweeper(
        Arc::clone(&clock),
        interval,
        Arc::downgrade(&readers),
        queue.downgrade(),
        Arc::clone(&sql),
    ));
    if let Some(database) = database {
        timer.spawn(poller::run_poller(watchers.clone(), database, queue.downgrade(), Arc::clone(&sql)));
    }
    Ok(SqliteStore::from_state(State {
        info,
        queue,
        readers,
        sql,
        clock,
        watchers,
        messages,
        checked,
        is_closed,
        ended,
        runtime,
    }))
}

/// Opens the database on the writer's thread. Returns the writer's connection, the parts for the handles and, for a
/// database in a file, its files.
fn connect(
    location: &Location,
    table: &Table,
    config: &SqliteConfig,
    timer: &Timer,
    handle_id: i64,
) -> Result<(SharedConnection, Connected, Option<OpenFiles>)> {
    match location {
        Location::File(path) => {
            let (database, connection, files) = DatabaseFile::open_writer(path, table, config, timer)?;
            let pool = Pool::new(database.clone(), config.readers, config.operation_timeout);
            let table_path = (database.canonical(), table.as_str().to_owned());
            let messages = Arc::new(MessageHub::new(handle_id, Some(table_path)));
            let connected = Connected { readers: Arc::new(Readers::Pool(pool)), messages, database: Some(database) };
            Ok((Arc::new(Mutex::new(connection)), connected, Some(files)))
        }
        Location::Memory => {
            let connection = Arc::new(Mutex::new(open_in_memory(table)?));
            let messages = Arc::new(MessageHub::new(handle_id, None));
            let readers = Arc::new(Readers::Shared(Arc::clone(&connection)));
            Ok((connection, Connected { readers, messages, database: None }, None))
        }
    }
}

/// Returns a random number, which identifies a handle among all handles on the file.
fn random_handle_id() -> i64 {
    let version = Version::random();
    version.as_bytes().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}
