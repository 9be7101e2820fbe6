//! The SQL of one table, put together once when the store is opened. Only validated names are ever part of it.

use std::ops::Bound;

use kv_core::{Error, Result};

use crate::codec::Stored;

/// A table's name: `[A-Za-z_][A-Za-z0-9_]{0,62}`, and not one of SQLite's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let has_shape = match name.as_bytes() {
            [first, rest @ ..] => {
                (first.is_ascii_alphabetic() || *first == b'_')
                    && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                    && rest.len() <= 62
            }
            [] => false,
        };
        if !has_shape || name.to_ascii_lowercase().starts_with("sqlite_") {
            return Err(Error::invalid(
                "a table's name has 1 to 63 letters, digits and `_`, no digit first, and does not start with `sqlite_`",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What belongs to the table has a space in its name, so that it never meets a table that a caller names.
    pub(crate) fn changes(&self) -> String {
        format!("{} changes", self.0)
    }

    pub(crate) fn beside(&self) -> String {
        format!("{} beside", self.0)
    }

    pub(crate) fn watchers(&self) -> String {
        format!("{} watchers", self.0)
    }

    pub(crate) fn index(&self) -> String {
        format!("{} deadline", self.0)
    }
}

/// What a list reads beside the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Everything, as [`Stored::read`] takes it.
    Entry,
    /// The deadline and its check.
    Deadline,
    /// The length of the value.
    Length,
}

/// Which rows of a list are wanted, as far as the text of the statement says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListShape {
    pub(crate) reverse: bool,
    pub(crate) columns: Columns,
}

/// The length of a value, which is known without reading it.
const LENGTH: &str = "ifnull(length(row.value), length(beside.value))";

#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) table: Table,
    from: String,
    pub(crate) get: String,
    pub(crate) deadline: String,
    pub(crate) put_beside: String,
    pub(crate) replace_beside: String,
    pub(crate) write_beside: String,
    pub(crate) write: String,
    pub(crate) move_deadline: String,
    pub(crate) remove: String,
    pub(crate) remove_due: String,
    pub(crate) is_due: String,
    pub(crate) due: String,
    pub(crate) strays: String,
    pub(crate) watchers: String,
    pub(crate) drop_watchers: String,
    pub(crate) drop_changes: String,
    pub(crate) renew: String,
    pub(crate) register: String,
    pub(crate) deregister: String,
    pub(crate) last_change: String,
    pub(crate) log: String,
    pub(crate) prune: String,
    pub(crate) changes: String,
}

