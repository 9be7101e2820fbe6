//! Opening stores by URL with the adapters of the enabled features.

use kv_core::{Kv, Registry, Result};

/// Opens the store of a URL such as `memory:` and returns a handle.
///
/// # Errors
/// The errors of [`Registry::open`].
pub async fn open(url: &str) -> Result<Kv> {
    registry().open(url).await
}

/// Returns a registry with the schemes of all adapters whose features are enabled.
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
