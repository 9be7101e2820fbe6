//! Reading and changing rows inside the writer's transaction.

use std::cell::RefCell;
use std::time::SystemTime;

use kv_core::{Clock, Deadline, Entry, Expiry, Key, Version};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::{Stored, checksum_of, deadline_check, deadline_column, read_deadline};
use crate::error::Failure;
use crate::liveness::CheckedKeys;
use crate::statement::Statements;

/// The rows of the store in the open transaction of a batch.
#[derive(Debug)]
pub(crate) struct Rows<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) sql: &'c Statements,
    /// The time at which the batch began.
    pub(crate) now: SystemTime,
    clock: &'c dyn Clock,
    checked: &'c CheckedKeys,
    /// The changed keys in the order of their changes. The watchers are notified of these keys after the commit.
    changed: RefCell<Vec<Key>>,
}

impl<'c> Rows<'c> {
    pub(crate) fn new(
        connection: &'c Connection,
        sql: &'c Statements,
        clock: &'c dyn Clock,
        checked: &'c CheckedKeys,
    ) -> Self {
        Self { connection, sql, now: clock.now(), clock, checked, changed: RefCell::default() }
    }

    pub(crate) fn into_changed(self) -> Vec<Key> {
        self.changed.into_inner()
    }

    /// Returns the live entry of a key and its deadline.
    pub(crate) fn current(&self, key: &Key) -> Result<Option<(Entry, Deadline)>, Failure> {
        let mut statement = self.connection.prepare_cached(&self.sql.get)?;
        let found = statement.query_row([key.as_str()], |row| Ok(Stored::read(key, row, 0))).optional()?.transpose()?;
        let live = found.filter(|stored| self.is_live(key, stored.deadline));
        Ok(live.map(|stored| {
            let deadline = stored.deadline;
            (stored.into_entry(), deadline)
        }))
    }

    /// Returns the deadline of a key's live entry. Does not read the value of the entry.
    pub(crate) fn current_deadline(&self, key: &Key) -> Result<Option<Deadline>, Failure> {
        let mut statement = self.connection.prepare_cached(&self.sql.deadline)?;
        let found =
            statement.query_row([key.as_str()], |row| Ok(read_deadline(key, row, 0))).optional()?.transpose()?;
        Ok(found.filter(|deadline| self.is_live(key, *deadline)))
    }

    /// Returns the deadline of a write with this expiry. Reads the deadline of the current entry only for `Keep`.
    pub(crate) fn resolve(&self, key: &Key, expiry: Expiry) -> Result<Deadline, Failure> {
        let current = if expiry == Expiry::Keep { self.current_deadline(key)? } else { None };
        Ok(Deadline::resolve(expiry, self.now, current))
    }

    /// Writes an entry. If the deadline has passed already, removes the entry of the key instead.
    pub(crate) fn write(&self, key: &Key, value: &[u8], version: &Version, deadline: Deadline) -> Result<(), Failure> {
        if deadline.has_passed(self.now) {
            self.remove(key)?;
            return Ok(());
        }
        let checksum = checksum_of(key, version.as_bytes(), value);
        let (deadline, check) = (deadline_column(deadline), deadline_check(key, deadline));
        let fits_row = Stored::fits_row(key, value);
        if !fits_row && self.replace_large_value(key, value)? {
            // The row still refers to the same large value, so this statement does not set the column `beside`.
            let mut statement = self.connection.prepare_cached(&self.sql.update_keeping_large_value)?;
            statement.execute(params![key.as_str(), deadline, check, version.as_bytes(), checksum])?;
        } else {
            // If the new value is large, `replace_large_value` has found no old large value that must be deleted.
            if fits_row {
                self.connection.prepare_cached(&self.sql.delete_large_value_of_key)?.execute([key.as_str()])?;
            }
            let (in_row, beside) =
                if fits_row { (Some(value), None) } else { (None, Some(self.insert_large_value(value)?)) };
            let mut statement = self.connection.prepare_cached(&self.sql.upsert)?;
            statement.execute(params![key.as_str(), deadline, check, version.as_bytes(), checksum, in_row, beside])?;
        }
        self.mark_changed(key);
        Ok(())
    }

