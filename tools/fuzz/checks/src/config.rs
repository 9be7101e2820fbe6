//! The settings of each adapter, as a configuration file has them.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

/// What a file could have as a password; nothing shows it.
const CANARY: &str = "canary-7f3a9";

/// Any JSON is refused or taken as settings, which do not show a password.
pub fn config(data: &[u8]) {
    settings::<kv_memory::MemoryConfig>(data);
    settings::<kv_sled::SledConfig>(data);
    settings::<kv_sqlite::SqliteConfig>(data);
    settings::<kv_redis::RedisConfig>(data);
    settings::<kv_postgres::PostgresConfig>(data);
    settings::<kv_lines::LinesConfig>(data);
    if let Ok(config) = serde_json::from_slice::<kv_redis::RedisConfig>(data) {
        hides(&kv_redis::RedisStore::builder().config(config));
    }
    if let Ok(config) = serde_json::from_slice::<kv_postgres::PostgresConfig>(data) {
        hides(&kv_postgres::PostgresStore::builder().config(config));
    }
}

/// Where the canary stands for a password. Elsewhere it is a name of something, and may be shown.
fn settings<C: DeserializeOwned + Debug>(data: &[u8]) {
    if let Ok(config) = serde_json::from_slice::<C>(data) {
        let text = String::from_utf8_lossy(data);
        let is_password = text.contains(&format!(r#""pass":"{CANARY}""#)) && text.matches(CANARY).count() == 1;
        assert!(!is_password || !format!("{config:?}").contains(CANARY), "the settings show a password");
    }
}

fn hides(builder: &impl Debug) {
    let _ = format!("{builder:?} {builder:#?}");
}