impl Statements {
    pub(crate) fn new(table: Table) -> Self {
        let (t, beside) = (table.as_str(), table.beside());
        let (changes, watchers) = (table.changes(), table.watchers());
        let columns = Stored::COLUMNS;
        Self {
            from: format!(r#"FROM "{t}" AS row LEFT JOIN "{beside}" AS beside ON beside.id = row.beside"#),
            get: format!(
                r#"SELECT {columns} FROM "{t}" AS row LEFT JOIN "{beside}" AS beside ON beside.id = row.beside
                   WHERE row.key = ?1"#
            ),
            deadline: format!(r#"SELECT deadline, deadline_check FROM "{t}" WHERE key = ?1"#),
            put_beside: format!(r#"INSERT INTO "{beside}" (value) VALUES (?1)"#),
            replace_beside: format!(
                r#"UPDATE "{beside}" SET value = ?2 WHERE id = (SELECT beside FROM "{t}" WHERE key = ?1)"#
            ),
            write_beside: format!(
                r#"UPDATE "{t}" SET deadline = ?2, deadline_check = ?3, version = ?4, checksum = ?5 WHERE key = ?1"#
            ),
            write: format!(
                r#"INSERT INTO "{t}" (key, deadline, deadline_check, version, checksum, value, beside)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT (key) DO UPDATE SET
                   deadline = ?2, deadline_check = ?3, version = ?4, checksum = ?5, value = ?6, beside = ?7"#
            ),
            move_deadline: format!(r#"UPDATE "{t}" SET deadline = ?2, deadline_check = ?3 WHERE key = ?1"#),
            remove: format!(r#"DELETE FROM "{t}" WHERE key = ?1 RETURNING deadline"#),
            remove_due: format!(r#"DELETE FROM "{t}" WHERE key = ?1 AND deadline = ?2"#),
            is_due: format!(r#"SELECT 1 FROM "{t}" WHERE deadline IS NOT NULL AND deadline <= ?1 LIMIT 1"#),
            due: format!(
                r#"SELECT row.key, row.deadline, row.deadline_check, {LENGTH}
                   FROM "{t}" AS row LEFT JOIN "{beside}" AS beside ON beside.id = row.beside
                   WHERE row.deadline IS NOT NULL AND row.deadline <= ?1 AND (row.deadline, row.key) > (?2, ?3)
                   ORDER BY row.deadline, row.key LIMIT ?4"#
            ),
            strays: format!(r#"SELECT (SELECT count(*) FROM "{beside}") - (SELECT count(beside) FROM "{t}")"#),
            watchers: format!(r#"SELECT count(*), min(expires) FROM "{watchers}" WHERE id <> ?1"#),
            drop_watchers: format!(r#"DELETE FROM "{watchers}" WHERE id <> ?1 AND expires <= ?2"#),
            drop_changes: format!(r#"DELETE FROM "{changes}" WHERE NOT EXISTS (SELECT 1 FROM "{watchers}")"#),
            renew: format!(r#"UPDATE "{watchers}" SET expires = ?2 WHERE id = ?1"#),
            register: format!(r#"INSERT INTO "{watchers}" (id, expires) VALUES (?1, ?2)"#),
            deregister: format!(r#"DELETE FROM "{watchers}" WHERE id = ?1"#),
            last_change: format!("SELECT seq FROM sqlite_sequence WHERE name = '{changes}'"),
            log: format!(r#"INSERT INTO "{changes}" (key, origin) VALUES (?1, ?2)"#),
            prune: format!(r#"DELETE FROM "{changes}" WHERE sequence <= ?1"#),
            changes: format!(
                r#"SELECT sequence, key, origin FROM "{changes}" WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"#
            ),
            table,
        }
    }

    /// What a list reads: `?1` and `?2` are the ends of the range, as far as there are any, and `?3` is the limit.
    pub(crate) fn list(&self, shape: ListShape, start: &Bound<String>, end: &Bound<String>) -> String {
        let ListShape { reverse, columns } = shape;
        let columns = match columns {
            Columns::Entry => Stored::COLUMNS,
            Columns::Deadline => "row.deadline, row.deadline_check",
            Columns::Length => LENGTH,
        };
        let start = match start {
            Bound::Included(_) => " AND row.key >= ?1",
            Bound::Excluded(_) => " AND row.key > ?1",
            Bound::Unbounded => "",
        };
        let end = match end {
            Bound::Included(_) => " AND row.key <= ?2",
            Bound::Excluded(_) => " AND row.key < ?2",
            Bound::Unbounded => "",
        };
        let direction = if reverse { " DESC" } else { "" };
        // Without values, what is beside is not looked up.
        let table = format!(r#"FROM "{}" AS row"#, self.table.as_str());
        let from = if shape.columns == Columns::Deadline { &table } else { &self.from };
        format!("SELECT row.key, {columns} {from} WHERE TRUE{start}{end} ORDER BY row.key{direction} LIMIT ?3")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_allow_list_are_refused() {
        for name in ["a", "_", "A_9", &"x".repeat(63)] {
            assert!(Table::new(name).is_ok(), "{name}");
        }
        for name in ["", "9a", "a b", "a\"", "a;", "é", "a-b", "sqlite_x", "SQLITE_master", &"x".repeat(64)] {
            assert!(Table::new(name).is_err(), "{name}");
        }
    }
}
