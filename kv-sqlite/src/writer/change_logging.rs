//! Logging changed keys for the watchers of other handles.

use kv_core::Key;
use rusqlite::Connection;

use crate::change_log;
use crate::writer::commit::{RETRY_INTERVAL, roll_back, run};
use crate::writer::worker::Writer;

impl Writer {
    /// Logs changes after their commit if another handle has a lease now.
    ///
    /// There was no lease at the check before the commit, but another handle may have taken a lease since. The watchers
    /// of that handle must get these changes, because the writes are acknowledged after the lease was taken.
    pub(super) fn log_late(&self, connection: &Connection, changed: &[Key]) {
        // If the check fails, assume that there is a lease.
        if !self.is_watched(connection, changed).unwrap_or(true) {
            return;
        }
        self.unlogged.borrow_mut().extend(changed.iter().cloned());
        self.log_unlogged(connection);
    }

    /// Tries to log the changes in `unlogged`. If the attempt fails, the next batch or the next attempt logs the
    /// changes, so that no watcher misses them.
    pub(super) fn log_unlogged(&self, connection: &Connection) {
        let mut unlogged = self.unlogged.borrow_mut();
        if unlogged.is_empty() {
            return;
        }
        let logged = run(connection, "BEGIN IMMEDIATE")
            .and_then(|()| change_log::log(connection, &self.sql, self.watchers.handle_id, &unlogged))
            .and_then(|()| run(connection, "COMMIT"));
        match logged {
            Ok(()) => unlogged.clear(),
            Err(_) => roll_back(connection),
        }
    }

    /// Repeats [`log_unlogged`](Self::log_unlogged) until it succeeds, a job is queued or the store is closed.
    pub(super) fn log_unlogged_while_idle(&self) {
        while !self.unlogged.borrow().is_empty() && self.jobs.is_empty() && !self.jobs.is_closed() {
            self.log_unlogged(&self.connection());
            self.runtime.timer().sleep(RETRY_INTERVAL);
        }
    }

    /// True if there are changed keys and another handle has a lease.
    fn is_watched(&self, connection: &Connection, changed: &[Key]) -> rusqlite::Result<bool> {
        if changed.is_empty() || !self.watchers.is_shared {
            return Ok(false);
        }
        change_log::is_watched(connection, &self.sql, self.watchers.handle_id)
    }

    /// Logs the changed keys and the keys in `unlogged`, if another handle has a lease. Returns true if they were
    /// logged.
    pub(super) fn log_if_watched(&self, connection: &Connection, changed: &[Key]) -> rusqlite::Result<bool> {
        let is_watched = self.is_watched(connection, changed)?;
        if is_watched {
            let unlogged = self.unlogged.borrow();
            if !unlogged.is_empty() {
                change_log::log(connection, &self.sql, self.watchers.handle_id, &unlogged)?;
            }
            change_log::log(connection, &self.sql, self.watchers.handle_id, changed)?;
        }
        Ok(is_watched)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use kv_core::SystemClock;
    use tokio::sync::watch;

    use super::*;
    use crate::config::SqliteConfig;
    use crate::connection::DatabaseFile;
    use crate::liveness::CheckedKeys;
    use crate::message_hub::MessageHub;
    use crate::readers::{Pool, Readers};
    use crate::runtime::StoreRuntime;
    use crate::statement::{Statements, Table};
    use crate::watchers::Watchers;
    use crate::writer::queue::Queue;

    const LEASE: &str = r#"INSERT INTO "kv watchers" (id, expires) VALUES (7, 9000000000000)"#;

    /// Opens a writer on a new file, and a connection to the file that stands for another process.
    fn writer(folder: &tempfile::TempDir) -> (Writer, Queue, Connection) {
        let path = folder.path().join("store.sqlite");
        let config = SqliteConfig { busy_timeout: Duration::from_millis(20), ..SqliteConfig::default() };
        let table = Table::new("kv").unwrap();
        let runtime = Arc::new(StoreRuntime::start().unwrap());
        let (database, connection, files) = DatabaseFile::open_writer(&path, &table, &config, runtime.timer()).unwrap();
        let (queue, jobs) = Queue::new(runtime.timer().clone(), config.operation_timeout);
        let pool = Pool::new(database.clone(), 1, config.operation_timeout);
        let writer = Writer {
            connection: Arc::new(Mutex::new(connection)),
            jobs,
            sql: Arc::new(Statements::new(table)),
            clock: Arc::new(SystemClock),
            runtime,
            watchers: Watchers::new(1, true),
            messages: Arc::new(MessageHub::new(1, None)),
            checked: Arc::new(CheckedKeys::new()),
            readers: Arc::new(Readers::Pool(pool)),
            database: Some(database),
            files: Some(files),
            min_free: 0,
            checked_schema: Cell::new(None),
            unlogged: RefCell::default(),
            sync: config.sync,
            is_closed: Arc::new(AtomicBool::new(false)),
            last_batch: 0,
            ended: watch::channel(false).0,
        };
        (writer, queue, Connection::open(path).unwrap())
    }

    fn logged(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare(r#"SELECT key FROM "kv changes" ORDER BY sequence"#).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn changes_that_cannot_be_logged_because_of_a_lock_are_logged_after_its_release() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _queue, other) = writer(&folder);
        other.execute_batch(&format!("{LEASE}; BEGIN IMMEDIATE")).unwrap();
        writer.log_late(&writer.connection(), &[Key::new(["a"]).unwrap()]);
        assert!(writer.connection().is_autocommit());
        other.execute_batch("COMMIT").unwrap();
        assert!(logged(&other).is_empty());
        writer.log_unlogged_while_idle();
        assert_eq!(logged(&other), ["a"]);
        assert!(writer.unlogged.borrow().is_empty());
    }

    #[test]
    fn changes_that_cannot_be_logged_are_logged_with_the_next_batch() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _queue, other) = writer(&folder);
        other.execute_batch(&format!("{LEASE}; BEGIN IMMEDIATE")).unwrap();
        writer.log_late(&writer.connection(), &[Key::new(["a"]).unwrap()]);
        other.execute_batch("COMMIT").unwrap();
        let connection = writer.connection();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(writer.log_if_watched(&connection, &[Key::new(["b"]).unwrap()]).unwrap());
        connection.execute_batch("COMMIT").unwrap();
        assert_eq!(logged(&other), ["a", "b"]);
    }

    #[test]
    fn changes_that_could_not_be_logged_are_logged_when_the_store_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _queue, other) = writer(&folder);
        other.execute_batch(&format!("{LEASE}; BEGIN IMMEDIATE")).unwrap();
        writer.log_late(&writer.connection(), &[Key::new(["a"]).unwrap()]);
        other.execute_batch("COMMIT").unwrap();
        writer.finish();
        assert_eq!(logged(&other), ["a"]);
    }

    #[test]
    fn a_failed_attempt_to_log_changes_leaves_no_open_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _queue, other) = writer(&folder);
        other.execute_batch(&format!(r#"{LEASE}; DROP TABLE "kv changes""#)).unwrap();
        writer.log_late(&writer.connection(), &[Key::new(["a"]).unwrap()]);
        assert!(writer.connection().is_autocommit());
    }
}
