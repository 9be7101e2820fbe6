//! From store to store.

use std::sync::Arc;

use anykv::{Capability, Error, Key, KvStore, ListQuery, SetItem, SetOptions};

use super::format::is_exact;
use super::writer::Writer;
use crate::exit::Failure;
use crate::pages::Pages;
use crate::progress::Progress;

/// Copies what the query covers, in its order, over what is there; `progress` tells how many entries were written.
///
/// After each batch `reached` hears of its last key: everything up to it has been written and acknowledged, and a query
/// that goes on behind it continues the copy.
///
/// # Errors
/// [`Failure::Store`] of either store; `Unsupported` where the source cannot list, or cannot tell deadlines.
///
/// # Cancel safety
/// After a dropped future everything up to the last position is there, and some of the next batch may be.
pub async fn copy(
    from: &Arc<dyn KvStore>,
    to: &Arc<dyn KvStore>,
    query: ListQuery,
    reached: &mut (dyn FnMut(&Key) + Send),
    progress: &Progress,
) -> Result<(), Failure> {
    let mut pages = Pages::new(Arc::clone(from), query);
    let mut writer = Writer::new(to, progress);
    while let Some(items) = pages.next().await? {
        for item in items {
            let entry = item.entry.filter(is_exact).ok_or_else(|| Error::unsupported(Capability::Deadlines))?;
            let options = SetOptions::default().with_expiry(entry.expires.into());
            if let Some(key) = writer.push(SetItem::new(item.key, entry.value).with_options(options)).await? {
                reached(&key);
            }
        }
    }
    if let Some(key) = writer.flush().await? {
        reached(&key);
    }
    Ok(())
}
