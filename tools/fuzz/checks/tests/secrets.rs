//! Checks that settings and errors show no secret.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::fmt::Debug;
use std::path::Path;

use anykv::{StoreUrl, registry};
use serde::de::DeserializeOwned;

const CANARY: &str = "canary-7f3a9";

fn hides(name: &str, shown: &str) {
    assert!(!shown.contains(CANARY), "{name} shows the secret: {}", shown.replace(CANARY, "(here)"));
}

fn url(text: &str) -> StoreUrl {
    text.parse().unwrap()
}

/// Reads the settings from a URL, and checks the output of the settings or of the error.
fn settings<C: DeserializeOwned + Debug>(name: &str, query: &str) {
    let url = url(&format!("x://user:{CANARY}@host/db?{query}"));
    match url.options::<C>() {
        Ok(config) => hides(name, &format!("{config:?} {config:#?}")),
        Err(error) => hides(name, &format_error(&error)),
    }
}

/// Formats an error with all its sources.
fn format_error(error: &anykv::Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text} {cause} {cause:?}");
        source = cause.source();
    }
    text
}

#[test]
fn settings_hide_passwords() {
    let url = url(&format!("redis://user:{CANARY}@host:6379/0?password={CANARY}&token={CANARY}"));
    hides("a URL", &format!("{url} {url:?} {url:#?}"));
    for query in ["", "password=canary-7f3a9", "pass=canary-7f3a9", "listen_url=postgres://u:canary-7f3a9@h/d"] {
        settings::<kv_memory::MemoryConfig>("MemoryConfig", query);
        settings::<kv_sled::SledConfig>("SledConfig", query);
        settings::<kv_sqlite::SqliteConfig>("SqliteConfig", query);
        settings::<kv_redis::RedisConfig>("RedisConfig", query);
        settings::<kv_postgres::PostgresConfig>("PostgresConfig", query);
    }
    let json = format!(r#"{{"url":"redis://user:{CANARY}@host:6379","password":"{CANARY}"}}"#);
    if let Ok(config) = serde_json::from_str::<kv_redis::RedisConfig>(&json) {
        hides("RedisConfig", &format!("{config:?} {config:#?}"));
    }
    let json = format!(r#"{{"url":"postgres://user:{CANARY}@host/db"}}"#);
    if let Ok(config) = serde_json::from_str::<kv_postgres::PostgresConfig>(&json) {
        hides("PostgresConfig", &format!("{config:?} {config:#?}"));
    }
}

#[test]
fn builders_hide_passwords() {
    match kv_redis::RedisBuilder::from_url(&url(&format!("redis://user:{CANARY}@host:6379"))) {
        Ok(builder) => hides("RedisBuilder", &format!("{builder:?} {builder:#?}")),
        Err(error) => hides("an error of RedisBuilder", &format_error(&error)),
    }
    match kv_postgres::PostgresStore::builder().url(&format!("postgres://user:{CANARY}@host/db")) {
        Ok(builder) => hides("PostgresBuilder", &format!("{builder:?} {builder:#?}")),
        Err(error) => hides("an error of PostgresBuilder", &format_error(&error)),
    }
}

/// No server listens at these addresses, or the URL is invalid. The error must not show the password.
#[tokio::test(flavor = "multi_thread")]
async fn stores_that_cannot_be_opened_hide_passwords() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut urls = Vec::new();
    for scheme in ["redis", "rediss", "redis-cluster", "postgres", "postgresql"] {
        urls.push(format!("{scheme}://user:{CANARY}@127.0.0.1:{closed}/0"));
        urls.push(format!("{scheme}://user:{CANARY}@127.0.0.1:notaport/0"));
        urls.push(format!("{scheme}://user:{CANARY}@[::bad/0"));
        urls.push(format!("{scheme}://user:{CANARY}@127.0.0.1:{closed}/0?unknown={CANARY}"));
        urls.push(format!("{scheme}://user:{CANARY}%zz@127.0.0.1:{closed}"));
    }
    urls.push(format!("redis+unix:///nowhere/redis.sock?pass={CANARY}"));
    for url in urls {
        let registry = registry();
        let opening = tokio::time::timeout(std::time::Duration::from_secs(30), registry.open(&url));
        match opening.await.expect("opening ends") {
            Ok(kv) => hides(&url.replace(CANARY, "…"), &format!("{kv:?} {:?}", kv.info())),
            Err(error) => hides(&url.replace(CANARY, "…"), &format_error(&error)),
        }
    }
}

/// Names that become part of an SQL statement must be identifiers.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_name_must_be_an_identifier() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store").display().to_string();
    let long = "x".repeat(200);
    for bad in ["", "a b", "a;drop table kv", "a'b", "a\"b", "a--", "1a", "ä", "a\0b", long.as_str()] {
        let encoded = bad.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let error = registry().open(&format!("sqlite:{file}?table={encoded}")).await.err();
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(anykv::ErrorKind::Invalid), "the table {bad:?} in SQLite");
        let error = registry().open(&format!("postgres://u@127.0.0.1:1/db?table={encoded}")).await.err();
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(anykv::ErrorKind::Invalid), "the table {bad:?} in PostgreSQL");
    }
    assert!(!Path::new(&file).exists(), "a store was created for a table with an invalid name");
}
