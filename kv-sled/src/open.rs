//! Opening a store.
//!
//! A thread opens the files and then becomes the store's worker. The watchdog watches this thread from the beginning,
//! because sled may hang on damaged files.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use kv_core::{Clock, Error, Result, StoreInfo, SystemClock};
use sled::Db;
use tokio::sync::{mpsc, oneshot};

use crate::capabilities;
use crate::clean_marker;
use crate::codec::CHECKSUM_KEY;
use crate::config::{SledCheck, SledConfig, SledDurability};
use crate::database::Database;
use crate::derived::{self, DerivedFiles};
use crate::error::{NAME, from_io, from_sled, is_locked};
use crate::folder::{self, LOCK_STEP, LOCK_TIMEOUT};
use crate::log_gap::{self, LogGap};
use crate::orphans;
use crate::permissions;
use crate::presence::Presence;
use crate::queue::Queue;
use crate::request::Request;
use crate::state::State;
use crate::storage::Storage;
use crate::store::SledStore;
use crate::tree_checksum::TreeChecksum;
use crate::watchdog::{self, Heartbeat};
use crate::worker::Worker;

/// The maximum number of requests in the worker's queue. Further callers wait until there is space.
const QUEUE_CAPACITY: usize = 1_024;

/// The slowest expected rate of opening, in bytes of sled's log per second.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// The interval of sled's background flush, in milliseconds. sled also cleans up its log during this flush.
const SLED_FLUSH_MILLIS: u64 = 500;

/// The smallest page cache, in bytes, with which sled works well. A smaller configured size is raised to this size.
const MIN_CACHE_BYTES: u64 = 1 << 20;

/// Starts the threads of a store and waits until the store is open.
pub(crate) async fn open(config: SledConfig, clock: Arc<dyn Clock>, path: PathBuf) -> Result<SledStore> {
    // The hub is notified of every change inside the section that makes the change visible.
    let info = StoreInfo::new(NAME, capabilities::with(config.durability)).with_watch_loss_bound(Duration::ZERO);
    let state = Arc::new(State::new(info, clock, config.operation_timeout, config.durability));
    let heartbeat = Arc::new(Heartbeat::default());
    let (end, ended) = std::sync::mpsc::channel();
    let (requests, receiver) = mpsc::channel(QUEUE_CAPACITY);
    let (responder, opened) = oneshot::channel();

    let (watched, watched_heartbeat) = (Arc::clone(&state), Arc::clone(&heartbeat));
    spawn("kv-sled-watchdog", move || watchdog::watch(&watched, &watched_heartbeat, &ended))?;
    let worker_state = Arc::clone(&state);
    spawn("kv-sled-worker", move || {
        run_worker(config, &path, worker_state, heartbeat, receiver, responder);
        drop(end);
    })?;

    tokio::select! {
        biased;
        opened = opened => match opened {
            Ok(opened) => opened?,
            Err(_) => return Err(Error::corrupt("sled panicked while it opened its files: they are damaged")),
        },
        () = state.health.hung() => {
            return Err(Error::corrupt("sled hangs while it opens its files: they are damaged"));
        }
    }
    Ok(SledStore::new(Queue { state, requests }))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(Error::capacity("no thread can be started for the store").with_source(error)),
    }
}

/// The main function of the worker's thread.
fn run_worker(
    config: SledConfig,
    path: &Path,
    state: Arc<State>,
    heartbeat: Arc<Heartbeat>,
    requests: mpsc::Receiver<Request>,
    responder: oneshot::Sender<Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = responder.send(Err(from_io(error, "the runtime of the worker's thread cannot be created")));
            return;
        }
    };
    runtime.block_on(async move {
        let opened = open_with_retries(&config, path, &heartbeat).await;
        let worker = opened.map(|(db, sled_config, checksum, files)| {
            *state.tree.write() = Some((*db).clone());
            let _ = state.sled_config.set(sled_config);
            let database = Database::new(db, checksum, files, Arc::clone(&state), config.durability);
            Worker::new(config, path.to_owned(), state, heartbeat, database)
        });
        match worker {
            Ok(worker) => {
                // If the caller has dropped its future, this response is lost. In this case the queue has no sender,
                // and the worker closes the store at once.
                let _ = responder.send(Ok(()));
                worker.run(requests).await;
            }
            Err(error) => {
                let _ = responder.send(Err(error));
            }
        }
    });
}

type Opened = (Db, sled::Config, TreeChecksum, (Storage, Presence));

/// Opens the files. If another store has locked them, tries again until [`LOCK_TIMEOUT`] has passed.
async fn open_with_retries(config: &SledConfig, path: &Path, heartbeat: &Heartbeat) -> Result<Opened> {
    check_system_clock(SystemClock.now())?;
    if !config.create {
        folder::check_exists(path)?;
    }
    folder::prepare(path)?;
    let mut waited = Duration::ZERO;
    loop {
        match open_once(config, path, heartbeat) {
            Err(OpenError::Locked) if waited < LOCK_TIMEOUT => {
                SystemClock.sleep(LOCK_STEP).await;
                waited += LOCK_STEP;
            }
            Err(OpenError::Locked) => {
                return Err(Error::unavailable(
                    "the folder is open already, in this process or another; a sled store has one owner at a time",
                ));
            }
            Err(OpenError::Failed(error)) => return Err(error),
            Ok(opened) => return Ok(opened),
        }
    }
}

enum OpenError {
    Locked,
    Failed(Error),
}

