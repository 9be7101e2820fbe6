//! Pages of a list.

use kv_core::{Entry, Key, ListItem, ListPage, ListQuery, Result};
use rusqlite::{Connection, Row, params};

use crate::codec::{Stored, read_deadline};
use crate::error::read_error;
use crate::liveness::Liveness;
use crate::state::State;
use crate::statement::{Columns, ListShape, Statements, bound_text};

/// The value of `LIMIT` for no limit. A page counts its rows itself, because foreign rows do not count.
const NO_LIMIT: i64 = -1;

/// The maximum number of entries, live or expired, that a page reads. This limit bounds the time that a page takes on
/// the caller's thread if most entries have expired and are not swept yet.
const MAX_ENTRIES: usize = 10_000;

impl State {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.check_open()?;
        query.check(self.capabilities())?;
        self.read(|connection, sql, liveness| read_page(connection, sql, query, liveness)).await
    }
}

/// Reads one page. A damaged entry is reported in the page and counts as an item. A foreign row is skipped.
fn read_page(
    connection: &Connection,
    sql: &Statements,
    query: &ListQuery,
    liveness: &mut Liveness<'_>,
) -> Result<ListPage> {
    let Some((start, end)) = query.range() else { return Ok(ListPage::default()) };
    let columns = if query.keys_only { Columns::Deadline } else { Columns::Entry };
    let text = sql.list(ListShape { reverse: query.reverse, columns }, &start, &end);
    let mut statement = connection.prepare_cached(&text).map_err(read_error)?;
    let mut rows = statement.query(params![bound_text(&start), bound_text(&end), NO_LIMIT]).map_err(read_error)?;
    let max_items = query.limit.unwrap_or(usize::MAX);
    let (mut page, mut bytes, mut count) = (ListPage::default(), 0, 0);
    let mut last: Option<Key> = None;
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(page),
            // If this page has already read a key, the page ends before the error, and the next page returns the error.
            Err(_) if last.is_some() => break,
            Err(error) => return Err(read_error(error)),
        };
        let found = page.items.len() + page.damaged.len();
        if found >= max_items || (bytes >= query.max_page_bytes && found > 0) || count >= MAX_ENTRIES {
            break;
        }
        // A row whose key does not parse is foreign.
        let Some(key) = row.get_ref(0).ok().and_then(|text| Key::parse_stored(text.as_str().ok()?).ok()) else {
            continue;
        };
        count += 1;
        last = Some(key.clone());
        match read_row(&key, row, query.keys_only, liveness) {
            Ok(ListRow::Live(entry)) => {
                bytes += entry.as_ref().map_or(0, |entry| entry.value.len());
                page.items.push(ListItem { key, entry });
            }
            Ok(ListRow::Expired) => {}
            Err(error) => {
                bytes += if query.keys_only { 0 } else { Stored::length(row, 1) };
                page.damaged.push(error);
            }
        }
    }
    page.next = last;
    Ok(page)
}

enum ListRow {
    /// A live entry; `None` if the query asks for keys only.
    Live(Option<Entry>),
    Expired,
}

/// Reads a row that this crate has written.
///
/// # Errors
/// `Corrupt` if the row does not match its checksums.
fn read_row(key: &Key, row: &Row<'_>, keys_only: bool, liveness: &mut Liveness<'_>) -> Result<ListRow> {
    let (deadline, entry) = if keys_only {
        (read_deadline(key, row, 1)?, None)
    } else {
        let stored = Stored::read(key, row, 1)?;
        (stored.deadline, Some(stored.into_entry()))
    };
    Ok(if liveness.is_live(key, deadline) { ListRow::Live(entry) } else { ListRow::Expired })
}

#[cfg(test)]
mod tests {
    use kv_core::SystemClock;

    use super::*;

    #[test]
    fn an_empty_range_is_an_empty_page_without_a_query() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = Statements::new(crate::statement::Table::new("t").unwrap());
        let (a, b) = (Key::new(["a"]).unwrap(), Key::new(["b"]).unwrap());
        let query = ListQuery::default().with_after(b).with_before(a);
        let found = read_page(&connection, &sql, &query, &mut Liveness::new(&SystemClock)).unwrap();
        assert!(found.items.is_empty() && found.next.is_none());
        let error = read_page(&connection, &sql, &ListQuery::default(), &mut Liveness::new(&SystemClock)).unwrap_err();
        assert_eq!(error.kind(), kv_core::ErrorKind::Corrupt);
    }
}