    /// Replaces the large value of a key; false if the key has no large value.
    fn replace_large_value(&self, key: &Key, value: &[u8]) -> Result<bool, Failure> {
        let mut statement = self.connection.prepare_cached(&self.sql.replace_large_value)?;
        Ok(statement.execute(params![key.as_str(), value])? > 0)
    }

    /// Inserts a large value and returns its id.
    fn insert_large_value(&self, value: &[u8]) -> Result<i64, Failure> {
        self.connection.prepare_cached(&self.sql.insert_large_value)?.execute([value])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Changes the deadline of an existing entry. If the deadline has passed already, removes the entry instead.
    pub(crate) fn move_deadline(&self, key: &Key, deadline: Deadline) -> Result<(), Failure> {
        if deadline.has_passed(self.now) {
            self.remove(key)?;
            return Ok(());
        }
        self.connection.prepare_cached(&self.sql.move_deadline)?.execute(params![
            key.as_str(),
            deadline_column(deadline),
            deadline_check(key, deadline)
        ])?;
        self.mark_changed(key);
        Ok(())
    }

    /// Removes the entry of a key, live or expired. Returns true if the entry was live.
    pub(crate) fn remove(&self, key: &Key) -> Result<bool, Failure> {
        let mut statement = self.connection.prepare_cached(&self.sql.delete)?;
        let removed = statement.query_row([key.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((deadline, beside)): Option<(Option<i64>, Option<i64>)> = removed else { return Ok(false) };
        self.remove_large_value(beside)?;
        self.mark_changed(key);
        let deadline = match deadline {
            Some(millis) => Deadline::from_millis(u64::try_from(millis).unwrap_or_default()),
            None => Deadline::NEVER,
        };
        Ok(self.is_live(key, deadline))
    }

    /// Removes the entry of a key if it still has this deadline, which has passed. Returns true if it was removed.
    pub(crate) fn remove_due(&self, key: &Key, deadline: i64) -> Result<bool, Failure> {
        let mut statement = self.connection.prepare_cached(&self.sql.delete_due)?;
        let removed = statement.query_row(params![key.as_str(), deadline], |row| row.get(0)).optional()?;
        let Some(beside) = removed else { return Ok(false) };
        self.remove_large_value(beside)?;
        self.mark_changed(key);
        Ok(true)
    }

    /// Removes the large value of a removed row, if the row had one.
    fn remove_large_value(&self, beside: Option<i64>) -> Result<(), Failure> {
        if let Some(id) = beside {
            self.connection.prepare_cached(&self.sql.delete_large_value)?.execute([id])?;
        }
        Ok(())
    }

    /// Runs a change of several rows atomically: if this crate refuses a part of the change, all of it is undone.
    pub(crate) fn atomically<T>(&self, change: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let changed_before = self.changed.borrow().len();
        self.connection.prepare_cached("SAVEPOINT call")?.execute([])?;
        let outcome = change();
        if let Err(Failure::Refused(_)) = &outcome {
            self.connection.prepare_cached("ROLLBACK TO call")?.execute([])?;
            self.changed.borrow_mut().truncate(changed_before);
        }
        if !matches!(outcome, Err(Failure::Driver(_))) {
            self.connection.prepare_cached("RELEASE call")?.execute([])?;
        }
        outcome
    }

    /// True if an entry is live. Registers the key first, so that no reader reports the entry as expired before the
    /// batch ends.
    fn is_live(&self, key: &Key, deadline: Deadline) -> bool {
        if deadline == Deadline::NEVER {
            return true;
        }
        self.checked.register(key);
        !deadline.has_passed(self.clock.now())
    }

    fn mark_changed(&self, key: &Key) {
        self.changed.borrow_mut().push(key.clone());
    }
}
