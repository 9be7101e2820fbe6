//! Opening: on the thread that will be the store's worker, under the eyes of its watchdog.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kv_core::{Clock, Error, Result, SystemClock};
use sled::Db;
use tokio::sync::{mpsc, oneshot};

use crate::codec::LEDGER;
use crate::config::{SledCheck, SledConfig, SledDurability};
use crate::database::Database;
use crate::error::{from_io, from_sled, is_locked};
use crate::folder;
use crate::handle::Shared;
use crate::ledger::Ledger;
use crate::medium::Medium;
use crate::request::Message;
use crate::seal;
use crate::watchdog::{self, Pulse};
use crate::worker::Worker;

/// How many writes wait at most before senders wait.
const WAITING_WRITES: usize = 1_024;

/// How long somebody who is just closing the store is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_STEP: Duration = Duration::from_millis(25);

/// How much of a file opening takes at least within a second, however slow.
const BYTES_A_SECOND: u64 = 64 << 20;

/// How often sled cleans up behind itself, in milliseconds; it does so with what it flushes then.
const CLEANING_MILLIS: u64 = 500;

/// Starts the threads of a store and waits until it is open.
pub(crate) async fn open(
    config: SledConfig,
    clock: Arc<dyn Clock>,
    path: PathBuf,
) -> Result<(Arc<Shared>, mpsc::Sender<Message>)> {
    let shared = Arc::new(Shared::new(clock, config.operation_timeout, config.durability));
    let pulse = Arc::new(Pulse::default());
    let (ended, watched) = std::sync::mpsc::channel();
    let (messages, inbox) = mpsc::channel(WAITING_WRITES);
    let (tell, opened) = oneshot::channel();

    let (shared_by_watchdog, pulse_of_watchdog) = (Arc::clone(&shared), Arc::clone(&pulse));
    spawn("kv-sled-watchdog", move || watchdog::watch(&shared_by_watchdog, &pulse_of_watchdog, &watched))?;
    let shared_by_worker = Arc::clone(&shared);
    spawn("kv-sled-worker", move || {
        work(config, &path, shared_by_worker, pulse, inbox, tell);
        drop(ended);
    })?;

    tokio::select! {
        biased;
        opened = opened => match opened {
            Ok(opened) => opened?,
            Err(_) => return Err(Error::corrupt("sled panicked while it opened its files: they are damaged")),
        },
        () = shared.health.hung() => {
            return Err(Error::corrupt("sled stands still over its files and does not open them: they are damaged"));
        }
    }
    Ok((shared, messages))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(Error::capacity("no thread can be started for the store").with_source(error)),
    }
}

/// The life of the worker's thread.
fn work(
    config: SledConfig,
    path: &Path,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    inbox: mpsc::Receiver<Message>,
    tell: oneshot::Sender<Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = tell.send(Err(from_io(error, "the store's thread cannot keep time")));
            return;
        }
    };
    runtime.block_on(async move {
        let opening = open_patiently(&config, path, &pulse).await;
        let opened = opening.map(|(db, settings, ledger, medium)| {
            *shared.tree.write() = Some((*db).clone());
            let _ = shared.settings.set(settings);
            let database = Database::new(db, ledger, medium, Arc::clone(&shared), config.durability);
            Worker::new(config, path.to_owned(), shared, pulse, database)
        });
        match opened {
            Ok(worker) => {
                // Nobody waits any more: the store ends with its senders.
                let _ = tell.send(Ok(()));
                worker.run(inbox).await;
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        }
    });
}

type Opened = (Db, sled::Config, Ledger, Medium);

/// Opens, and tries again for a while where somebody holds the files.
async fn open_patiently(config: &SledConfig, path: &Path, pulse: &Pulse) -> Result<Opened> {
    folder::prepare(path)?;
    let mut waited = Duration::ZERO;
    loop {
        match open_once(config, path, pulse) {
            Err(Attempt::Locked) if waited < LOCK_PATIENCE => {
                SystemClock.sleep(LOCK_STEP).await;
                waited += LOCK_STEP;
            }
            Err(Attempt::Locked) => {
                return Err(Error::unavailable(
                    "the folder is open already, in this process or another; a sled store has one owner at a time",
                ));
            }
            Err(Attempt::Failed(error)) => return Err(error),
            Ok(opened) => return Ok(opened),
        }
    }
}

