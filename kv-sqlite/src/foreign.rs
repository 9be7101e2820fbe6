//! The objects on the tables of a store that this crate did not create.
//!
//! SQLite runs triggers, views, generated columns, constraints and index expressions that a file brings. Triggers and
//! views are disabled on every connection. A store with one of the other objects is not opened and not written.

use std::fmt;

use kv_core::Error;
use rusqlite::{Connection, params};

use crate::statement::Table;

/// The kind of a foreign object. Errors name the kind only, because the rest of the object is foreign text.
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
    /// A table of ours with another definition.
    Table,
    /// Something else under a name of ours.
    Unknown,
}

impl ForeignObject {
    /// True if SQLite runs the object although triggers and views are disabled.
    pub(crate) fn is_run(self) -> bool {
        self != Self::Trigger
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

/// Finds the foreign objects on the tables of a store. A missing object of ours is not reported.
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

/// The words of a definition, because copies of a file may differ in white space.
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

/// True if the definition of a table has a `CHECK` constraint; the column `deadline_check` is none.
fn has_check(sql: &str) -> bool {
    sql.split(|character: char| !character.is_alphanumeric() && character != '_')
        .any(|word| word.eq_ignore_ascii_case("check"))
}

/// The number that SQLite changes with every change of the schema.
pub(crate) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
}
