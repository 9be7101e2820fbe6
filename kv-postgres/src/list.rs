//! Pages of a list, along a range of the primary key.

use std::ops::Bound;

use kv_core::{Key, ListItem, ListPage, ListQuery, Result};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::codec;
use crate::state::{State, column};
use crate::statement::{Sql, end_of_range};

/// The maximum number of rows that one statement scans, and of items in a page without a limit.
const MAX_ROWS: usize = 2_000;
/// As [`MAX_ROWS`], for a list of keys only.
const MAX_KEYS: usize = 10_000;
/// The number of rows that a page may scan in vain, because they are expired, before it ends early.
const MAX_VAIN_ROWS: usize = 10_000;

/// Reads one page of a list. It ends at the limit or at the byte bound, and reports damaged rows beside the items.
///
/// # Errors
/// As [`State::read`]. A damaged row is no error of the page.
pub(crate) async fn page(state: &State, query: &ListQuery) -> Result<ListPage> {
    let Some((mut start, mut end)) = query.range() else { return Ok(ListPage::default()) };
    let max_rows = if query.keys_only { MAX_KEYS } else { MAX_ROWS };
    let mut page = PageBuilder::new(query, max_rows);
    loop {
        let limit = page.rows_to_scan(max_rows);
        let rows_limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bytes = i64::try_from(page.free_bytes()).unwrap_or(i64::MAX);
        let sql = statement(&state.table.qualified(), query, &start, &end);
        let (from, to) = (text(&start), text(&end));
        let rows = if query.keys_only {
            state.read(&sql, &[&from, &to, &rows_limit]).await?
        } else {
            state.read(&sql, &[&from, &to, &rows_limit, &bytes]).await?
        };
        let Some(last) = page.add(&rows, limit)? else { return Ok(page.page) };
        let after = Bound::Excluded(last);
        if query.reverse {
            end = after;
        } else {
            start = after;
        }
    }
}

/// A page while it is filled, by one scan after another.
struct PageBuilder {
    page: ListPage,
    keys_only: bool,
    /// The number of entries at which the page ends, damaged ones included.
    limit: usize,
    /// The bytes of values at which the page ends.
    max_bytes: usize,
    /// The bytes of the values so far, damaged ones included.
    bytes: usize,
    /// The last key that was scanned, expired ones included.
    last: Option<Key>,
    /// The number of scanned rows that are neither items nor damaged.
    vain_rows: usize,
}

impl PageBuilder {
    fn new(query: &ListQuery, max_rows: usize) -> Self {
        Self {
            page: ListPage::default(),
            keys_only: query.keys_only,
            limit: query.limit.unwrap_or(max_rows),
            max_bytes: query.max_page_bytes.max(1),
            bytes: 0,
            last: None,
            vain_rows: 0,
        }
    }

    /// The number of entries, damaged ones included.
    fn len(&self) -> usize {
        self.page.items.len() + self.page.damaged.len()
    }

    fn is_full(&self) -> bool {
        self.len() >= self.limit || self.bytes >= self.max_bytes
    }

    /// The number of rows of the next scan. One more than the page takes shows if there is a next page. Scans grow
    /// while they find nothing, so that a page with a small limit needs few of them.
    fn rows_to_scan(&self, max_rows: usize) -> usize {
        (self.limit - self.len()).max(self.vain_rows).min(max_rows).saturating_add(1)
    }

    fn free_bytes(&self) -> usize {
        self.max_bytes - self.bytes
    }

    /// Adds the rows of a scan of at most `limit` rows. Returns the text after which the next scan starts, or `None` at
    /// the end of the page.
    fn add(&mut self, rows: &[Row], limit: usize) -> Result<Option<String>> {
        let Some(first) = rows.first() else { return Ok(None) };
        let found: i64 = column(first, 2)?;
        for row in rows {
            if self.is_full() {
                self.page.next = self.last.take();
                return Ok(None);
            }
            self.add_row(row)?;
        }
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        if found <= rows.len() && found < limit {
            return Ok(None);
        }
        let has_next = self.last.is_some();
        if has_next && (self.is_full() || self.vain_rows >= MAX_VAIN_ROWS) {
            self.page.next = self.last.take();
            return Ok(None);
        }
        // A page cannot end at a foreign row, which has no key.
        rows.last().map(|row| column(row, 0)).transpose()
    }

    fn add_row(&mut self, row: &Row) -> Result<()> {
        // A foreign row is not an error.
        let key = Key::parse_stored(column(row, 0)?).ok();
        let (Some(key), true) = (&key, column(row, 1)?) else {
            self.vain_rows += 1;
            self.last = key.or(self.last.take());
            return Ok(());
        };
        if self.keys_only {
            self.page.items.push(ListItem { key: key.clone(), entry: None });
        } else {
            self.bytes = self.bytes.saturating_add(row.try_get::<_, &[u8]>(3).map_or(0, <[u8]>::len));
            match codec::entry(key, row, 3) {
                Ok(entry) => self.page.items.push(ListItem { key: key.clone(), entry: Some(entry) }),
                Err(error) => self.page.damaged.push(error),
            }
        }
        self.last = Some(key.clone());
        Ok(())
    }
}

fn text(bound: &Bound<String>) -> Option<&str> {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => Some(text),
        Bound::Unbounded => None,
    }
}

/// The statement of one scan. It reads a limited number of rows, expired ones included, so that a scan is bounded even
/// if few rows are live. Values beyond the page's bytes stay on the server.
fn statement(t: &str, query: &ListQuery, start: &Bound<String>, end: &Bound<String>) -> Sql {
    let end = end_of_range(text(end).is_some());
    let from = if matches!(start, Bound::Excluded(_)) { ">" } else { ">=" };
    let direction = if query.reverse { "DESC" } else { "ASC" };
    let live = "(e.expires_at IS NULL OR e.expires_at > clock_timestamp()) AS live";
    let fields = if query.keys_only { "" } else { ", e.value, e.version, e.checksum, e.expires_at" };
    let rows = format!(
        "SELECT e.key, {live}{fields} FROM {t} e WHERE e.key {from} $1 AND {end} \
         ORDER BY e.key {direction} LIMIT $3"
    );
    if query.keys_only {
        return Sql::new(
            format!("SELECT p.key, p.live, count(*) OVER () FROM ({rows}) p ORDER BY p.key {direction}"),
            &[Type::TEXT, Type::TEXT, Type::INT8],
        );
    }
    let text = format!(
        "SELECT s.key, s.live, s.found, CASE WHEN s.live THEN s.value END, s.version, s.checksum, s.expires_at FROM \
         (SELECT p.*, count(*) OVER () AS found, sum(CASE WHEN p.live THEN octet_length(p.value) ELSE 0 END) \
         OVER (ORDER BY p.key {direction} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM ({rows}) p) s \
         WHERE coalesce(s.before, 0) < $4 ORDER BY s.key {direction}"
    );
    Sql::new(text, &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8])
}
