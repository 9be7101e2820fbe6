//! Stores by URL, over the adapters that were built in.

use kv_core::{Kv, Registry, Result};

/// Opens a handle to the store that the URL names, such as `memory:`.
///
/// # Errors
/// As [`Registry::open`].
pub async fn open(url: &str) -> Result<Kv> {
    registry().open(url).await
}

/// The schemes of the adapters that were built in, by the facade's features.
pub fn registry() -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "memory")]
    let registry = registry.with(kv_memory::SCHEME);
    #[cfg(feature = "sqlite")]
    let registry = registry.with(kv_sqlite::SCHEME);
    #[cfg(feature = "sled")]
    let registry = registry.with(kv_sled::SCHEME);
    #[cfg(feature = "redis")]
    let registry = kv_redis::SCHEMES.into_iter().fold(registry, Registry::with);
    #[cfg(feature = "postgres")]
    let registry = registry.with(kv_postgres::SCHEME).with(kv_postgres::SCHEME_LONG);
    #[cfg(feature = "lines")]
    let registry = registry.with(kv_lines::SCHEME);
    registry
}
