//! The one thread that writes: it takes what waits, judges it in order, applies it as one batch, makes that as safe as
//! declared and acknowledges it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{BoxFuture, Clock, Error, ErrorKind, Key, Result, SystemClock};
use sled::{Batch, Db};
use tokio::sync::{mpsc, oneshot};

use crate::config::{SledConfig, SledDurability};
use crate::draft::{Applicable, Draft};
use crate::error::{from_io, from_sled};
use crate::folder;
use crate::gate;
use crate::group::Group;
use crate::handle::Shared;
use crate::health::Trouble;
use crate::ledger::Ledger;
use crate::medium::Medium;
use crate::request::{Failure, Message};
use crate::stats::count;
use crate::watchdog::Pulse;

/// At most this many expired entries a batch.
pub(crate) const SWEEP_LIMIT: usize = 1_000;

/// The owner of the database.
pub(crate) struct Worker {
    config: SledConfig,
    path: PathBuf,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    db: Db,
    ledger: Ledger,
    medium: Medium,
    /// Whether something was applied that was not flushed.
    is_dirty: bool,
    /// Whether something was applied since opening.
    has_written: bool,
    /// How many writes the last batch had.
    last_writes: usize,
    /// Whether sled has failed in a way after which it must not be asked for anything.
    is_unfit: bool,
}

impl Worker {
    pub(crate) fn new(
        config: SledConfig,
        path: PathBuf,
        shared: Arc<Shared>,
        pulse: Arc<Pulse>,
        db: Db,
        ledger: Ledger,
        medium: Medium,
    ) -> Self {
        Self {
            config,
            path,
            shared,
            pulse,
            db,
            ledger,
            medium,
            is_dirty: false,
            has_written: false,
            last_writes: 0,
            is_unfit: false,
        }
    }

