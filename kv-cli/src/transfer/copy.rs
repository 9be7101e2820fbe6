//! Copies entries from one store to another.

use std::sync::Arc;

use anykv::{Capability, Error, Key, KvStore, ListQuery, SetItem, SetOptions};

use super::format::is_exact;
use super::writer::Writer;
use crate::exit::Failure;
use crate::pager::Pager;
use crate::progress::Progress;

/// Copies the entries of a query, in its order, and overwrites existing entries. `progress` counts the written entries.
/// Names damaged entries on stderr, leaves these entries out, and returns the number of damaged entries.
///
/// Calls `on_batch` with the last key of each batch after every entry up to that key is acknowledged. A query that
/// starts after that key continues the copy.
///
/// # Errors
/// [`Failure::Store`] of either store; `Unsupported` if the source cannot list or does not report deadlines.
///
/// # Cancel safety
/// After a dropped future, the target has every entry up to the last key of `on_batch`, and may have some entries of
/// the next batch.
pub async fn copy(
    from: &Arc<dyn KvStore>,
    to: &Arc<dyn KvStore>,
    query: ListQuery,
    on_batch: &mut (dyn FnMut(&Key) + Send),
    progress: &Progress,
) -> Result<u64, Failure> {
    let mut pages = Pager::new(Arc::clone(from), query);
    let mut writer = Writer::new(to, progress);
    while let Some(items) = pages.next_page().await? {
        for item in items {
            let entry = item.entry.filter(is_exact).ok_or_else(|| Error::unsupported(Capability::Deadlines))?;
            let options = SetOptions::default().with_expiry(entry.expires.into());
            if let Some(key) = writer.push(SetItem::new(item.key, entry.value).with_options(options)).await? {
                on_batch(&key);
            }
        }
    }
    if let Some(key) = writer.flush().await? {
        on_batch(&key);
    }
    Ok(pages.damaged())
}
