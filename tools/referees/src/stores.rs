//! The stores that referees run on.
#![allow(clippy::unwrap_used, reason = "only tests use it, and a test may panic")]

use std::sync::Arc;

use anykv::{KvStore, Namespace, Namespaced, StoreUrl, Version};
use tempfile::TempDir;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

/// Stores that every run has.
const NAMES: [&str; 5] = ["memory", "sqlite", "sled", "redis", "postgres"];

/// Servers and folders; dropping it stops and removes them.
pub(crate) struct Backends {
    folder: TempDir,
    redis: Redis,
    postgres: Postgres,
}

impl Backends {
    pub(crate) fn start() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            redis: Redis::start().unwrap(),
            postgres: Postgres::start().unwrap(),
        }
    }

    /// URLs in the order of [`names`]. Embedded stores get a new folder in each call, because only one handle may open sled.
    pub(crate) fn urls(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).join(Version::random().to_string()).display().to_string();
        let mut urls = vec![
            "memory:".to_owned(),
            format!("sqlite:{}", path("sqlite")),
            format!("sled:{}", path("sled")),
            self.redis.url(),
            self.postgres.url(),
        ];
        urls.extend(added_urls());
        urls
    }
}

/// Names of the stores. Starts nothing, so that listing the tests is cheap.
pub(crate) fn names() -> Vec<String> {
    let added = added_urls().into_iter().map(|url| url.parse::<StoreUrl>().unwrap().to_string());
    NAMES.map(str::to_owned).into_iter().chain(added).collect()
}

fn added_urls() -> Vec<String> {
    let urls = std::env::var("REFEREES_URLS").unwrap_or_default();
    urls.split_whitespace().map(str::to_owned).collect()
}

/// Opens an empty namespace of the store.
pub(crate) async fn open(url: &str) -> Arc<dyn KvStore> {
    let store = anykv::registry().open_store(url.parse().unwrap()).await.unwrap();
    let namespace = Namespace::new(["referees".to_owned(), Version::random().to_string()]).unwrap();
    Arc::new(Namespaced::new(store, namespace))
}
