//! The bytes of objects that are too large for one entry.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kv_core::{DeleteOptions, Key, KvStore, SetOptions, Version};

use crate::head::Pieces;
use crate::store::{Result, failed, generic};

/// The size of a piece, and the most that stands in an object's own entry.
pub(crate) const PIECE_BYTES: usize = 4 << 20;

fn key(id: &str, at: usize) -> Result<Key> {
    Key::new(["pieces", id, &Key::ordered(at as u64)]).map_err(generic)
}

pub(crate) async fn write(store: &Arc<dyn KvStore>, data: &Bytes) -> Result<Pieces> {
    let id = Version::random().to_string();
    let starts = (0..data.len()).step_by(PIECE_BYTES);
    let count = starts.len();
    for (at, start) in starts.enumerate() {
        let piece = data.slice(start..data.len().min(start + PIECE_BYTES));
        let key = key(&id, at)?;
        let outcome = store.set(&key, piece, &SetOptions::default()).await.map_err(failed)?;
        if !outcome.is_stored() {
            return Err(generic("a set without condition was refused"));
        }
    }
    Ok(Pieces { id, count })
}

pub(crate) async fn read(store: &Arc<dyn KvStore>, pieces: &Pieces) -> Result<Bytes> {
    let mut data = BytesMut::new();
    for at in 0..pieces.count {
        let found = store.get(&key(&pieces.id, at)?).await.map_err(failed)?;
        data.extend_from_slice(&found.ok_or_else(|| generic("a piece of the object is gone"))?.value);
    }
    Ok(data.freeze())
}

pub(crate) async fn remove(store: &Arc<dyn KvStore>, pieces: &Pieces) -> Result<()> {
    for at in 0..pieces.count {
        let _ = store.delete(&key(&pieces.id, at)?, &DeleteOptions::default()).await.map_err(failed)?;
    }
    Ok(())
}
