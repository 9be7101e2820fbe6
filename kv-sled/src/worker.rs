//! The worker: the only thread that writes to sled.
//!
//! The worker takes queued writes, evaluates the writes in order, applies their changes as one batch, makes the batch
//! durable and acknowledges the writes.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{BoxFuture, Clock, Error, Result, SystemClock};
use tokio::sync::{mpsc, oneshot};

use crate::config::{SledConfig, SledDurability};
use crate::database::{Database, not_started};
use crate::error::{from_io, from_sled};
use crate::folder;
use crate::group_commit::GroupCommit;
use crate::health::Poison;
use crate::log_gap;
use crate::reclaim;
use crate::request::{Request, WriteFailure};
use crate::state::State;
use crate::stats::count;
use crate::watchdog::Heartbeat;
use crate::write_behind::WriteBehind;

/// The worker, which owns the database.
pub(crate) struct Worker {
    pub(crate) config: SledConfig,
    path: PathBuf,
    pub(crate) state: Arc<State>,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) database: Database,
    /// The number of writes in the previous batch.
    last_writes: usize,
}

impl Worker {
    pub(crate) fn new(
        config: SledConfig,
        path: PathBuf,
        state: Arc<State>,
        heartbeat: Arc<Heartbeat>,
        database: Database,
    ) -> Self {
        Self { config, path, state, heartbeat, database, last_writes: 0 }
    }

