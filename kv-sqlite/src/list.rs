//! Reading entries and pages of them.

use kv_core::{Clock, Deadline, Entry, Key, ListItem, ListPage, ListQuery, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::{Stored, read_deadline};
use crate::error;
use crate::statement::{Columns, ListShape, Statements};
use crate::sweep::end_text;

/// A page ends when it has looked at this many rows, so that the caller's thread is not kept where most of them have
/// expired and are not swept yet.
const MAX_ROWS: usize = 10_000;

/// Tells live entries from expired ones, by the time after they were read, and keeps which were expired.
#[derive(Debug)]
pub(crate) struct Liveness<'c> {
    clock: &'c dyn Clock,
    expired: Vec<Key>,
}

impl<'c> Liveness<'c> {
    pub(crate) fn new(clock: &'c dyn Clock) -> Self {
        Self { clock, expired: Vec::new() }
    }

    /// The keys that were found expired.
    pub(crate) fn expired(&self) -> &[Key] {
        &self.expired
    }

    fn is_live(&mut self, key: &Key, deadline: Deadline) -> bool {
        let is_live = deadline == Deadline::NEVER || !deadline.has_passed(self.clock.now());
        if !is_live {
            self.expired.push(key.clone());
        }
        is_live
    }
}

/// The live entry of a key.
pub(crate) fn get(
    connection: &Connection,
    sql: &Statements,
    key: &Key,
    liveness: &mut Liveness<'_>,
) -> Result<Option<Entry>> {
    let mut statement = connection.prepare_cached(&sql.get).map_err(error::read)?;
    let found = statement.query_row([key.as_str()], |row| Ok(Stored::read(key, row, 0))).optional();
    let found = found.map_err(error::read)?.transpose()?;
    Ok(found.filter(|stored| liveness.is_live(key, stored.deadline)).map(Stored::into_entry))
}

/// Whether the key has a live entry, without reading its value.
pub(crate) fn contains(
    connection: &Connection,
    sql: &Statements,
    key: &Key,
    liveness: &mut Liveness<'_>,
) -> Result<bool> {
    let mut statement = connection.prepare_cached(&sql.deadline).map_err(error::read)?;
    let found = statement.query_row([key.as_str()], |row| Ok(read_deadline(key, row, 0))).optional();
    Ok(found.map_err(error::read)?.transpose()?.is_some_and(|deadline| liveness.is_live(key, deadline)))
}

/// Several keys by one connection, in one read transaction where SQLite gives one.
pub(crate) fn get_many(
    connection: &Connection,
    sql: &Statements,
    keys: &[Key],
    liveness: &mut Liveness<'_>,
) -> Result<Vec<Result<Option<Entry>>>> {
    let transaction = connection.unchecked_transaction().map_err(error::read)?;
    let answers = keys.iter().map(|key| get(&transaction, sql, key, liveness)).collect();
    transaction.finish().map_err(error::read)?;
    Ok(answers)
}

/// One page of a list.
///
/// A page ends in front of a damaged row, so that everything before it is told; the page that would begin with it is the
/// error. Its key is the row's, and behind that key the list goes on.
pub(crate) fn page(
    connection: &Connection,
    sql: &Statements,
    query: &ListQuery,
    liveness: &mut Liveness<'_>,
) -> Result<ListPage> {
    let Some((start, end)) = query.range() else { return Ok(ListPage::default()) };
    let columns = if query.keys_only { Columns::Deadline } else { Columns::Entry };
    let text = sql.list(ListShape { reverse: query.reverse, columns }, &start, &end);
    let mut statement = connection.prepare_cached(&text).map_err(error::read)?;
    let mut rows = statement
        .query(params![end_text(&start), end_text(&end), i64::try_from(MAX_ROWS).unwrap_or(i64::MAX)])
        .map_err(error::read)?;
    let most = query.limit.unwrap_or(usize::MAX);
    let (mut items, mut bytes, mut count) = (Vec::new(), 0, 0);
    // The last row, where it was no item.
    let mut expired = None;
    let failure = loop {
        let found = match rows.next() {
            Ok(Some(row)) => found(row, query.keys_only, liveness),
            Ok(None) if count < MAX_ROWS => return Ok(ListPage { items, next: None }),
            Ok(None) => break None,
            Err(error) => Err(error::read(error)),
        };
        count += 1;
        match found {
            Err(error) => break Some(error),
            Ok(_) if items.len() >= most => break None,
            Ok(_) if bytes >= query.max_page_bytes && !items.is_empty() => break None,
            Ok(Found::Foreign) => {}
            Ok(Found::Expired(key)) => expired = Some(key),
            Ok(Found::Live(item)) => {
                bytes += item.entry.as_ref().map_or(0, |entry| entry.value.len());
                expired = None;
                items.push(item);
            }
        }
    };
    let next = expired.or_else(|| items.last().map(|item: &ListItem| item.key.clone()));
    match failure {
        // Where what is behind cannot be read, the page ends with what is known to be before it.
        Some(error) if next.is_none() => Err(error),
        _ => Ok(ListPage { items, next }),
    }
}

/// What a row turns out to be.
enum Found {
    Live(ListItem),
    Expired(Key),
    /// Its key is none of ours.
    Foreign,
}

fn found(row: &Row<'_>, keys_only: bool, liveness: &mut Liveness<'_>) -> Result<Found> {
    let text = row.get_ref(0).map_err(error::read)?;
    let Some(key) = text.as_str().ok().and_then(|text| Key::parse_stored(text).ok()) else { return Ok(Found::Foreign) };
    if keys_only {
        let is_live = liveness.is_live(&key, read_deadline(&key, row, 1)?);
        return Ok(if is_live { Found::Live(ListItem { key, entry: None }) } else { Found::Expired(key) });
    }
    let stored = Stored::read(&key, row, 1)?;
    if !liveness.is_live(&key, stored.deadline) {
        return Ok(Found::Expired(key));
    }
    Ok(Found::Live(ListItem { key, entry: Some(stored.into_entry()) }))
}

#[cfg(test)]
mod tests {
    use kv_core::SystemClock;

    use super::*;

    #[test]
    fn an_empty_range_needs_no_table() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = Statements::new(crate::statement::Table::new("t").unwrap());
        let (a, b) = (Key::new(["a"]).unwrap(), Key::new(["b"]).unwrap());
        let query = ListQuery::default().with_after(b).with_before(a);
        assert_eq!(page(&connection, &sql, &query, &mut Liveness::new(&SystemClock)).unwrap(), ListPage::default());
        let error = page(&connection, &sql, &ListQuery::default(), &mut Liveness::new(&SystemClock)).unwrap_err();
        assert_eq!(error.kind(), kv_core::ErrorKind::Corrupt);
    }
}
