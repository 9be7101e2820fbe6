//! The settings of each adapter in a configuration file.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

/// The password in the seeds. Settings must hide it.
const CANARY: &str = "canary-7f3a9";

/// Checks that each adapter refuses the JSON, or accepts it as settings whose `Debug` output hides the password.
pub fn config(data: &[u8]) {
    settings::<kv_memory::MemoryConfig>(data);
    settings::<kv_sled::SledConfig>(data);
    settings::<kv_sqlite::SqliteConfig>(data);
    settings::<kv_redis::RedisConfig>(data);
    settings::<kv_postgres::PostgresConfig>(data);
    settings::<kv_lines::LinesConfig>(data);
    if let Ok(config) = serde_json::from_slice::<kv_redis::RedisConfig>(data) {
        format_builder(&kv_redis::RedisStore::builder().config(config));
    }
    if let Ok(config) = serde_json::from_slice::<kv_postgres::PostgresConfig>(data) {
        format_builder(&kv_postgres::PostgresStore::builder().config(config));
    }
}

/// Checks that the settings hide the canary if it is a password. Settings may show the canary elsewhere, for example as
/// a name.
fn settings<C: DeserializeOwned + Debug>(data: &[u8]) {
    if let Ok(config) = serde_json::from_slice::<C>(data) {
        let text = String::from_utf8_lossy(data);
        let is_password = text.contains(&format!(r#""pass":"{CANARY}""#)) && text.matches(CANARY).count() == 1;
        assert!(!is_password || !format!("{config:?}").contains(CANARY), "the settings show a password");
    }
}

fn format_builder(builder: &impl Debug) {
    let _ = format!("{builder:?} {builder:#?}");
}
