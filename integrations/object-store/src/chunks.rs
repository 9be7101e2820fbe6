//! The bytes of an object that is too large for one entry.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kv_core::{DeleteOptions, Key, KvStore, SetOptions, Version};

use crate::error::{Result, failed, generic};
use crate::header::Chunks;

/// The maximum size of a chunk, and of an object that is stored in a single entry, in bytes.
pub(crate) const CHUNK_BYTES: usize = 4 << 20;

/// Returns the key of one chunk.
fn key(id: &str, index: usize) -> Result<Key> {
    Key::new(["pieces", id, &Key::ordered(index as u64)]).map_err(generic)
}

/// Stores the bytes of an object in chunks.
pub(crate) async fn write(store: &Arc<dyn KvStore>, data: &Bytes) -> Result<Chunks> {
    let id = Version::random().to_string();
    let starts = (0..data.len()).step_by(CHUNK_BYTES);
    let count = starts.len();
    for (index, start) in starts.enumerate() {
        let chunk = data.slice(start..data.len().min(start + CHUNK_BYTES));
        let key = key(&id, index)?;
        let outcome = store.set(&key, chunk, &SetOptions::default()).await.map_err(failed)?;
        if !outcome.is_stored() {
            return Err(generic("a set without a condition was refused"));
        }
    }
    Ok(Chunks { id, count })
}

/// Reads the bytes of an object from its chunks.
pub(crate) async fn read(store: &Arc<dyn KvStore>, chunks: &Chunks) -> Result<Bytes> {
    let mut data = BytesMut::new();
    for index in 0..chunks.count {
        let found = store.get(&key(&chunks.id, index)?).await.map_err(failed)?;
        data.extend_from_slice(&found.ok_or_else(|| generic("a chunk of the object is missing"))?.value);
    }
    Ok(data.freeze())
}

/// Removes the chunks of an object.
pub(crate) async fn remove(store: &Arc<dyn KvStore>, chunks: &Chunks) -> Result<()> {
    for index in 0..chunks.count {
        let _ = store.delete(&key(&chunks.id, index)?, &DeleteOptions::default()).await.map_err(failed)?;
    }
    Ok(())
}
