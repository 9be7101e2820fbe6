//! The check of a file that cannot be opened as a store, because another program changed it.
//!
//! This check opens the file for reading only. It reports foreign objects and damage as problems. It reads the rows
//! only if reading them runs nothing that another program put into the file.

use std::path::PathBuf;

use kv_core::{Error, Result, TakeEntry};
use rusqlite::Connection;

use crate::builder::SqliteBuilder;
use crate::config::SqliteConfig;
use crate::connection::DatabaseFile;
use crate::error::read_error;
use crate::foreign::{self, ForeignObject};
use crate::open::Location;
use crate::runtime::StoreRuntime;
use crate::schema;
use crate::statement::{Statements, Table};
use crate::verify::{Verification, check_rows, check_structure};

impl SqliteBuilder {
    /// Checks a file of this crate that did not open, and passes each sound entry to `take`. Returns `refusal`, the
    /// error of opening, if the file is not one of this crate and this layout.
    ///
    /// # Errors
    /// `refusal`, and the errors of `take` and of the file system.
    pub(crate) async fn verify_refused(self, refusal: Error, take: TakeEntry) -> Result<Verification> {
        let (Some(Location::File(path)), config) = self.into_parts() else { return Err(refusal) };
        let table = Table::new(&config.table)?;
        let runtime = StoreRuntime::start()?;
        let checked = runtime.timer().spawn_blocking(move || check(path, table, &config, refusal, take)).await;
        checked.unwrap_or_else(|| Err(Error::unavailable("the thread of the check panicked or could not be started")))
    }
}

fn check(path: PathBuf, table: Table, config: &SqliteConfig, refusal: Error, take: TakeEntry) -> Result<Verification> {
    let file = DatabaseFile::new(path, config);
    let Ok(connection) = file.open_damaged() else { return Err(refusal) };
    if !schema::is_ours(&connection) {
        return Err(refusal);
    }
    let mut found = Verification::default();
    let foreign = match foreign::find(&connection, &table) {
        Ok(foreign) => foreign,
        Err(error) => {
            found.problems.push(read_error(error).message().to_owned());
            return Ok(found);
        }
    };
    if foreign.is_empty() {
        // Opening failed for another reason, such as a damaged page.
        found.problems.push(refusal.message().to_owned());
    }
    if !foreign.iter().all(|object| object.allows_reads()) {
        found.problems.extend(foreign.iter().map(ForeignObject::to_string));
        found.problems.push("the entries were not read, because reading them could run what is foreign".to_owned());
        return Ok(found);
    }
    let sql = Statements::new(table);
    if has_all_pages(&connection, &file) {
        let structure = check_structure(&connection, &sql, &mut found);
        found.report_damage(structure)?;
    } else {
        found.problems.push("the file has fewer pages than its header says".to_owned());
        found.problems.extend(foreign.iter().map(ForeignObject::to_string));
    }
    let rows = check_rows(&connection, &sql, take, &mut found);
    found.report_damage(rows)?;
    Ok(found)
}

/// False if the header of the file names more pages than the file has. The check of the structure takes memory for each
/// page of the header.
fn has_all_pages(connection: &Connection, file: &DatabaseFile) -> bool {
    let number = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u32>(0));
    match (number("page_count"), number("page_size")) {
        (Ok(pages), Ok(bytes)) => u64::from(pages) * u64::from(bytes) <= file.bytes(),
        _ => false,
    }
}
