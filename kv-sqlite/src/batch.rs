//! The transaction that the writer has open, as the writes of a batch see it.

use std::cell::RefCell;
use std::time::SystemTime;

use kv_core::{Clock, Deadline, Entry, Expiry, Key, Version};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::{Stored, checksum_of, deadline_check, deadline_column, read_deadline};
use crate::error::Abort;
use crate::relied::Relied;
use crate::statement::Statements;

/// An open transaction: all that is done through it is committed together, or not at all.
#[derive(Debug)]
pub(crate) struct Batch<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) sql: &'c Statements,
    pub(crate) now: SystemTime,
    clock: &'c dyn Clock,
    relied: &'c Relied,
    /// The keys that watchers are told of after the commit, in order.
    changed: RefCell<Vec<Key>>,
}

impl<'c> Batch<'c> {
    pub(crate) fn new(
        connection: &'c Connection,
        sql: &'c Statements,
        clock: &'c dyn Clock,
        relied: &'c Relied,
    ) -> Self {
        Self { connection, sql, now: clock.now(), clock, relied, changed: RefCell::default() }
    }

    pub(crate) fn into_changed(self) -> Vec<Key> {
        self.changed.into_inner()
    }

    /// The live entry of a key and its deadline.
    pub(crate) fn current(&self, key: &Key) -> Result<Option<(Entry, Deadline)>, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.get)?;
        let found = statement.query_row([key.as_str()], |row| Ok(Stored::read(key, row, 0))).optional()?.transpose()?;
        let live = found.filter(|stored| self.is_live(key, stored.deadline));
        Ok(live.map(|stored| {
            let deadline = stored.deadline;
            (stored.into_entry(), deadline)
        }))
    }

    /// The deadline of a key's live entry, without reading its value.
    pub(crate) fn current_deadline(&self, key: &Key) -> Result<Option<Deadline>, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.deadline)?;
        let found =
            statement.query_row([key.as_str()], |row| Ok(read_deadline(key, row, 0))).optional()?.transpose()?;
        Ok(found.filter(|deadline| self.is_live(key, *deadline)))
    }

    /// The deadline that an expiry means for a write of this key now. The entry that is there is read for `Keep` only.
    pub(crate) fn resolve(&self, key: &Key, expiry: Expiry) -> Result<Deadline, Abort> {
        let current = if expiry == Expiry::Keep { self.current_deadline(key)? } else { None };
        Ok(Deadline::resolve(expiry, self.now, current))
    }

    /// Writes an entry; with a deadline that has passed, the key is absent instead.
    pub(crate) fn write(&self, key: &Key, value: &[u8], version: &Version, deadline: Deadline) -> Result<(), Abort> {
        if deadline.has_passed(self.now) {
            self.remove(key)?;
            return Ok(());
        }
        let checksum = checksum_of(key, version.as_bytes(), value);
        let (deadline, check) = (deadline_column(deadline), deadline_check(key, deadline));
        let fits_row = Stored::fits_row(key, value);
        if !fits_row && self.replace_beside(key, value)? {
            // Without naming the column `beside`, whose triggers would remove what is there.
            let mut statement = self.connection.prepare_cached(&self.sql.write_beside)?;
            statement.execute(params![key.as_str(), deadline, check, version.as_bytes(), checksum])?;
        } else {
            let (in_row, beside) = if fits_row { (Some(value), None) } else { (None, Some(self.put_beside(value)?)) };
            let mut statement = self.connection.prepare_cached(&self.sql.write)?;
            statement.execute(params![key.as_str(), deadline, check, version.as_bytes(), checksum, in_row, beside])?;
        }
        self.note(key);
        Ok(())
    }

    /// Puts a large value in the place of the one that it replaces, where that is large too.
    fn replace_beside(&self, key: &Key, value: &[u8]) -> Result<bool, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.replace_beside)?;
        Ok(statement.execute(params![key.as_str(), value])? > 0)
    }

    /// Puts a large value beside the table, and gives its number.
    fn put_beside(&self, value: &[u8]) -> Result<i64, Abort> {
        self.connection.prepare_cached(&self.sql.put_beside)?.execute([value])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Moves the deadline of an entry that is there; to one that has passed removes it.
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
        self.note(key);
        Ok(())
    }

    /// Removes an entry and tells whether it was live.
    pub(crate) fn remove(&self, key: &Key) -> Result<bool, Abort> {
        let mut statement = self.connection.prepare_cached(&self.sql.remove)?;
        let removed: Option<Option<i64>> = statement.query_row([key.as_str()], |row| row.get(0)).optional()?;
        let Some(deadline) = removed else { return Ok(false) };
        self.note(key);
        let deadline = match deadline {
            Some(millis) => Deadline::from_millis(u64::try_from(millis).unwrap_or_default()),
            None => Deadline::NEVER,
        };
        Ok(self.is_live(key, deadline))
    }

    /// Removes what has this key and this deadline, which the caller has found to have passed.
    pub(crate) fn remove_due(&self, key: &Key, deadline: i64) -> Result<bool, Abort> {
        let removed = self.connection.prepare_cached(&self.sql.remove_due)?.execute(params![key.as_str(), deadline])?;
        if removed > 0 {
            self.note(key);
        }
        Ok(removed > 0)
    }

    /// Runs what changes several rows: all of it, or nothing where the call is refused on the way.
    pub(crate) fn together<T>(&self, change: impl FnOnce() -> Result<T, Abort>) -> Result<T, Abort> {
        let noted = self.changed.borrow().len();
        self.connection.prepare_cached("SAVEPOINT call")?.execute([])?;
        let outcome = change();
        if let Err(Abort::Call(_)) = &outcome {
            self.connection.prepare_cached("ROLLBACK TO call")?.execute([])?;
            self.changed.borrow_mut().truncate(noted);
        }
        if !matches!(outcome, Err(Abort::Driver(_))) {
            self.connection.prepare_cached("RELEASE call")?.execute([])?;
        }
        outcome
    }

    /// Whether an entry is live, as readers will agree until the commit.
    fn is_live(&self, key: &Key, deadline: Deadline) -> bool {
        if deadline == Deadline::NEVER {
            return true;
        }
        self.relied.rely(key);
        !deadline.has_passed(self.clock.now())
    }

    fn note(&self, key: &Key) {
        self.changed.borrow_mut().push(key.clone());
    }
}
