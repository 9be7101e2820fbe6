//! The URL schemes, and opening a store by URL.

use std::sync::Arc;

use kv_core::{Error, KvStore, Scheme};

use crate::builder::SledBuilder;
use crate::config::SledConfig;
use crate::verify;

/// The URL scheme `sled:PATH`.
pub const SCHEME: Scheme = Scheme::new(
    "sled",
    "sled:PATH?create=true&durability=process&cache=256MiB&min_free=64MiB&sweep_interval=500ms&operation_timeout=10s&check=everything",
    |url| {
        Box::pin(async move {
            let store = SledBuilder::default().config(SledConfig::from_url(&url)?).open(url.path()?).await?;
            Ok(Arc::new(store) as Arc<dyn KvStore>)
        })
    },
)
.with_create()
.with_verify(|url, take| {
    Box::pin(async move {
        let path = SledConfig::from_url(&url).and_then(|_| url.path())?;
        let read = tokio::task::spawn_blocking(move || verify::export(path, take));
        read.await.map_or_else(|_| Err(Error::unavailable("the check could not be run")), |found| found.map(Into::into))
    })
});
