//! The URL of a store, and the settings of each adapter.

use std::fmt::Debug;

use kv_core::StoreUrl;
use serde::de::DeserializeOwned;

/// Any text is refused or taken as settings, and neither what is taken nor the refusal shows what stands before an `@` or
/// behind `password=`.
pub fn store_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(url) = text.parse::<StoreUrl>() else { return };
    let shown = url.to_string();
    let shown = shown.split('?').next().unwrap_or_default();
    if let Some(secret) = secret(url.rest()) {
        assert!(!shown.contains(secret), "{shown} shows what stands before the host");
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
    built(&url, kv_redis::RedisBuilder::from_url(&url));
    built(&url, kv_postgres::PostgresStore::builder().url(text));
}

fn settings<C: DeserializeOwned + Debug>(url: &StoreUrl) {
    // What is wrong with an option is told, so only a password must not be in the text.
    let _ = url.options::<C>().map(|config| format!("{config:?} {config:#?}")).map_err(|error| format!("{error:?}"));
}

/// What a server's adapter makes of the address, and says where it takes none.
fn built<B: Debug>(url: &StoreUrl, builder: kv_core::Result<B>) {
    let shown = match builder {
        Ok(builder) => format!("{builder:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    // Before the path of a socket stands no password.
    if let Some(secret) = secret(url.rest()).filter(|_| !url.scheme().contains("unix")) {
        assert!(!shown.contains(secret), "the password is shown: {shown}");
    }
}

/// The password in front of the host, unless it is so short, or stands so openly elsewhere, that it is found in any text.
fn secret(rest: &str) -> Option<&str> {
    let (user, host) = rest.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (password.len() > 8 && !host.contains(password)).then_some(password)
}
