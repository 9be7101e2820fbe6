//! The thread that runs the jobs of the queue.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::{Clock, Key};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{mpsc, watch};

use crate::change_log;
use crate::config::SyncMode;
use crate::connection::DatabaseFile;
use crate::free_space::log_fits;
use crate::liveness::CheckedKeys;
use crate::message_hub::MessageHub;
use crate::open_files::OpenFiles;
use crate::readers::{Readers, SharedConnection};
use crate::runtime::StoreRuntime;
use crate::statement::Statements;
use crate::watchers::Watchers;
use crate::writer::batch::Batch;
use crate::writer::job::Job;

/// The longest single wait for the process-wide write lock. After each such wait the writer checks that a caller still
/// waits.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The writer, and the state that it shares with the handles.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) connection: SharedConnection,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) sql: Arc<Statements>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Arc<StoreRuntime>,
    pub(crate) watchers: Watchers,
    pub(crate) messages: Arc<MessageHub>,
    pub(crate) checked: Arc<CheckedKeys>,
    pub(crate) readers: Arc<Readers>,
    /// The database file with its write lock and timeout; `None` in memory.
    pub(crate) database: Option<DatabaseFile>,
    /// The identities of the files, for checks; `None` in memory.
    pub(crate) files: Option<OpenFiles>,
    /// The number of free bytes that are reserved for deletes, clears and sweeps.
    pub(crate) min_free: u64,
    /// The version of the schema in which no foreign object prevents writes; `None` before the first check.
    pub(crate) checked_schema: Cell<Option<i64>>,
    /// The keys of committed changes that must still be added to the change log.
    pub(crate) unlogged: RefCell<Vec<Key>>,
    pub(crate) sync: SyncMode,
    pub(crate) is_closed: Arc<AtomicBool>,
    /// The number of writes in the previous batch.
    pub(crate) last_batch: usize,
    /// Set to true when the writer ends.
    pub(crate) ended: watch::Sender<bool>,
}

impl Writer {
    /// Runs jobs until the store is closed or its last handle is dropped.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let is_last = self.run_batch(first);
            if is_last || self.is_closed.load(Ordering::Acquire) {
                break;
            }
            self.log_unlogged_while_idle();
        }
        // No new jobs can be queued from here on. The queued jobs are still run.
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            self.run_batch(job);
        }
        self.finish();
    }

    /// Runs a job together with the jobs that are queued after it. Returns true if the store was closed.
    fn run_batch(&mut self, first: Job) -> bool {
        let mut batch = Batch::new(first);
        batch.fill(&mut self.jobs);
        batch.wait_for_callers(&mut self.jobs, self.last_batch);
        self.last_batch = batch.writes.len();
        self.write(&mut batch);
        self.flush(batch.flushes);
        batch.is_last
    }

    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        // A store in memory shares the connection with reads, and a panic in a read poisons the lock. The connection is
        // still usable, because the read has rolled its transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the watches, subscriptions and reads, and closes the database.
    pub(super) fn finish(self) {
        // No later batch logs these changes.
        self.log_unlogged(&self.connection());
        let Self {
            connection,
            jobs: _,
            sql,
            clock: _,
            runtime,
            watchers,
            messages,
            checked: _,
            readers,
            database,
            files,
            min_free: _,
            checked_schema: _,
            unlogged: _,
            sync: _,
            is_closed: _,
            last_batch: _,
            ended,
        } = self;
        let had_lease = watchers.lease.send_replace(None).is_some();
        watchers.hub.close();
        messages.close();
        readers.close();
        let _guard = database.and_then(|database| database.write_lock.take(runtime.timer(), LOCK_WAIT));
        if let (true, Ok(connection)) = (watchers.is_shared, connection.lock()) {
            if had_lease {
                let _ = change_log::end_lease(&connection, &sql, watchers.handle_id);
            }
            if files.is_none_or(|files| log_fits(&files, &connection)) {
                // Copies the write-ahead log into the file, as far as the readers of other processes allow.
                let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            } else {
                // A checkpoint would fail and use up the free space. The write-ahead log stays and is recovered at the
                // next opening.
                let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            }
        }
        drop(connection);
        ended.send_replace(true);
    }
}
