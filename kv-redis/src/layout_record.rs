//! The record of a namespace's layout in the database.

use kv_core::{Error, Result};
use redis::Value;

use crate::error::{Failure, read_error};
use crate::layout::Layout;
use crate::server::router::{Request, Router};

/// Records the layout if the namespace is new, and refuses a namespace with another layout.
///
/// `found` is the record that the caller has read, and `expected` is the record that the settings require.
pub(crate) async fn create_or_check(
    router: &Router,
    layout: &Layout,
    mut found: Option<Vec<u8>>,
    expected: &str,
) -> Result<()> {
    if found.is_none() {
        // The write has `NX`, so another handle may have written the record first. The record that this handle reads
        // next decides, whichever handle has written it.
        write(router, layout).await.map_err(read_error)?;
        found = read(router, layout).await.map_err(read_error)?;
    }
    let found =
        found.ok_or_else(|| Error::unavailable("the record of the layout was evicted while the store was opened"))?;
    if found == expected.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found).into_owned();
    let is_known = found.starts_with("1 ") && found.len() < 100;
    let found = if is_known { found.as_str() } else { "of another version" };
    Err(Error::invalid(format!(
        "the namespace has the layout `{found}`, not `{expected}`: version, index, buckets, group segments"
    )))
}

/// Reads the record of the layout. Callers read the record before they write it, because a server whose memory is full
/// refuses even a write that would change nothing.
pub(crate) async fn read(router: &Router, layout: &Layout) -> Result<Option<Vec<u8>>, Failure> {
    let (key, slot) = layout.own_key("layout");
    let mut get = redis::cmd("GET");
    get.arg(&key);
    match router.call(&Request::new(slot, get)).await? {
        Value::BulkString(found) => Ok(Some(found)),
        Value::Nil => Ok(None),
        _ => Err(Failure::UnexpectedReply),
    }
}

/// Writes the record of this layout if there is no record.
pub(crate) async fn write(router: &Router, layout: &Layout) -> Result<(), Failure> {
    let (key, slot) = layout.own_key("layout");
    let mut set = redis::cmd("SET");
    set.arg(&key).arg(layout.record()).arg("NX");
    router.call(&Request::new(slot, set)).await.map(drop)
}
