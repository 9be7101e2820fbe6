//! The URL scheme `redb:PATH`.

use std::sync::Arc;

use kv_core::{KvStore, Scheme};
use serde::Deserialize;

use crate::store::RedbStore;

/// The options of a URL.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    create: bool,
    /// The size of redb's cache, in bytes.
    cache: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { create: true, cache: 64 << 20 }
    }
}

/// The URL scheme `redb:PATH`.
pub const SCHEME: Scheme = Scheme::new("redb", "redb:PATH?create=true&cache=67108864", |url| {
    Box::pin(async move {
        let Config { create, cache } = url.options()?;
        let builder = RedbStore::builder().create(create).cache_bytes(cache);
        Ok(Arc::new(builder.open(url.path()?).await?) as Arc<dyn KvStore>)
    })
})
.with_create();
