//! The one thread that writes: it takes what waits, judges it in order, applies it as one batch, makes that as safe as
//! declared and acknowledges it.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{BoxFuture, Clock, Error, Key, Result, SystemClock};
use tokio::sync::{mpsc, oneshot};

use crate::behind::Behind;
use crate::config::{SledConfig, SledDurability};
use crate::database::{Database, not_begun};
use crate::error::{from_io, from_sled};
use crate::folder;
use crate::group::Group;
use crate::handle::Shared;
use crate::health::Trouble;
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
    database: Database,
    /// How many writes the last batch had.
    last_writes: usize,
}

impl Worker {
    pub(crate) fn new(
        config: SledConfig,
        path: PathBuf,
        shared: Arc<Shared>,
        pulse: Arc<Pulse>,
        database: Database,
    ) -> Self {
        Self { config, path, shared, pulse, database, last_writes: 0 }
    }

    /// Works until the store is closed or its last handle is gone.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let clock = Arc::clone(&self.shared.clock);
        let mut sweep = clock.sleep(self.config.sweep_interval);
        let mut flush: Option<BoxFuture<'static, ()>> = None;
        let shared = Arc::clone(&self.shared);
        let _ = self.may_write();
        let closing = loop {
            if let (SledDurability::Interval(interval), true, true) =
                (self.config.durability, self.database.is_behind(), flush.is_none())
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
                () = woken(&shared) => {
                    if shared.behind.as_ref().is_some_and(Behind::has_much) {
                        self.settle();
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
            self.database.attempt(|database| {
                let ((), changed) = database.change(|shared, draft| {
                    while let Some(job) = group.next() {
                        job.take();
                        // Who was given up before it was taken was told that nothing happened.
                        shared.health.check_write()?;
                        draft.set_now(shared.clock.now());
                        job.judge(draft);
                    }
                    Ok(())
                })?;
                if !changed.is_empty() {
                    database.make_safe()?;
                }
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
        // Not flushed: what a crash brings back is swept again.
        let done = self.database.attempt(|database| database.change(|_, draft| Ok(draft.sweep(SWEEP_LIMIT))));
        if let Ok((Ok((seen, _)), changed)) = done {
            count(&self.shared.counts.swept, changed.len() as u64);
            self.tell(&changed);
            return seen < SWEEP_LIMIT;
        }
        true
    }

    /// Writes what was acknowledged and waits to be written.
    fn settle(&mut self) {
        let _ = self.may_write();
        let pulse = Arc::clone(&self.pulse);
        let _busy = pulse.begin(self.config.operation_timeout);
        // What fails poisons the store.
        let _ = self.database.attempt(Database::catch_up);
    }

    /// Flushes; with `to_medium` as far as the medium.
    fn flush(&mut self, to_medium: bool) -> Result<()> {
        self.shared.health.check_write()?;
        let _ = self.may_write();
        let pulse = Arc::clone(&self.pulse);
        let _busy = pulse.begin(self.config.operation_timeout);
        let done = self.database.attempt(|database| {
            database.catch_up()?;
            database.hand_over()?;
            if to_medium { database.sync_all() } else { Ok(()) }
        });
        done.map_err(|failure| Error::unavailable(failure.text().to_owned()))
    }

    /// Whether the store is in order and has room.
    fn may_write(&self) -> Result<(), Failure> {
        let room = self.find_room();
        if let Some(behind) = &self.shared.behind {
            // What waits is written as pages, and some of them more than once.
            behind.admit(room.as_ref().map_or(0, |bytes| bytes / 4));
        }
        room.map(drop)
    }

    /// How many bytes there are until the file system has no more than it keeps free.
    fn find_room(&self) -> Result<u64, Failure> {
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
            Ok(free) => Ok(free - floor),
            Err(error) => Err(not_begun(&from_io(error, "the free space cannot be found out"))),
        }
    }

    fn tell(&self, changed: &[Key]) {
        for key in changed {
            self.shared.changes.notify(key);
        }
    }

    /// Flushes, seals, gives the files back and answers whoever still waits.
    async fn end(mut self, closing: Option<oneshot::Sender<Result<()>>>, mut inbox: mpsc::Receiver<Message>) {
        if self.database.is_fit() {
            let pulse = Arc::clone(&self.pulse);
            let _busy = pulse.begin(self.config.operation_timeout);
            if let Some(behind) = &self.shared.behind {
                behind.admit(0);
            }
            // Also where the store was given up for standing still: it has come back.
            let _ = self.database.attempt(|database| {
                database.catch_up()?;
                database.hand_over()
            });
        }
        // As long as the medium takes. Without a seal the files are as after a crash.
        let _ = self.database.seal();
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
        let Self { config, path, shared, pulse, database, last_writes: _ } = self;
        let _busy = pulse.begin(config.operation_timeout);
        // Readers that are inside have let go of the tree when this lock is had.
        drop(shared.tree.write().take());
        let is_closed = database.close();
        if is_closed {
            folder::released(&path).await;
        }
        if let Some(reply) = closing {
            let kept = "sled is not fit to close its files: they stay locked until this process ends";
            let _ = reply.send(if is_closed { Ok(()) } else { Err(Error::unavailable(kept)) });
        }
    }
}

/// Waits until a write was left to be written.
async fn woken(shared: &Shared) {
    match &shared.behind {
        Some(behind) => behind.woken().await,
        None => std::future::pending().await,
    }
}

/// Waits for a moment that may not have been set.
async fn due(moment: &mut Option<BoxFuture<'static, ()>>) {
    match moment {
        Some(moment) => Pin::new(moment).await,
        None => std::future::pending().await,
    }
}
