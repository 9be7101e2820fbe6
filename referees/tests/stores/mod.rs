//! The stores that stand before the referees.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use anykv::{KvStore, Namespace, Namespaced, StoreUrl, Version};
use tempfile::TempDir;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

/// Servers and folders, which are gone when this is dropped.
pub(crate) struct Grounds {
    folder: TempDir,
    redis: Redis,
    postgres: Postgres,
}

impl Grounds {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            redis: Redis::start().unwrap(),
            postgres: Postgres::start().unwrap(),
        }
    }

    /// Names and URLs. A folder of its own each time, for a store that only one handle may open.
    pub(crate) fn urls(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.path().join(name).join(Version::random().to_string()).display().to_string();
        let mut urls = vec![
            ("memory".to_owned(), "memory:".to_owned()),
            ("sqlite".to_owned(), format!("sqlite:{}", path("sqlite"))),
            ("sled".to_owned(), format!("sled:{}", path("sled"))),
            ("redis".to_owned(), self.redis.url()),
            ("postgres".to_owned(), self.postgres.url()),
        ];
        for url in std::env::var("REFEREES_URLS").unwrap_or_default().split_whitespace() {
            urls.push((url.parse::<StoreUrl>().unwrap().to_string(), url.to_owned()));
        }
        urls
    }
}

/// The names of the stores, which are listed without starting anything.
pub(crate) fn names() -> Vec<String> {
    let more = std::env::var("REFEREES_URLS").unwrap_or_default();
    let more = more.split_whitespace().map(|url| url.parse::<StoreUrl>().unwrap().to_string());
    ["memory", "sqlite", "sled", "redis", "postgres"].map(str::to_owned).into_iter().chain(more).collect()
}

/// An empty part of the store.
pub(crate) async fn open(url: &str) -> Arc<dyn KvStore> {
    let store = anykv::registry().open_store(url.parse().unwrap()).await.unwrap();
    let own = Namespace::new(["referees".to_owned(), Version::random().to_string()]).unwrap();
    Arc::new(Namespaced::new(store, own))
}
