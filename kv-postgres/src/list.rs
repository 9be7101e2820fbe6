//! Pages of a list.
//!
//! A page reads a range of the primary key, in one or more scans of a bounded number of rows.

use std::ops::Bound;

use kv_core::{Error, Key, ListItem, ListPage, ListQuery, Result};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::codec;
use crate::error::read_error;
use crate::state::{State, column};
use crate::statement::{Sql, end_of_range};

/// The maximum number of rows in one scan, and of items in a page whose query has no limit.
const MAX_ROWS: usize = 2_000;
/// The maximum number of rows in one scan of a list without values, and of items in its page if the query has no limit.
const MAX_KEYS: usize = 10_000;
/// The number of skipped rows after which a page ends early. Skipped rows are expired or foreign.
const MAX_SKIPPED_ROWS: usize = 10_000;

/// Reads one page of a list. The page ends at the query's limit or at its maximum of bytes, and reports damaged rows
/// separately from the items.
///
/// If the server itself finds a damaged row, a scan returns no rows at all. In this case, each further scan reads half
/// as many rows, until a scan of one row fails. The key of this row is then read without the value.
///
/// # Errors
/// The errors of [`State::read`]. A damaged row is not an error of the call, unless the server cannot read its key.
pub(crate) async fn page(state: &State, query: &ListQuery) -> Result<ListPage> {
    let Some((mut start, mut end)) = query.range() else { return Ok(ListPage::default()) };
    let max_rows = if query.keys_only { MAX_KEYS } else { MAX_ROWS };
    let mut page = PageBuilder::new(query, max_rows);
    let table = state.table.qualified();
    // The maximum number of rows in a scan while there are damaged rows.
    let mut rows_beside_damage = usize::MAX;
    loop {
        let limit = page.rows_to_scan(max_rows).min(rows_beside_damage);
        let sql_limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let bytes = i64::try_from(page.free_bytes()).unwrap_or(i64::MAX);
        let sql = statement(&table, query.keys_only, query.reverse, &start, &end);
        let (from, to) = (key_text(&start), key_text(&end));
        let rows = if query.keys_only {
            state.connections.read(&sql, &[&from, &to, &sql_limit]).await
        } else {
            state.connections.read(&sql, &[&from, &to, &sql_limit, &bytes]).await
        };
        let last = match rows {
            Ok(rows) => page.add(&rows, limit)?,
            Err(failure) if failure.is_damaged() && !query.keys_only && limit > 1 => {
                rows_beside_damage = limit / 2;
                continue;
            }
            Err(failure) if failure.is_damaged() && !query.keys_only => {
                rows_beside_damage = max_rows;
                let sql = statement(&table, true, query.reverse, &start, &end);
                let rows = state.read(&sql, &[&from, &to, &sql_limit]).await?;
                page.add_damaged(&rows, read_error(failure))?
            }
            Err(failure) => return Err(read_error(failure)),
        };
        let Some(last) = last else { return Ok(page.page) };
        let after = Bound::Excluded(last);
        if query.reverse {
            end = after;
        } else {
            start = after;
        }
    }
}

