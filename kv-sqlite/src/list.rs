//! Pages of a list.

use kv_core::{Key, ListItem, ListPage, ListQuery, Result};
use rusqlite::{Connection, Row, params};

use crate::codec::{Stored, read_deadline};
use crate::error;
use crate::liveness::Liveness;
use crate::state::State;
use crate::statement::{Columns, ListShape, Statements, bound_text};

/// The number of rows after which a page ends. It bounds the time on the caller's thread when most rows have expired
/// and are not swept yet.
const MAX_ROWS: usize = 10_000;

impl State {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(self.capabilities())?;
        self.read(|connection, sql, liveness| page(connection, sql, query, liveness)).await
    }
}

/// Reads one page.
///
/// A page ends before a damaged row, so that all items before it are returned. The next page begins with that row and
/// is an error with its key; a list that resumes after this key continues after the damage.
fn page(connection: &Connection, sql: &Statements, query: &ListQuery, liveness: &mut Liveness<'_>) -> Result<ListPage> {
    let Some((start, end)) = query.range() else { return Ok(ListPage::default()) };
    let columns = if query.keys_only { Columns::Deadline } else { Columns::Entry };
    let text = sql.list(ListShape { reverse: query.reverse, columns }, &start, &end);
    let mut statement = connection.prepare_cached(&text).map_err(error::read)?;
    let mut rows = statement
        .query(params![bound_text(&start), bound_text(&end), i64::try_from(MAX_ROWS).unwrap_or(i64::MAX)])
        .map_err(error::read)?;
    let max_items = query.limit.unwrap_or(usize::MAX);
    let (mut items, mut bytes, mut count) = (Vec::new(), 0, 0);
    // The key of the last row, if that row has expired.
    let mut expired = None;
    let failure = loop {
        let row = match rows.next() {
            Ok(Some(row)) => read_row(row, query.keys_only, liveness),
            Ok(None) if count < MAX_ROWS => return Ok(ListPage { items, ..ListPage::default() }),
            Ok(None) => break None,
            Err(error) => Err(error::read(error)),
        };
        count += 1;
        match row {
            Err(error) => break Some(error),
            Ok(_) if items.len() >= max_items => break None,
            Ok(_) if bytes >= query.max_page_bytes && !items.is_empty() => break None,
            Ok(ListRow::Foreign) => {}
            Ok(ListRow::Expired(key)) => expired = Some(key),
            Ok(ListRow::Live(item)) => {
                bytes += item.entry.as_ref().map_or(0, |entry| entry.value.len());
                expired = None;
                items.push(item);
            }
        }
    };
    let next = expired.or_else(|| items.last().map(|item: &ListItem| item.key.clone()));
    match failure {
        // If a key precedes the failure, the page ends with it and the next page reports the error.
        Some(error) if next.is_none() => Err(error),
        _ => Ok(ListPage { items, next, ..ListPage::default() }),
    }
}

enum ListRow {
    Live(ListItem),
    Expired(Key),
    /// The key does not parse.
    Foreign,
}

fn read_row(row: &Row<'_>, keys_only: bool, liveness: &mut Liveness<'_>) -> Result<ListRow> {
    let text = row.get_ref(0).map_err(error::read)?;
    let Some(key) = text.as_str().ok().and_then(|text| Key::parse_stored(text).ok()) else {
        return Ok(ListRow::Foreign);
    };
    if keys_only {
        let is_live = liveness.is_live(&key, read_deadline(&key, row, 1)?);
        return Ok(if is_live { ListRow::Live(ListItem { key, entry: None }) } else { ListRow::Expired(key) });
    }
    let stored = Stored::read(&key, row, 1)?;
    if !liveness.is_live(&key, stored.deadline) {
        return Ok(ListRow::Expired(key));
    }
    Ok(ListRow::Live(ListItem { key, entry: Some(stored.into_entry()) }))
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