    /// Runs until the store is closed or its last clone is dropped.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let clock = Arc::clone(&self.state.clock);
        let mut sweep = clock.sleep(self.config.sweep_interval);
        let mut flush: Option<BoxFuture<'static, ()>> = None;
        let state = Arc::clone(&self.state);
        // This check also sets the maximum size of the write-behind buffer.
        let _ = self.check_writable();
        let closing = loop {
            if let (SledDurability::Interval(interval), true, true) =
                (self.config.durability, self.database.needs_flush(), flush.is_none())
            {
                // Leave the other half of the interval for the flush itself.
                flush = Some(Box::pin(async move { SystemClock.sleep(interval / 2).await }));
            }
            tokio::select! {
                biased;
                () = until(&mut flush) => {
                    flush = None;
                    let _ = self.flush(false);
                }
                () = &mut sweep => {
                    let is_done = self.sweep();
                    self.reclaim(reclaim::IDLE_BYTES);
                    sweep = clock.sleep(if is_done { self.config.sweep_interval } else { Duration::ZERO });
                    // Handle queued requests between two batches of a long sweep.
                    if !is_done
                        && let Ok(request) = requests.try_recv()
                        && let Some(closing) = self.handle(request, &mut requests)
                    {
                        break Some(closing);
                    }
                }
                () = write_behind_notified(&state) => {
                    if state.write_behind.as_ref().is_some_and(WriteBehind::is_due) {
                        self.apply_pending();
                    }
                }
                request = requests.recv() => match request {
                    Some(request) => {
                        if let Some(closing) = self.handle(request, &mut requests) {
                            break Some(closing);
                        }
                    }
                    None => break None,
                },
            }
        };
        self.shut_down(closing, requests).await;
    }

    /// Handles a request and the writes that are queued behind it. If one of the requests is to close the store,
    /// returns its responder.
    fn handle(
        &mut self,
        first: Request,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<oneshot::Sender<Result<()>>> {
        match self.write(first, requests)? {
            Request::Close(responder) => return Some(responder),
            Request::Flush(responder) => drop(responder.send(self.flush(true))),
            // Unreachable, because a write never ends a batch.
            Request::Write(write) => write.fail(&not_started(&Error::unavailable("a write ended the batch of writes"))),
        }
        None
    }

    /// Evaluates queued writes, applies their changes as one batch, makes the batch durable and acknowledges the
    /// writes. Returns the request that ended the batch.
    fn write(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let mut group = GroupCommit::new(first, self.last_writes, requests);
        // If the free space is below the reserve, only writes that remove entries are evaluated.
        let full = self.check_writable().err();
        if full.is_some()
            && let Err(failure) = self.check_removable()
        {
            while group.next().is_some() {}
            return group.finish(Some(&failure));
        }
        let done = {
            let heartbeat = Arc::clone(&self.heartbeat);
            let _busy = heartbeat.begin(self.config.operation_timeout);
            self.database.run(|database| {
                let ((), changed) = database.change(|state, batch| {
                    while let Some(write) = group.next() {
                        if let Some(full) = full.as_ref().filter(|_| !write.is_removal()) {
                            write.refuse(full.to_error());
                            continue;
                        }
                        write.start();
                        // If a caller sees that the store is poisoned and its write was not started, the caller returns
                        // an error that means "not applied". Therefore check the health after `start`: either the
                        // caller sees that the write was started, or this thread sees that the store is poisoned.
                        state.health.check_write()?;
                        batch.set_now(state.clock.now());
                        write.evaluate(batch);
                    }
                    Ok(())
                })?;
                if !changed.is_empty() {
                    database.make_durable()?;
                }
                Ok(())
            })
        };
        self.last_writes = group.len();
        let next = match done {
            Ok(()) => {
                count(&self.state.counters.writes, group.len() as u64);
                group.finish(None)
            }
            Err(failure) => group.finish(Some(&failure)),
        };
        // If the free space is below the reserve, free the space of removed values at once.
        self.reclaim(if full.is_some() { 1 } else { reclaim::DUE_BYTES });
        next
    }

    /// Writes the write-behind buffer to sled.
    fn apply_pending(&mut self) {
        // This check also updates the maximum size of the buffer. A full file system does not prevent writing
        // acknowledged changes.
        let _ = self.check_writable();
        let heartbeat = Arc::clone(&self.heartbeat);
        let _busy = heartbeat.begin(self.config.operation_timeout);
        // A failure poisons the store.
        let _ = self.database.run(Database::apply_pending);
    }

    /// Flushes all acknowledged writes to the operating system. If `is_synced`, also syncs the files to the disk.
    fn flush(&mut self, is_synced: bool) -> Result<()> {
        self.state.health.check_write()?;
        // This check also updates the maximum size of the write-behind buffer. A flush is allowed below the free-space
        // reserve.
        let _ = self.check_writable();
        let heartbeat = Arc::clone(&self.heartbeat);
        let _busy = heartbeat.begin(self.config.operation_timeout);
        let done = self.database.run(|database| {
            database.apply_pending()?;
            database.flush()?;
            if is_synced { database.sync_all() } else { Ok(()) }
        });
        done.map_err(|failure| Error::unavailable(failure.text().to_owned()))
    }

    /// Fails if the store is poisoned or the free space is below the reserve. Also sets the maximum size of the
    /// write-behind buffer.
    pub(crate) fn check_writable(&self) -> Result<(), WriteFailure> {
        let free = self.free_bytes(self.config.min_free_bytes);
        if let Some(write_behind) = &self.state.write_behind {
            // The maximum is a quarter of the free space, because sled writes whole pages for pending records, and
            // writes some pages several times.
            write_behind.set_max_bytes(free.as_ref().map_or(0, |bytes| bytes / 4));
        }
        free.map(drop)
    }

    /// Fails if the store is poisoned or less than half of the reserve is free. Removing entries may use the other
    /// half, because sled writes before it frees space.
    pub(crate) fn check_removable(&self) -> Result<(), WriteFailure> {
        self.free_bytes(self.config.min_free_bytes / 2).map(drop)
    }

    /// The number of free bytes above a reserve. Fails if fewer bytes than the reserve are free, or if the store is
    /// poisoned.
    fn free_bytes(&self, reserve: u64) -> Result<u64, WriteFailure> {
        if let Some(Err(error)) = self.state.sled_config.get().map(sled::Config::global_error) {
            // One of sled's background threads has failed.
            self.state.poison(Poison::failed(&from_sled(error)));
        }
        self.state.health.check_write().map_err(|error| not_started(&error))?;
        match fs4::available_space(&self.path) {
            Ok(free) if free < reserve => Err(not_started(&Error::capacity(format!(
                "the file system has {free} bytes left, and the store keeps {reserve} free"
            )))),
            Ok(free) => Ok(free - reserve),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let problem = "the folder of the store was removed while the store was open";
                self.state.poison(Poison::misplaced(problem));
                Err(not_started(&Error::unavailable(self.state.health.poison_text())))
            }
            Err(error) => Err(not_started(&from_io(error, "the free space cannot be determined"))),
        }
    }

    /// Flushes, writes the clean-shutdown marker, closes the files and sends a response to every waiting caller.
    async fn shut_down(mut self, closing: Option<oneshot::Sender<Result<()>>>, mut requests: mpsc::Receiver<Request>) {
        if self.database.is_usable() {
            let heartbeat = Arc::clone(&self.heartbeat);
            let _busy = heartbeat.begin(self.config.operation_timeout);
            if let Some(write_behind) = &self.state.write_behind {
                write_behind.set_max_bytes(0);
            }
            // Flush even if the watchdog has poisoned the store, because the worker no longer hangs.
            let _ = self.database.run(|database| {
                database.apply_pending()?;
                database.flush()
            });
        }
        self.reclaim(1);
        // The watchdog does not watch this call, because a sync may take long. If the call fails, the files are as
        // after a crash.
        let _ = self.database.mark_clean();
        self.state.close();
        requests.close();
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Write(write) => write.fail(&WriteFailure::NotStarted(|_| Error::closed(), String::new())),
                Request::Flush(responder) => drop(responder.send(Err(Error::closed()))),
                Request::Close(responder) => drop(responder.send(Ok(()))),
            }
        }
        let Self { config, path, state, heartbeat, database, last_writes: _ } = self;
        let _busy = heartbeat.begin(config.operation_timeout);
        // Taking this lock waits for current readers, which use the tree.
        drop(state.tree.write().take());
        let is_closed = database.close();
        if is_closed {
            folder::wait_until_released(&path).await;
            // A failure does no harm, because the next opening fills the gap, too.
            let _ = log_gap::fill_after_closing(&path);
        }
        if let Some(responder) = closing {
            let locked = "sled has failed and cannot close its files: they stay locked until this process ends";
            let _ = responder.send(if is_closed { Ok(()) } else { Err(Error::unavailable(locked)) });
        }
    }
}

/// Waits for a notification of the write-behind buffer. Without a buffer, waits for ever.
async fn write_behind_notified(state: &State) {
    match &state.write_behind {
        Some(write_behind) => write_behind.notified().await,
        None => std::future::pending().await,
    }
}

/// Waits until a timer ends. Without a timer, waits for ever.
async fn until(timer: &mut Option<BoxFuture<'static, ()>>) {
    match timer {
        Some(timer) => Pin::new(timer).await,
        None => std::future::pending().await,
    }
}