/// A page to which each scan adds its rows.
struct PageBuilder {
    page: ListPage,
    keys_only: bool,
    /// The maximum number of entries in the page, including damaged entries.
    limit: usize,
    /// The total size of the values at which the page ends, in bytes.
    max_bytes: usize,
    /// The total size of the values in the page, including damaged values, in bytes.
    bytes: usize,
    /// The key of the last scanned row that has a key. The entry may be expired. Foreign rows have no key.
    last: Option<Key>,
    /// The number of scanned rows that are expired or foreign.
    skipped_rows: usize,
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
            skipped_rows: 0,
        }
    }

    /// Returns the number of entries in the page, including damaged entries.
    fn len(&self) -> usize {
        self.page.items.len() + self.page.damaged.len()
    }

    fn is_full(&self) -> bool {
        self.len() >= self.limit || self.bytes >= self.max_bytes
    }

    /// Returns the maximum number of rows in the next scan. The number is one more than the page can take, because the
    /// additional row proves that there is a next page. The number grows with the number of skipped rows, so that a
    /// page with a small limit needs few scans.
    fn rows_to_scan(&self, max_rows: usize) -> usize {
        (self.limit - self.len()).max(self.skipped_rows).min(max_rows).saturating_add(1)
    }

    fn free_bytes(&self) -> usize {
        self.max_bytes - self.bytes
    }

    /// Adds the rows of a scan that read at most `limit` rows. Returns the key text after which the next scan starts,
    /// or `None` if the page is complete.
    fn add(&mut self, rows: &[Row], limit: usize) -> Result<Option<String>> {
        let Some(first) = rows.first() else { return Ok(None) };
        let scanned: i64 = column(first, 2)?;
        for row in rows {
            if self.is_full() {
                self.page.next = self.last.take();
                return Ok(None);
            }
            self.add_row(row)?;
        }
        let scanned = usize::try_from(scanned).unwrap_or(usize::MAX);
        if scanned <= rows.len() && scanned < limit {
            return Ok(None);
        }
        let has_key = self.last.is_some();
        if has_key && (self.is_full() || self.skipped_rows >= MAX_SKIPPED_ROWS) {
            self.page.next = self.last.take();
            return Ok(None);
        }
        // A page without any key so far cannot end here, because the next page starts after a key.
        rows.last().map(|row| column(row, 0)).transpose()
    }

    /// Adds the row of a scan as damaged. The scan read no values and at most one row. Returns the same as
    /// [`Self::add`].
    fn add_damaged(&mut self, rows: &[Row], error: Error) -> Result<Option<String>> {
        let Some(row) = rows.first() else { return Ok(None) };
        if self.is_full() {
            self.page.next = self.last.take();
            return Ok(None);
        }
        let text: &str = column(row, 0)?;
        let (key, is_live) = (Key::parse_stored(text).ok(), column(row, 1)?);
        match &key {
            Some(key) if is_live => self.page.damaged.push(error.with_key(key)),
            _ => self.skipped_rows += 1,
        }
        self.last = key.or(self.last.take());
        Ok(Some(text.to_owned()))
    }

    fn add_row(&mut self, row: &Row) -> Result<()> {
        // A row whose text is not a key is foreign, and is skipped.
        let key = Key::parse_stored(column(row, 0)?).ok();
        let (Some(key), true) = (&key, column(row, 1)?) else {
            self.skipped_rows += 1;
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

/// Returns the key text of a bound.
fn key_text(bound: &Bound<String>) -> Option<&str> {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => Some(text),
        Bound::Unbounded => None,
    }
}

/// Returns the statement of one scan. The limit of the statement counts expired rows as well, so that a scan is bounded
/// even if few rows are live. The statement returns no values beyond the maximum of bytes of the page.
fn statement(table: &str, keys_only: bool, reverse: bool, start: &Bound<String>, end: &Bound<String>) -> Sql {
    let end = end_of_range(key_text(end).is_some());
    let from = if matches!(start, Bound::Excluded(_)) { ">" } else { ">=" };
    let direction = if reverse { "DESC" } else { "ASC" };
    let live = "(e.expires_at IS NULL OR e.expires_at > clock_timestamp()) AS live";
    let fields = if keys_only { "" } else { ", e.value, e.version, e.checksum, e.expires_at" };
    let rows = format!(
        "SELECT e.key, {live}{fields} FROM {table} e WHERE e.key {from} $1 AND {end} \
         ORDER BY e.key {direction} LIMIT $3"
    );
    if keys_only {
        return Sql::new(
            format!("SELECT p.key, p.live, count(*) OVER () FROM ({rows}) p ORDER BY p.key {direction}"),
            &[Type::TEXT, Type::TEXT, Type::INT8],
        );
    }
    let text = format!(
        "SELECT s.key, s.live, s.scanned, CASE WHEN s.live THEN s.value END, s.version, s.checksum, s.expires_at FROM \
         (SELECT p.*, count(*) OVER () AS scanned, sum(CASE WHEN p.live THEN octet_length(p.value) ELSE 0 END) \
         OVER (ORDER BY p.key {direction} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM ({rows}) p) s \
         WHERE coalesce(s.before, 0) < $4 ORDER BY s.key {direction}"
    );
    Sql::new(text, &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8])
}