    /// Works until the store is closed or its last handle is gone.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let clock = Arc::clone(&self.shared.clock);
        let mut sweep = clock.sleep(self.config.sweep_interval);
        let mut flush: Option<BoxFuture<'static, ()>> = None;
        let closing = loop {
            if let (SledDurability::Interval(interval), true, true) =
                (self.config.durability, self.is_dirty, flush.is_none())
            {
                // Half of it is left for the flush itself.
                flush = Some(Box::pin(async move { SystemClock.sleep(interval / 2).await }));
            }
            tokio::select! {
                biased;
                () = due(&mut flush) => {
                    flush = None;
                    let _ = self.flush(false);
                }
                () = &mut sweep => {
                    let is_done = self.sweep();
                    sweep = clock.sleep(if is_done { self.config.sweep_interval } else { Duration::ZERO });
                    // Between two batches of a long sweep writes have their turn.
                    if !is_done
                        && let Ok(message) = inbox.try_recv()
                        && let Some(closing) = self.take(message, &mut inbox)
                    {
                        break Some(closing);
                    }
                }
                message = inbox.recv() => match message {
                    Some(message) => {
                        if let Some(closing) = self.take(message, &mut inbox) {
                            break Some(closing);
                        }
                    }
                    None => break None,
                },
            }
        };
        self.end(closing, inbox).await;
    }

    /// Takes a message and the writes that come with it. Gives back who asked for the store to be closed.
    fn take(&mut self, first: Message, inbox: &mut mpsc::Receiver<Message>) -> Option<oneshot::Sender<Result<()>>> {
        match self.write(first, inbox)? {
            Message::Close(reply) => return Some(reply),
            Message::Flush(reply) => drop(reply.send(self.flush(true))),
            // A group ends with what is no write.
            Message::Write(job) => job.fail(&not_begun(&Error::unavailable("the write came at the wrong time"))),
        }
        None
    }

    /// Judges writes, applies them together, makes them safe and acknowledges them. Gives back what came behind them.
    fn write(&mut self, first: Message, inbox: &mut mpsc::Receiver<Message>) -> Option<Message> {
        let mut group = Group::new(first, self.last_writes, inbox);
        if let Err(failure) = self.may_write() {
            while group.next().is_some() {}
            return group.end(Some(&failure));
        }
        let done = {
            let pulse = Arc::clone(&self.pulse);
            let _busy = pulse.begin(self.config.operation_timeout);
            self.attempt(|worker| {
                let mut draft = Draft::new(&worker.db, worker.shared.clock.now());
                while let Some(job) = group.next() {
                    job.take();
                    // Who was given up before it was taken was told that nothing happened.
                    worker.shared.health.check_write()?;
                    draft.set_now(worker.shared.clock.now());
                    job.judge(&mut draft);
                }
                fit(draft.take_trouble())?;
                let Some(judged) = draft.finish(worker.ledger) else { return Ok(Vec::new()) };
                let changed = worker.apply(judged)?;
                worker.make_safe()?;
                Ok(changed)
            })
        };
        self.last_writes = group.len();
        match done {
            Ok(changed) => {
                count(&self.shared.counts.writes, group.len() as u64);
                self.tell(&changed);
                group.end(None)
            }
            Err(failure) => group.end(Some(&failure)),
        }
    }

    /// Removes one batch of expired entries. Tells whether nothing more is to be removed now.
    fn sweep(&mut self) -> bool {
        if self.may_write().is_err() {
            return true;
        }
        let pulse = Arc::clone(&self.pulse);
        let _busy = pulse.begin(self.config.operation_timeout);
        let mut seen = 0;
        let done = self.attempt(|worker| {
            let mut draft = Draft::new(&worker.db, worker.shared.clock.now());
            let swept = draft.sweep(SWEEP_LIMIT);
            fit(draft.take_trouble())?;
            (seen, _) = swept?;
            // Not flushed: what a crash brings back is swept again.
            draft.finish(worker.ledger).map_or_else(|| Ok(Vec::new()), |judged| worker.apply(judged))
        });
        if let Ok(changed) = done {
            count(&self.shared.counts.swept, changed.len() as u64);
            self.tell(&changed);
            return seen < SWEEP_LIMIT;
        }
        true
    }

    /// Applies what was judged, and gives the keys that changed.
    fn apply(&mut self, judged: Applicable) -> Result<Vec<Key>, Stop> {
        let Applicable { batch, changed, ledger } = judged;
        self.enter(batch)?;
        count(&self.shared.counts.batches, 1);
        self.ledger = ledger;
        (self.is_dirty, self.has_written) = (true, true);
        Ok(changed)
    }

    /// Enters a batch into the log.
    fn enter(&self, batch: Batch) -> Result<(), Stop> {
        let Some(_alone) = gate::exclusive(self.config.operation_timeout / 2) else {
            return Err(Stop::NotBegun(Error::unavailable("another sled store of this process stands still")));
        };
        self.db.apply_batch(batch).map_err(|error| Stop::Unknown(from_sled(error)))
    }

    /// Puts a mark behind the last write, which tells one that was damaged later from one that a crash has torn: a batch of
    /// nothing is a message in the log.
    fn seal(&self) -> Result<(), Stop> {
        if self.has_written && self.shared.health.is_open() { self.enter(Batch::default()) } else { Ok(()) }
    }

    /// Makes what was applied as safe as declared.
    fn make_safe(&mut self) -> Result<(), Stop> {
        match self.config.durability {
            SledDurability::Process => self.hand_over(),
            SledDurability::Power => {
                self.hand_over()?;
                count(&self.shared.counts.syncs, 1);
                self.medium.sync().map_err(|error| Stop::Unknown(from_io(error, "the files cannot be synced")))
            }
            SledDurability::Interval(_) => Ok(()),
        }
    }

    /// Hands everything that sled holds back to the operating system.
    fn hand_over(&mut self) -> Result<(), Stop> {
        let Some(beside) = gate::shared(self.config.operation_timeout / 2) else {
            return Err(Stop::Unknown(Error::unavailable("another sled store of this process stands still")));
        };
        self.db.flush().map_err(|error| Stop::Unknown(from_sled(error)))?;
        drop(beside);
        count(&self.shared.counts.flushes, 1);
        self.is_dirty = false;
        Ok(())
    }

    /// Flushes; with `to_medium` as far as the medium.
    fn flush(&mut self, to_medium: bool) -> Result<()> {
        self.shared.health.check_write()?;
        let pulse = Arc::clone(&self.pulse);
        let _busy = pulse.begin(self.config.operation_timeout);
        let done = self.attempt(|worker| {
            worker.hand_over()?;
            if to_medium {
                count(&worker.shared.counts.syncs, 1);
                let synced = worker.medium.sync_all();
                synced.map_err(|error| Stop::Unknown(from_io(error, "the files cannot be synced")))?;
            }
            Ok(())
        });
        done.map_err(|failure| Error::unavailable(failure.text().to_owned()))
    }

    /// Runs something over sled. What ends badly poisons the store, unless it was not begun.
    fn attempt<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, Failure> {
        let shared = Arc::clone(&self.shared);
        let done = catch_unwind(AssertUnwindSafe(|| run(self)));
        self.is_unfit |= !matches!(done, Ok(Ok(_) | Err(Stop::NotBegun(_))));
        match done {
            // It came through in the end, but everybody was told that it did not.
            Ok(Ok(_)) if !shared.health.is_open() => Err(Failure::Unknown(shared.health.story())),
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Stop::NotBegun(error))) => Err(not_begun(&error)),
            Ok(Err(Stop::Unknown(error))) => {
                shared.health.poison(Trouble::failed(&error));
                Err(Failure::Unknown(shared.health.story()))
            }
            Ok(Err(Stop::Unfit(trouble))) => {
                shared.health.poison(trouble);
                match shared.health.check_write() {
                    Err(error) => Err(not_begun(&error)),
                    Ok(()) => Err(Failure::Unknown(shared.health.story())),
                }
            }
            Err(_panic) => {
                shared.health.poison(Trouble::panicked("a write"));
                Err(Failure::Unknown(shared.health.story()))
            }
        }
    }

    /// Whether the store is in order and has room.
    fn may_write(&self) -> Result<(), Failure> {
        if let Some(Err(error)) = self.shared.settings.get().map(sled::Config::global_error) {
            // One of sled's own threads has met it.
            self.shared.health.poison(Trouble::failed(&from_sled(error)));
        }
        self.shared.health.check_write().map_err(|error| not_begun(&error))?;
        let floor = self.config.min_free_bytes;
        match fs4::available_space(&self.path) {
            Ok(free) if free < floor => Err(not_begun(&Error::capacity(format!(
                "the file system has {free} bytes left, and the store keeps {floor} free"
            )))),
            Ok(_) => Ok(()),
            Err(error) => Err(not_begun(&from_io(error, "the free space cannot be found out"))),
        }
    }

    fn tell(&self, changed: &[Key]) {
        for key in changed {
            self.shared.changes.tell(key);
        }
    }

    /// Seals, flushes, gives the files back and answers whoever still waits.
    async fn end(mut self, closing: Option<oneshot::Sender<Result<()>>>, mut inbox: mpsc::Receiver<Message>) {
        if !self.is_unfit {
            let pulse = Arc::clone(&self.pulse);
            let _busy = pulse.begin(self.config.operation_timeout);
            // Also where the store was given up for standing still: it has come back.
            let _ = self.attempt(|worker| {
                worker.seal()?;
                worker.hand_over()
            });
        }
        self.shared.health.close();
        inbox.close();
        while let Ok(message) = inbox.try_recv() {
            match message {
                Message::Write(job) => job.fail(&Failure::NotBegun(|_| Error::closed(), String::new())),
                Message::Flush(reply) => drop(reply.send(Err(Error::closed()))),
                Message::Close(reply) => drop(reply.send(Ok(()))),
            }
        }
        self.shared.changes.close();
        self.shared.letters.close();
        let Self {
            config,
            path,
            shared,
            pulse,
            db,
            ledger: _,
            medium,
            is_dirty: _,
            has_written: _,
            last_writes: _,
            is_unfit,
        } = self;
        let _busy = pulse.begin(config.operation_timeout);
        // Readers that are inside have let go of the tree when this lock is had.
        drop(shared.tree.write().take());
        let knows_of_error = shared.settings.get().is_some_and(|settings| settings.global_error().is_err());
        let ended = if !is_unfit || knows_of_error {
            catch_unwind(AssertUnwindSafe(|| drop((medium, db))))
        } else {
            // sled flushes what it drops, unless it knows of an error, and would wait for ever with the lock of the whole
            // process: better that one folder stays locked until the process ends.
            std::mem::forget(db);
            Err(Box::new(()) as Box<_>)
        };
        if ended.is_ok() {
            folder::released(&path).await;
        }
        if let Some(reply) = closing {
            let kept =
                || Error::unavailable("sled is not fit to close its files: they stay locked until this process ends");
            let _ = reply.send(ended.map_err(|_| kept()));
        }
    }
}

/// How far something came that failed.
enum Stop {
    NotBegun(Error),
    /// Nothing was applied, and nothing may be any more.
    Unfit(Trouble),
    Unknown(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::NotBegun(error)
    }
}

fn fit(trouble: Option<Trouble>) -> Result<(), Stop> {
    trouble.map_or(Ok(()), |trouble| Err(Stop::Unfit(trouble)))
}

fn not_begun(error: &Error) -> Failure {
    Failure::NotBegun(constructor(error), error.message().to_owned())
}

/// Waits for a moment that may not have been set.
async fn due(moment: &mut Option<BoxFuture<'static, ()>>) {
    match moment {
        Some(moment) => Pin::new(moment).await,
        None => std::future::pending().await,
    }
}

/// Errors are not cloned; each caller gets one of its own.
fn constructor(error: &Error) -> fn(String) -> Error {
    match error.kind() {
        ErrorKind::Capacity => |text| Error::capacity(text),
        ErrorKind::Denied => |text| Error::denied(text),
        ErrorKind::Corrupt => |text| Error::corrupt(text),
        ErrorKind::Invalid => |text| Error::invalid(text),
        ErrorKind::Closed => |_| Error::closed(),
        _ => |text| Error::unavailable(text),
    }
}
