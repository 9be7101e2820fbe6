//! Pages of a list, along a range of the primary key.

use std::ops::Bound;

use kv_core::{Key, ListItem, ListPage, ListQuery, Result};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::codec;
use crate::state::{State, column};
use crate::statement::{Sql, end_of_range};

/// The maximum number of rows that the statement of one page scans.
const MAX_ROWS: usize = 2_000;
/// As [`MAX_ROWS`], for a list of keys only.
const MAX_KEYS: usize = 10_000;

/// Reads one page of a list.
///
/// A page ends before a damaged row, so that a caller gets all entries before it.
///
/// # Errors
/// `Corrupt` if the page begins with a damaged row. The error has the key of the row, and the list can be resumed after
/// it.
pub(crate) async fn page(state: &State, query: &ListQuery) -> Result<ListPage> {
    let Some((mut start, mut end)) = query.range() else { return Ok(ListPage::default()) };
    let max_rows = if query.keys_only { MAX_KEYS } else { MAX_ROWS };
    let max_rows = query.limit.unwrap_or(max_rows).min(max_rows);
    let limit = i64::try_from(max_rows).unwrap_or(i64::MAX).saturating_add(1);
    let bytes = i64::try_from(query.max_page_bytes.max(1)).unwrap_or(i64::MAX);
    loop {
        let sql = statement(&state.table.qualified(), query, &start, &end);
        let (from, to) = (text(&start), text(&end));
        let rows = if query.keys_only {
            state.read(&sql, &[&from, &to, &limit]).await?
        } else {
            state.read(&sql, &[&from, &to, &limit, &bytes]).await?
        };
        let after = match assemble(&rows, query.keys_only, max_rows)? {
            Scan::Page(page) => return Ok(page),
            Scan::Foreign { last } => Bound::Excluded(last),
        };
        if query.reverse {
            end = after;
        } else {
            start = after;
        }
    }
}

/// The result of one scan.
enum Scan {
    Page(ListPage),
    /// All scanned rows are foreign, and more rows follow the last one.
    Foreign {
        last: String,
    },
}

fn text(bound: &Bound<String>) -> Option<&str> {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => Some(text),
        Bound::Unbounded => None,
    }
}

/// The statement of one page. It scans a limited number of rows, expired ones included, so that a page is bounded even
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

fn assemble(rows: &[Row], keys_only: bool, max_rows: usize) -> Result<Scan> {
    let Some(first) = rows.first() else { return Ok(Scan::Page(ListPage::default())) };
    let found: i64 = column(first, 2)?;
    let page_rows = rows.get(..max_rows.min(rows.len())).unwrap_or(rows);
    let has_more = usize::try_from(found).unwrap_or(usize::MAX) > page_rows.len();
    let (mut items, mut last) = (Vec::with_capacity(page_rows.len()), None);
    for row in page_rows {
        // A foreign row is not an error.
        let Ok(key) = Key::parse_stored(column(row, 0)?) else { continue };
        if column(row, 1)? {
            let entry = if keys_only { None } else { Some(codec::entry(&key, row, 3)) };
            match entry.transpose() {
                Ok(entry) => items.push(ListItem { key: key.clone(), entry }),
                Err(error) if last.is_none() => return Err(error),
                Err(_) => return Ok(Scan::Page(ListPage { items, next: last, ..ListPage::default() })),
            }
        }
        last = Some(key);
    }
    match (last, page_rows.last()) {
        (None, Some(row)) if has_more => Ok(Scan::Foreign { last: column(row, 0)? }),
        (last, _) => Ok(Scan::Page(ListPage { items, next: last.filter(|_| has_more), ..ListPage::default() })),
    }
}
