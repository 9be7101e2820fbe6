//! The check of a whole file.
//!
//! SQLite checks the structure of the file. This crate checks every row by its checksums, and finds foreign objects.

use std::ops::Bound;
use std::sync::Arc;

use kv_core::{Error, ErrorKind, Key, Result, TakeEntry};
use rusqlite::{Connection, params};

use crate::codec::{RawText, Stored};
use crate::error::read_error;
use crate::foreign;
use crate::state::State;
use crate::statement::{Columns, ListShape, Statements, bound_text};

/// The maximum number of rows that one statement reads. A running read statement delays the checkpoint of the
/// write-ahead log, so the check of a large file must not be a single statement.
const MAX_PAGE_ROWS: i64 = 1_000;

/// The maximum number of problems of the structure that SQLite reports.
const MAX_PROBLEMS: i64 = 100;

/// The result of a check of the whole store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verification {
    /// The number of sound entries, including expired entries that are not swept yet.
    pub entries: u64,
    /// The keys of damaged entries. Reading such an entry fails with `Corrupt`. Deleting or overwriting the entry
    /// removes the damage.
    pub damaged: Vec<Key>,
    /// The problems of the file's structure, in the words of SQLite. If there is such a problem, entries may be
    /// unreachable. The field also has the kinds of objects on the table, such as triggers, that this crate did not
    /// create.
    pub problems: Vec<String>,
}

impl Verification {
    /// True if there are no damaged entries and no problems.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.problems.is_empty()
    }

    /// Reports damage that has ended a part of the check as a problem. Other errors are returned.
    pub(crate) fn report_damage(&mut self, checked: Result<()>) -> Result<()> {
        checked.or_else(|error| match error.kind() {
            ErrorKind::Corrupt => {
                self.problems.push(error.to_string());
                Ok(())
            }
            _ => Err(error),
        })
    }
}

impl From<Verification> for kv_core::Verification {
    fn from(found: Verification) -> Self {
        let Verification { entries, damaged, problems } = found;
        Self::new(entries, damaged.len() as u64).with_problems(problems)
    }
}

impl State {
    /// Runs the check on a separate thread, because it reads the whole file.
    pub(crate) async fn salvage(&self, take: TakeEntry) -> Result<Verification> {
        let readers = Arc::clone(self.readers()?);
        let sql = Arc::clone(&self.sql);
        let timer = self.runtime.timer();
        let checked = timer.spawn_blocking(move || readers.with(|connection| verify(connection, &sql, take)));
        checked
            .await
            .unwrap_or_else(|| Err(Error::unavailable("the thread of the check panicked or could not be started")))
    }
}

/// Checks the structure and all rows, and passes each sound entry to `take`.
fn verify(connection: &Connection, sql: &Statements, take: TakeEntry) -> Result<Verification> {
    let mut found = Verification::default();
    let structure = check_structure(connection, sql, &mut found);
    found.report_damage(structure)?;
    let rows = check_rows(connection, sql, take, &mut found);
    found.report_damage(rows)?;
    Ok(found)
}

/// Checks the structure of the file, and finds foreign objects.
pub(crate) fn check_structure(connection: &Connection, sql: &Statements, found: &mut Verification) -> Result<()> {
    let pragma = format!("PRAGMA integrity_check({MAX_PROBLEMS})");
    let mut statement = connection.prepare(&pragma).map_err(read_error)?;
    let mut lines = statement.query([]).map_err(read_error)?;
    while let Some(line) = lines.next().map_err(read_error)? {
        let line: String = line.get(0).map_err(read_error)?;
        if line != "ok" {
            found.problems.push(line);
        }
    }
    for object in foreign::find(connection, &sql.table).map_err(read_error)? {
        found.problems.push(object.to_string());
    }
    let orphans: i64 = connection.query_row(&sql.orphans, [], |row| row.get(0)).map_err(read_error)?;
    if orphans != 0 {
        found.problems.push(format!(
            "the number of large values differs by {orphans} from the number of entries that refer to them"
        ));
    }
    Ok(())
}

/// Checks all rows, and passes each sound entry to `take`.
pub(crate) fn check_rows(
    connection: &Connection,
    sql: &Statements,
    mut take: TakeEntry,
    found: &mut Verification,
) -> Result<()> {
    let shape = ListShape { reverse: false, columns: Columns::Entry };
    let (mut after, end) = (Bound::<RawText>::Unbounded, Bound::Unbounded);
    loop {
        let mut statement = connection.prepare_cached(&sql.list(shape, &after, &end)).map_err(read_error)?;
        let mut rows =
            statement.query(params![bound_text(&after), bound_text(&end), MAX_PAGE_ROWS]).map_err(read_error)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(read_error)? {
            count += 1;
            let text: RawText = row.get(0).map_err(read_error)?;
            match text.to_key() {
                Some(key) => match Stored::read(&key, row, 1) {
                    Ok(stored) => {
                        found.entries += 1;
                        take(key, stored.into_entry())?;
                    }
                    Err(_) => found.damaged.push(key),
                },
                None => found.problems.push("the key of a row is not canonical".into()),
            }
            if bound_text(&after).is_some_and(|after| *after >= text) {
                return Err(Error::corrupt("the rows are out of order"));
            }
            after = Bound::Excluded(text);
        }
        if count < MAX_PAGE_ROWS {
            return Ok(());
        }
    }
}