enum Attempt {
    Locked,
    Failed(Error),
}

fn open_once(config: &SledConfig, path: &Path, pulse: &Pulse) -> Result<Opened, Attempt> {
    let length = fs::metadata(path.join("db")).map_or(0, |metadata| metadata.len());
    let patience = config.open_timeout + Duration::from_secs(length / BYTES_A_SECOND);
    let _busy = pulse.begin(patience);
    let settings = sled::Config::new()
        .path(path)
        .cache_capacity(config.cache_bytes.max(MIN_CACHE_BYTES))
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(CLEANING_MILLIS));
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let db = settings
            .open()
            .map_err(|error| if is_locked(&error) { Attempt::Locked } else { Attempt::Failed(from_sled(error)) })?;
        pulse.beat();
        let ledger = match config.check {
            SledCheck::Everything => check(&db, pulse),
            SledCheck::Nothing => trust(&db).and_then(|ledger| ledger.map_or_else(|| check(&db, pulse), Ok)),
        };
        let ledger = ledger.map_err(Attempt::Failed)?;
        if seal::read(path).is_some_and(|sealed| sealed != ledger) {
            return Err(Attempt::Failed(Error::corrupt(
                "the files are damaged: they do not hold what they held when the store was closed",
            )));
        }
        let mut medium = Medium::open(path).map_err(unsynced)?;
        if config.durability == SledDurability::Power {
            db.flush().map_err(|error| Attempt::Failed(from_sled(error)))?;
            medium.sync_all().map_err(unsynced)?;
        }
        Ok((db, ledger, medium))
    }));
    match attempt {
        Ok(Ok((db, ledger, medium))) => Ok((db, settings.clone(), ledger, medium)),
        Ok(Err(attempt)) => Err(attempt),
        Err(_) => Err(Attempt::Failed(Error::corrupt("sled panicked while it opened its files: they are damaged"))),
    }
}

/// Below this sled does not work well at all.
const MIN_CACHE_BYTES: u64 = 1 << 20;

fn unsynced(error: std::io::Error) -> Attempt {
    Attempt::Failed(from_io(error, "the store's files cannot be synced"))
}

/// The ledger as it was written, where there is one.
fn trust(db: &Db) -> Result<Option<Ledger>> {
    db.get(LEDGER).map_err(unreadable)?.map(|written| Ledger::decode(&written)).transpose()
}

/// An error of reading what was there when the store was last open.
fn unreadable(error: sled::Error) -> Error {
    match &error {
        sled::Error::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
            Error::corrupt("the file of a large value is gone").with_source(error)
        }
        _ => from_sled(error),
    }
}

/// Reads everything once, compares it with the ledger and gives that; a new store gets one.
fn check(db: &Db, pulse: &Pulse) -> Result<Ledger> {
    let (mut found, mut written) = (Ledger::default(), None);
    for (place, item) in db.iter().enumerate() {
        let (key, value) = item.map_err(unreadable)?;
        if key == LEDGER {
            written = Some(Ledger::decode(&value)?);
        } else {
            found.add(&key, &value);
        }
        if place % 1_024 == 0 {
            pulse.beat();
        }
    }
    match written {
        Some(written) if written == found => Ok(found),
        Some(written) => Err(Error::corrupt(format!(
            "the files are damaged: the store should hold {} records, and {} were found that do not add up",
            written.records(),
            found.records(),
        ))),
        None if found.records() == 0 => {
            db.insert(LEDGER, found.encode()).map_err(from_sled)?;
            db.flush().map_err(from_sled)?;
            Ok(found)
        }
        None => Err(Error::corrupt("the folder holds a sled database that is not a store of anykv")),
    }
}
