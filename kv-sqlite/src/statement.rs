//! The SQL statements of one store.
//!
//! The statements are built once, when the store is opened. The validated table name is the only text of the caller in
//! the statements.

use std::ops::Bound;

use kv_core::{Error, Result};

use crate::codec::Stored;

/// A validated table name: `[A-Za-z_][A-Za-z0-9_]{0,62}`, without SQLite's reserved prefix `sqlite_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let is_valid = match name.as_bytes() {
            [first, rest @ ..] => {
                (first.is_ascii_alphabetic() || *first == b'_')
                    && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                    && rest.len() <= 62
            }
            [] => false,
        };
        if !is_valid || name.to_ascii_lowercase().starts_with("sqlite_") {
            return Err(Error::invalid(
                "a table name has 1 to 63 letters, digits and `_`, and does not begin with a digit or with `sqlite_`",
            ));
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the table of the change log. The names of internal tables contain a space, so that they cannot equal
    /// the name of another store's table.
    pub(crate) fn changes(&self) -> String {
        format!("{} changes", self.0)
    }

    /// The name of the table of large values.
    pub(crate) fn large_values(&self) -> String {
        format!("{} beside", self.0)
    }

    /// The name of the table of leases, which has a row for each handle with watchers.
    pub(crate) fn watchers(&self) -> String {
        format!("{} watchers", self.0)
    }

    /// The name of the index of deadlines.
    pub(crate) fn index(&self) -> String {
        format!("{} deadline", self.0)
    }

    /// The names of all tables of the store.
    pub(crate) fn tables(&self) -> [String; 4] {
        [self.0.clone(), self.large_values(), self.changes(), self.watchers()]
    }
}

/// The columns that a list reads in addition to the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// The columns of [`Stored::read`].
    Entry,
    /// The deadline and its checksum.
    Deadline,
    /// The length of the value in bytes.
    Length,
}

/// The parts of a list query that change the text of the statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListShape {
    pub(crate) reverse: bool,
    pub(crate) columns: Columns,
}

/// An expression for the length of a value in bytes, 0 if the value is missing. SQLite computes the length without
/// reading the value.
const LENGTH: &str = "ifnull(length(row.value), ifnull(length(beside.value), 0))";

/// The statements of one store.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) table: Table,
    /// The clause `FROM`, with the join of rows and large values.
    from: String,
    pub(crate) get: String,
    pub(crate) deadline: String,
    pub(crate) insert_large_value: String,
    pub(crate) replace_large_value: String,
    pub(crate) delete_large_value: String,
    pub(crate) delete_large_value_of_key: String,
    pub(crate) update_keeping_large_value: String,
    pub(crate) upsert: String,
    pub(crate) move_deadline: String,
    pub(crate) delete: String,
    pub(crate) delete_due: String,
    pub(crate) is_due: String,
    pub(crate) due: String,
    pub(crate) orphans: String,
    pub(crate) other_leases: String,
    pub(crate) expire_leases: String,
    pub(crate) clear_unwatched_log: String,
    pub(crate) renew_lease: String,
    pub(crate) insert_lease: String,
    pub(crate) delete_lease: String,
    pub(crate) has_lease: String,
    pub(crate) last_change: String,
    pub(crate) log_change: String,
    pub(crate) prune_changes: String,
    pub(crate) changes_after: String,
}

