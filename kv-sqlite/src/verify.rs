//! Checking a whole file: the structure by SQLite, every row by its checks.

use std::ops::Bound;

use kv_core::{Error, ErrorKind, Key, Result, TakeEntry};
use rusqlite::{Connection, params};

use crate::codec::Stored;
use crate::error;
use crate::statement::{Columns, ListShape, Statements};
use crate::sweep::end_text;

/// How many rows are read in one go, so that a check of a large file does not hold up the cleaning of its log.
const PAGE: i64 = 1_000;

/// The most problems of the structure that are told.
const MAX_PROBLEMS: i64 = 100;

/// What a check of the whole store has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verification {
    /// How many entries are sound, those that have expired and are not swept yet included.
    pub entries: u64,
    /// The keys whose entries are damaged. Reading one is `Corrupt`; deleting or overwriting it removes the damage.
    pub damaged: Vec<Key>,
    /// What is wrong with the file's structure, in SQLite's words. Entries may be unreachable.
    pub problems: Vec<String>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.problems.is_empty()
    }

    /// Damage may end a check early, and is its answer.
    fn end_of(&mut self, checked: Result<()>) -> Result<()> {
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

/// Checks everything, and gives each sound entry to `take`. It takes as long as reading the file does.
pub(crate) fn verify(connection: &Connection, sql: &Statements, take: TakeEntry) -> Result<Verification> {
    let mut found = Verification::default();
    let structure = structure(connection, sql, &mut found);
    found.end_of(structure)?;
    let walk = walk(connection, sql, take, &mut found);
    found.end_of(walk)?;
    Ok(found)
}

fn structure(connection: &Connection, sql: &Statements, found: &mut Verification) -> Result<()> {
    let pragma = format!("PRAGMA integrity_check({MAX_PROBLEMS})");
    let mut statement = connection.prepare(&pragma).map_err(error::read)?;
    let mut lines = statement.query([]).map_err(error::read)?;
    while let Some(line) = lines.next().map_err(error::read)? {
        let line: String = line.get(0).map_err(error::read)?;
        if line != "ok" {
            found.problems.push(line);
        }
    }
    let strays: i64 = connection.query_row(&sql.strays, [], |row| row.get(0)).map_err(error::read)?;
    if strays != 0 {
        found.problems.push(format!("{strays} more values than entries are beside the table"));
    }
    Ok(())
}

fn walk(connection: &Connection, sql: &Statements, mut take: TakeEntry, found: &mut Verification) -> Result<()> {
    let shape = ListShape { reverse: false, columns: Columns::Entry };
    let (mut after, end): (Bound<String>, _) = (Bound::Unbounded, Bound::Unbounded);
    loop {
        let mut statement = connection.prepare_cached(&sql.list(shape, &after, &end)).map_err(error::read)?;
        let mut rows = statement.query(params![end_text(&after), end_text(&end), PAGE]).map_err(error::read)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(error::read)? {
            count += 1;
            let text: String = row.get(0).map_err(error::read)?;
            match Key::parse_stored(&text) {
                Ok(key) => match Stored::read(&key, row, 1) {
                    Ok(stored) => {
                        found.entries += 1;
                        take(key, stored.into_entry())?;
                    }
                    Err(_) => found.damaged.push(key),
                },
                Err(_) => found.problems.push("a row's key is not canonical".into()),
            }
            if end_text(&after).is_some_and(|after| after >= text.as_str()) {
                return Err(Error::corrupt("the rows are out of order"));
            }
            after = Bound::Excluded(text);
        }
        if count < PAGE {
            return Ok(());
        }
    }
}