fn open_once(config: &SledConfig, path: &Path, heartbeat: &Heartbeat) -> Result<Opened, OpenError> {
    let log_bytes = fs::metadata(path.join("db")).map_or(0, |metadata| metadata.len());
    let timeout = config.open_timeout + Duration::from_secs(log_bytes / BYTES_PER_SECOND);
    let _busy = heartbeat.begin(timeout);
    let opened = catch_unwind(AssertUnwindSafe(|| open_files(config, path, heartbeat, log_bytes == 0)));
    opened.unwrap_or_else(|_| {
        Err(OpenError::Failed(Error::corrupt("sled panicked while it opened its files: they are damaged")))
    })
}

fn open_files(config: &SledConfig, path: &Path, heartbeat: &Heartbeat, is_new: bool) -> Result<Opened, OpenError> {
    let derived = if is_new { DerivedFiles::Sound } else { derived::set_aside(path).map_err(OpenError::Failed)? };
    heartbeat.beat();
    let gap = match derived {
        DerivedFiles::Locked => LogGap::Locked,
        _ if is_new => LogGap::Absent,
        _ => log_gap::fill(path).map_err(OpenError::Failed)?,
    };
    heartbeat.beat();
    let check = match (derived, gap) {
        (DerivedFiles::Locked, _) | (_, LogGap::Locked) => return Err(OpenError::Locked),
        (DerivedFiles::Sound, LogGap::Absent) => config.check,
        // The log must have been enough to write these files again, or without the missing segments. Only the
        // comparison with the tree checksum proves this.
        (DerivedFiles::SetAside, _) | (_, LogGap::Filled) => SledCheck::Everything,
    };
    let sled_config = sled::Config::new()
        .path(path)
        .cache_capacity(config.cache_bytes.max(MIN_CACHE_BYTES))
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(SLED_FLUSH_MILLIS));
    let db = sled_config
        .open()
        .map_err(|error| if is_locked(&error) { OpenError::Locked } else { OpenError::Failed(from_sled(error)) })?;
    heartbeat.beat();
    permissions::restrict(path, is_new)
        .map_err(|error| OpenError::Failed(from_io(error, "the permissions of the store's files cannot be set")))?;
    let checksum = match check {
        SledCheck::Everything => check_records(&db, heartbeat),
        SledCheck::Nothing => {
            stored_checksum(&db).and_then(|stored| stored.map_or_else(|| check_records(&db, heartbeat), Ok))
        }
    };
    let checksum = checksum.map_err(OpenError::Failed)?;
    if clean_marker::read(path).is_some_and(|at_closing| at_closing != checksum) {
        return Err(OpenError::Failed(Error::corrupt(
            "the files are damaged: their content differs from the content at closing",
        )));
    }
    let mut storage = Storage::open(path).map_err(sync_failed)?;
    let presence = Presence::new(path).map_err(sync_failed)?;
    heartbeat.beat();
    // Orphans only take space, so a failure to remove them does not prevent opening.
    let _ = orphans::remove(&mut storage);
    if config.durability == SledDurability::Power {
        db.flush().map_err(|error| OpenError::Failed(from_sled(error)))?;
        storage.sync_all().map_err(sync_failed)?;
    }
    Ok((db, sled_config, checksum, (storage, presence)))
}

/// Refuses a system clock before 1970, because sled panics with such a clock.
fn check_system_clock(now: SystemTime) -> Result<()> {
    if now < SystemTime::UNIX_EPOCH {
        return Err(Error::unavailable(
            "the system's clock is before the year 1970, and sled does not start with such a clock",
        ));
    }
    Ok(())
}

fn sync_failed(error: std::io::Error) -> OpenError {
    OpenError::Failed(from_io(error, "the store's files cannot be synced"))
}

/// Reads the stored tree checksum. `None` in a new store.
fn stored_checksum(db: &Db) -> Result<Option<TreeChecksum>> {
    db.get(CHECKSUM_KEY).map_err(read_error)?.map(|stored| TreeChecksum::decode(&stored)).transpose()
}

/// Converts an error of a read of stored data. A missing file is the file of a large value, so it counts as damage.
fn read_error(error: sled::Error) -> Error {
    match &error {
        sled::Error::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
            Error::corrupt("the file of a large value is missing").with_source(error)
        }
        _ => from_sled(error),
    }
}

/// Reads all records and compares them with the stored tree checksum. In a new store, writes the first tree checksum.
fn check_records(db: &Db, heartbeat: &Heartbeat) -> Result<TreeChecksum> {
    let (mut actual, mut stored) = (TreeChecksum::default(), None);
    for (number, item) in db.iter().enumerate() {
        let (key, value) = item.map_err(read_error)?;
        if key == CHECKSUM_KEY {
            stored = Some(TreeChecksum::decode(&value)?);
        } else {
            actual.add(&key, &value);
        }
        if number % 1_024 == 0 {
            heartbeat.beat();
        }
    }
    match stored {
        Some(stored) if stored == actual => Ok(actual),
        Some(stored) => Err(Error::corrupt(format!(
            "the files are damaged: {} records were found, {} were expected, and they do not match the tree checksum",
            actual.records(),
            stored.records(),
        ))),
        None if actual.records() == 0 => {
            db.insert(CHECKSUM_KEY, actual.encode()).map_err(from_sled)?;
            db.flush().map_err(from_sled)?;
            Ok(actual)
        }
        None => Err(Error::corrupt("the folder holds a sled database that is not a store of anykv")),
    }
}

#[cfg(test)]
mod tests {
    use kv_core::ErrorKind;

    use super::*;

    #[test]
    fn a_system_clock_before_1970_is_unavailable_and_not_corrupt() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let error = check_system_clock(before).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("clock"), "{error}");
        check_system_clock(SystemTime::UNIX_EPOCH).unwrap();
    }
}
