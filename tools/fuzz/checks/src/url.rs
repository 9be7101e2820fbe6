//! The URL of a store, and the settings of each adapter in its options.

use std::fmt::Debug;

use kv_core::StoreUrl;
use serde::de::DeserializeOwned;

/// Checks that any text is refused or accepted as settings, and that neither settings nor errors show a password before
/// an `@`.
pub fn store_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(url) = text.parse::<StoreUrl>() else { return };
    let shown = url.to_string();
    let shown = shown.split('?').next().unwrap_or_default();
    if let Some(secret) = secret(url.rest()) {
        assert!(!shown.contains(secret), "{shown} shows the password before the host");
    }
    let _ = url.path();
    settings::<kv_memory::MemoryConfig>(&url);
    settings::<kv_sled::SledConfig>(&url);
    settings::<kv_sqlite::SqliteConfig>(&url);
    settings::<kv_redis::RedisConfig>(&url);
    settings::<kv_postgres::PostgresConfig>(&url);
    settings::<kv_lines::LinesConfig>(&url);
    let _ = kv_memory::MemoryConfig::from_url(&url).map(|config| format!("{config:?}"));
    let _ = kv_sled::SledConfig::from_url(&url).map(|config| format!("{config:?}"));
    let _ = kv_lines::LinesBuilder::from_url(&url).map(|builder| format!("{builder:?}"));
    check_builder(&url, kv_redis::RedisBuilder::from_url(&url));
    check_builder(&url, kv_postgres::PostgresStore::builder().url(text));
}

fn settings<C: DeserializeOwned + Debug>(url: &StoreUrl) {
    // This only checks that nothing panics. `tests/secrets.rs` checks the output.
    let _ = url.options::<C>().map(|config| format!("{config:?} {config:#?}")).map_err(|error| format!("{error:?}"));
}

/// Checks that the builder for the address, or the error, does not show the password.
fn check_builder<B: Debug>(url: &StoreUrl, builder: kv_core::Result<B>) {
    let shown = match builder {
        Ok(builder) => format!("{builder:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    // The URL of a Unix socket has no password before an `@`.
    if let Some(secret) = secret(url.rest()).filter(|_| !url.scheme().contains("unix")) {
        assert!(!shown.contains(secret), "the password is shown: {shown}");
    }
}

/// Returns the password before the host. Returns `None` for a password that is short or part of the host, because the
/// output may contain the same text elsewhere.
fn secret(rest: &str) -> Option<&str> {
    let (user, host) = rest.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (password.len() > 8 && !host.contains(password)).then_some(password)
}
