//! The rows of the table inside the writer's open transaction.

use std::cell::RefCell;
use std::time::SystemTime;

use kv_core::{Clock, Deadline, Entry, Expiry, Key, Version};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::{Stored, checksum_of, deadline_check, deadline_column, read_deadline};
use crate::error::Abort;
use crate::liveness::CheckedKeys;
use crate::statement::Statements;

/// Reads and changes rows in an open transaction. All changes of a batch are committed together, or none is.
#[derive(Debug)]
pub(crate) struct Rows<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) sql: &'c Statements,
    pub(crate) now: SystemTime,
    clock: &'c dyn Clock,
    checked: &'c CheckedKeys,
    /// The changed keys in order. Watchers are notified of them after the commit.
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
    pub(crate) fn current(&self, key: &Key) -> Result<Option<(Entry, Deadline)>, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.get)?;
        let found = statement.query_row([key.as_str()], |row| Ok(Stored::read(key, row, 0))).optional()?.transpose()?;
        let live = found.filter(|stored| self.is_live(key, stored.deadline));
        Ok(live.map(|stored| {
            let deadline = stored.deadline;
            (stored.into_entry(), deadline)
        }))
    }

    /// Returns the deadline of a key's live entry, without reading its value.
    pub(crate) fn current_deadline(&self, key: &Key) -> Result<Option<Deadline>, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.deadline)?;
        let found =
            statement.query_row([key.as_str()], |row| Ok(read_deadline(key, row, 0))).optional()?.transpose()?;
        Ok(found.filter(|deadline| self.is_live(key, *deadline)))
    }

    /// Returns the deadline of an expiry for a write of this key now. Only `Keep` reads the current entry.
    pub(crate) fn resolve(&self, key: &Key, expiry: Expiry) -> Result<Deadline, Abort> {
        let current = if expiry == Expiry::Keep { self.current_deadline(key)? } else { None };
        Ok(Deadline::resolve(expiry, self.now, current))
    }

    /// Writes an entry. If the deadline has passed, removes the key instead.
    pub(crate) fn write(&self, key: &Key, value: &[u8], version: &Version, deadline: Deadline) -> Result<(), Abort> {
        if deadline.has_passed(self.now) {
            self.remove(key)?;
            return Ok(());
        }
        let checksum = checksum_of(key, version.as_bytes(), value);
        let (deadline, check) = (deadline_column(deadline), deadline_check(key, deadline));
        let fits_row = Stored::fits_row(key, value);
        if !fits_row && self.replace_beside(key, value)? {
            // This statement does not set the column `beside`, because the value keeps its number.
            let mut statement = self.connection.prepare_cached(&self.sql.update_keeping_beside)?;
            statement.execute(params![key.as_str(), deadline, check, version.as_bytes(), checksum])?;
        } else {
            // With a large value, `replace_beside` has found none to delete.
            if fits_row {
                self.connection.prepare_cached(&self.sql.delete_beside_of)?.execute([key.as_str()])?;
            }
            let (in_row, beside) =
                if fits_row { (Some(value), None) } else { (None, Some(self.insert_beside(value)?)) };
            let mut statement = self.connection.prepare_cached(&self.sql.upsert)?;
            statement.execute(params![key.as_str(), deadline, check, version.as_bytes(), checksum, in_row, beside])?;
        }
        self.mark_changed(key);
        Ok(())
    }

    /// Replaces a large value in place; false if the key has no large value.
    fn replace_beside(&self, key: &Key, value: &[u8]) -> Result<bool, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.replace_beside)?;
        Ok(statement.execute(params![key.as_str(), value])? > 0)
    }

    /// Inserts a large value beside the table and returns its number.
    fn insert_beside(&self, value: &[u8]) -> Result<i64, Abort> {
        self.connection.prepare_cached(&self.sql.insert_beside)?.execute([value])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Changes the deadline of an existing entry. If the deadline has passed, removes the entry instead.
    pub(crate) fn move_deadline(&self, key: &Key, deadline: Deadline) -> Result<(), Abort> {
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

    /// Removes an entry, and returns true if it was live.
    pub(crate) fn remove(&self, key: &Key) -> Result<bool, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.delete)?;
        let removed = statement.query_row([key.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((deadline, beside)): Option<(Option<i64>, Option<i64>)> = removed else { return Ok(false) };
        self.remove_beside(beside)?;
        self.mark_changed(key);
        let deadline = match deadline {
            Some(millis) => Deadline::from_millis(u64::try_from(millis).unwrap_or_default()),
            None => Deadline::NEVER,
        };
        Ok(self.is_live(key, deadline))
    }

    /// Removes a key that still has this deadline, which the caller knows to have passed; false if it has not.
    pub(crate) fn remove_due(&self, key: &Key, deadline: i64) -> Result<bool, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.delete_due)?;
        let removed = statement.query_row(params![key.as_str(), deadline], |row| row.get(0)).optional()?;
        let Some(beside) = removed else { return Ok(false) };
        self.remove_beside(beside)?;
        self.mark_changed(key);
        Ok(true)
    }

    /// Removes the large value of a removed row.
    fn remove_beside(&self, beside: Option<i64>) -> Result<(), Abort> {
        if let Some(id) = beside {
            self.connection.prepare_cached(&self.sql.delete_beside)?.execute([id])?;
        }
        Ok(())
    }

    /// Runs a change of several rows atomically: a refusal on the way undoes all of it.
    pub(crate) fn atomically<T>(&self, change: impl FnOnce() -> Result<T, Abort>) -> Result<T, Abort> {
        let changed_before = self.changed.borrow().len();
        self.connection.prepare_cached("SAVEPOINT call")?.execute([])?;
        let outcome = change();
        if let Err(Abort::Call(_)) = &outcome {
            self.connection.prepare_cached("ROLLBACK TO call")?.execute([])?;
            self.changed.borrow_mut().truncate(changed_before);
        }
        if !matches!(outcome, Err(Abort::Driver(_))) {
            self.connection.prepare_cached("RELEASE call")?.execute([])?;
        }
        outcome
    }

    /// True if an entry is live. Readers agree with this until the commit, because the key is registered first.
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