impl Statements {
    pub(crate) fn new(table: Table) -> Self {
        let (t, beside) = (table.as_str(), table.large_values());
        let (changes, watchers) = (table.changes(), table.watchers());
        let columns = Stored::COLUMNS;
        Self {
            from: format!(r#"FROM "{t}" AS row LEFT JOIN "{beside}" AS beside ON beside.id = row.beside"#),
            get: format!(
                r#"SELECT {columns} FROM "{t}" AS row LEFT JOIN "{beside}" AS beside ON beside.id = row.beside
                   WHERE row.key = ?1"#
            ),
            deadline: format!(r#"SELECT deadline, deadline_check FROM "{t}" WHERE key = ?1"#),
            insert_large_value: format!(r#"INSERT INTO "{beside}" (value) VALUES (?1)"#),
            replace_large_value: format!(
                r#"UPDATE "{beside}" SET value = ?2 WHERE id = (SELECT beside FROM "{t}" WHERE key = ?1)"#
            ),
            delete_large_value: format!(r#"DELETE FROM "{beside}" WHERE id = ?1"#),
            delete_large_value_of_key: format!(
                r#"DELETE FROM "{beside}" WHERE id = (SELECT beside FROM "{t}" WHERE key = ?1)"#
            ),
            update_keeping_large_value: format!(
                r#"UPDATE "{t}" SET deadline = ?2, deadline_check = ?3, version = ?4, checksum = ?5 WHERE key = ?1"#
            ),
            upsert: format!(
                r#"INSERT INTO "{t}" (key, deadline, deadline_check, version, checksum, value, beside)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT (key) DO UPDATE SET
                   deadline = ?2, deadline_check = ?3, version = ?4, checksum = ?5, value = ?6, beside = ?7"#
            ),
            move_deadline: format!(r#"UPDATE "{t}" SET deadline = ?2, deadline_check = ?3 WHERE key = ?1"#),
            delete: format!(r#"DELETE FROM "{t}" WHERE key = ?1 RETURNING deadline, beside"#),
            delete_due: format!(r#"DELETE FROM "{t}" WHERE key = ?1 AND deadline = ?2 RETURNING beside"#),
            is_due: format!(r#"SELECT 1 FROM "{t}" WHERE deadline IS NOT NULL AND deadline <= ?1 LIMIT 1"#),
            due: format!(
                r#"SELECT row.key, row.deadline, row.deadline_check, {LENGTH}
                   FROM "{t}" AS row LEFT JOIN "{beside}" AS beside ON beside.id = row.beside
                   WHERE row.deadline IS NOT NULL AND row.deadline <= ?1 AND (row.deadline, row.key) > (?2, ?3)
                   ORDER BY row.deadline, row.key LIMIT ?4"#
            ),
            orphans: format!(r#"SELECT (SELECT count(*) FROM "{beside}") - (SELECT count(beside) FROM "{t}")"#),
            other_leases: format!(r#"SELECT count(*), min(expires) FROM "{watchers}" WHERE id <> ?1"#),
            expire_leases: format!(r#"DELETE FROM "{watchers}" WHERE id <> ?1 AND expires <= ?2"#),
            clear_unwatched_log: format!(r#"DELETE FROM "{changes}" WHERE NOT EXISTS (SELECT 1 FROM "{watchers}")"#),
            renew_lease: format!(r#"UPDATE "{watchers}" SET expires = ?2 WHERE id = ?1"#),
            insert_lease: format!(r#"INSERT INTO "{watchers}" (id, expires) VALUES (?1, ?2)"#),
            delete_lease: format!(r#"DELETE FROM "{watchers}" WHERE id = ?1"#),
            has_lease: format!(r#"SELECT 1 FROM "{watchers}" WHERE id = ?1"#),
            last_change: format!("SELECT seq FROM sqlite_sequence WHERE name = '{changes}'"),
            log_change: format!(r#"INSERT INTO "{changes}" (key, origin) VALUES (?1, ?2)"#),
            prune_changes: format!(r#"DELETE FROM "{changes}" WHERE sequence <= ?1"#),
            changes_after: format!(
                r#"SELECT sequence, key, origin FROM "{changes}" WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"#
            ),
            table,
        }
    }

    /// Returns the statement of a list. Its parameters `?1` and `?2` are the [`bound_text`] of `start` and `end`, and
    /// `?3` is the maximum number of rows.
    pub(crate) fn list<T>(&self, shape: ListShape, start: &Bound<T>, end: &Bound<T>) -> String {
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
        // A list of deadlines reads no values and needs no join with the table of large values.
        let table = format!(r#"FROM "{}" AS row"#, self.table.as_str());
        let from = if shape.columns == Columns::Deadline { &table } else { &self.from };
        format!("SELECT row.key, {columns} {from} WHERE TRUE{start}{end} ORDER BY row.key{direction} LIMIT ?3")
    }
}

/// Returns the text of a bound as a parameter. The text is `None` for an unbounded end, which is not in the statement.
pub(crate) fn bound_text<T>(bound: &Bound<T>) -> Option<&T> {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => Some(text),
        Bound::Unbounded => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_with_other_characters_or_a_reserved_prefix_is_invalid() {
        for name in ["a", "_", "A_9", &"x".repeat(63)] {
            assert!(Table::new(name).is_ok(), "{name}");
        }
        for name in ["", "9a", "a b", "a\"", "a;", "é", "a-b", "sqlite_x", "SQLITE_master", &"x".repeat(64)] {
            assert!(Table::new(name).is_err(), "{name}");
        }
    }
}
