//! Foreign objects: objects on a store's tables that another program has created.
//!
//! SQLite runs the triggers, views, generated columns, constraints and index expressions that are in a file. Triggers
//! and views are disabled on every connection. A store with any foreign object is not opened. If a foreign object other
//! than a trigger appears while the store is open, the store refuses writes.

use std::fmt;

use kv_core::Error;
use rusqlite::{Connection, params};

use crate::statement::Table;

/// The kind of a foreign object. Errors name only the kind, because another program chose the name and the definition,
/// and both may contain secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForeignObject {
    Trigger,
    View,
    Index,
    ExpressionIndex,
    GeneratedColumn,
    Check,
    ForeignKey,
    VirtualTable,
    /// A table of the store that has another definition than this crate gave it.
    Table,
    /// An object of an unknown kind.
    Unknown,
}

impl ForeignObject {
    /// True if the object prevents writes. A trigger prevents nothing, because triggers are disabled.
    pub(crate) fn prevents_writes(self) -> bool {
        self != Self::Trigger
    }

    /// True if a connection of this crate runs nothing of the object while it reads the rows. Triggers are disabled,
    /// and reads of rows in key order use no other index.
    pub(crate) fn allows_reads(self) -> bool {
        matches!(self, Self::Trigger | Self::Index | Self::ExpressionIndex)
    }

    pub(crate) fn to_error(self) -> Error {
        Error::corrupt(self.to_string())
    }
}

impl fmt::Display for ForeignObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Trigger => "a trigger",
            Self::View => "a view",
            Self::Index => "an index",
            Self::ExpressionIndex => "an index on an expression",
            Self::GeneratedColumn => "a generated column",
            Self::Check => "a CHECK constraint",
            Self::ForeignKey => "a foreign key",
            Self::VirtualTable => "a virtual table",
            Self::Table => "a changed table",
            Self::Unknown => "an object",
        };
        write!(f, "the table of the store has {kind} that this crate did not create")
    }
}

/// Finds the foreign objects on the tables of a store. Does not report objects of this crate that are missing.
///
/// # Errors
/// The errors of SQLite, for example of a damaged schema.
pub(crate) fn find(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<ForeignObject>> {
    let [rows, beside, changes, watchers] = table.tables();
    let mut statement = connection.prepare(
        "SELECT type, name, ifnull(sql, '') FROM sqlite_schema
         WHERE tbl_name COLLATE NOCASE IN (?1, ?2, ?3, ?4) OR name COLLATE NOCASE IN (?1, ?2, ?3, ?4)",
    )?;
    let objects = statement.query_map(params![rows, beside, changes, watchers], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    let ours = table.definitions();
    let mut found = Vec::new();
    for object in objects {
        let (kind, name, sql) = object?;
        if !ours.iter().any(|definition| words(definition).eq(words(&sql))) {
            found.push(kind_of(connection, &kind, &name, &sql)?);
        }
    }
    Ok(found)
}

/// Returns the words of a definition. Definitions are compared by words, because white space has no meaning in them.
fn words(sql: &str) -> impl Iterator<Item = &str> {
    sql.split_ascii_whitespace()
}

fn kind_of(connection: &Connection, kind: &str, name: &str, sql: &str) -> rusqlite::Result<ForeignObject> {
    let exists = |query: &str| connection.query_row(query, [name], |row| row.get::<_, bool>(0));
    Ok(match kind {
        "trigger" => ForeignObject::Trigger,
        "view" => ForeignObject::View,
        "index" if exists("SELECT EXISTS (SELECT 1 FROM pragma_index_xinfo(?1) WHERE cid = -2)")? => {
            ForeignObject::ExpressionIndex
        }
        "index" => ForeignObject::Index,
        "table" if words(sql).nth(1).is_some_and(|word| word.eq_ignore_ascii_case("virtual")) => {
            ForeignObject::VirtualTable
        }
        "table" if exists("SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE hidden > 1)")? => {
            ForeignObject::GeneratedColumn
        }
        "table" if exists("SELECT EXISTS (SELECT 1 FROM pragma_foreign_key_list(?1))")? => ForeignObject::ForeignKey,
        "table" if has_check(sql) => ForeignObject::Check,
        "table" => ForeignObject::Table,
        _ => ForeignObject::Unknown,
    })
}

/// True if the definition of a table has a `CHECK` constraint. The column name `deadline_check` does not count.
fn has_check(sql: &str) -> bool {
    sql.split(|character: char| !character.is_alphanumeric() && character != '_')
        .any(|word| word.eq_ignore_ascii_case("check"))
}

/// Returns the version of the schema, which SQLite increments with every change of the schema.
pub(crate) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
}
