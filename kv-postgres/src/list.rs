//! Pages of a list, and clearing, each along a range of the primary key.

use std::ops::Bound;

use kv_core::{Error, Key, KeyPrefix, ListItem, ListPage, ListQuery, Result};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::codec;
use crate::error::Effect;
use crate::state::{Core, column};
use crate::statement::{Sql, end_of_range};

/// How many rows one page looks at, at most.
const MAX_ROWS: usize = 2_000;
const MAX_KEYS: usize = 10_000;

/// How many rows go in one statement of a clear.
const CLEARED: i64 = 2_000;

/// One page of a list.
///
/// A page ends in front of a damaged row, so that everything before it is told; the page that would begin with it is the
/// error. Its key is the row's, and behind that key the list goes on.
pub(crate) async fn page(core: &Core, query: &ListQuery) -> Result<ListPage> {
    let Some((mut start, mut end)) = query.range() else { return Ok(ListPage::default()) };
    let most = if query.keys_only { MAX_KEYS } else { MAX_ROWS };
    let most = query.limit.unwrap_or(most).min(most);
    let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    let bytes = i64::try_from(query.max_page_bytes.max(1)).unwrap_or(i64::MAX);
    loop {
        let sql = statement(&core.table.qualified(), query, &start, &end);
        let (from, to) = (text(&start), text(&end));
        let rows = if query.keys_only {
            core.read(&sql, &[&from, &to, &limit]).await?
        } else {
            core.read(&sql, &[&from, &to, &limit, &bytes]).await?
        };
        let behind = match assemble(&rows, query.keys_only, most)? {
            Looked::Page(page) => return Ok(page),
            Looked::Foreign { last } => Bound::Excluded(last),
        };
        if query.reverse {
            end = behind;
        } else {
            start = behind;
        }
    }
}

/// What came of a look at some rows.
enum Looked {
    Page(ListPage),
    /// None of them was ours, and there are more behind this one.
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

/// Looks at so many rows of the index, the expired ones among them, so that a page has a bound where few are live. Values
/// beyond the bytes of a page stay on the server.
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

fn assemble(rows: &[Row], keys_only: bool, most: usize) -> Result<Looked> {
    let Some(first) = rows.first() else { return Ok(Looked::Page(ListPage::default())) };
    let found: i64 = column(first, 2)?;
    let told = rows.get(..most.min(rows.len())).unwrap_or(rows);
    let has_more = usize::try_from(found).unwrap_or(usize::MAX) > told.len();
    let (mut items, mut last) = (Vec::with_capacity(told.len()), None);
    for row in told {
        // What is no key of ours is no error.
        let Ok(key) = Key::parse_stored(column(row, 0)?) else { continue };
        if column(row, 1)? {
            let entry = if keys_only { None } else { Some(codec::entry(&key, row, 3)) };
            match entry.transpose() {
                Ok(entry) => items.push(ListItem { key: key.clone(), entry }),
                Err(error) if last.is_none() => return Err(error),
                Err(_) => return Ok(Looked::Page(ListPage { items, next: last })),
            }
        }
        last = Some(key);
    }
    match (last, told.last()) {
        (None, Some(row)) if has_more => Ok(Looked::Foreign { last: column(row, 0)? }),
        (last, _) => Ok(Looked::Page(ListPage { items, next: last.filter(|_| has_more) })),
    }
}

/// Removes everything that a prefix covers.
pub(crate) async fn clear(core: &Core, prefix: &KeyPrefix) -> Result<u64> {
    let (start, end) = prefix.range();
    let mut start = start.to_owned();
    let mut cleared = 0;
    loop {
        let rows = core.write(core.sql.clear(end.is_some()), &[&start, &end, &CLEARED], Effect::Write(None)).await;
        // Behind a part that is gone, nothing that fails has done nothing.
        let in_doubt = |error: Error| Error::indeterminate(None, error.message().to_owned()).with_source(error);
        let rows = rows.map_err(|error| if cleared > 0 && error.is_retryable() { in_doubt(error) } else { error })?;
        let Some(row) = rows.first() else { return Ok(cleared) };
        let (live, found, last): (i64, i64, Option<&str>) = (column(row, 0)?, column(row, 1)?, column(row, 2)?);
        cleared += live.unsigned_abs();
        match last {
            // The least text behind the last one: the server's has no NUL.
            Some(last) if found == CLEARED => start = format!("{last}\u{1}"),
            _ => return Ok(cleared),
        }
    }
}
