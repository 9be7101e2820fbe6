//! The stores that the tests run on.
#![allow(clippy::unwrap_used, reason = "only tests use this module, and a test may panic")]

use std::sync::Arc;

use anykv::{KvStore, Namespace, Namespaced, StoreUrl, Version};
use tempfile::TempDir;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

/// The stores of every run.
const NAMES: [&str; 5] = ["memory", "sqlite", "sled", "redis", "postgres"];

/// The servers and the temporary folder of a run. Dropping the value stops the servers and removes the folder.
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

    /// Returns the URLs in the order of [`names`]. Each call returns new folders for the embedded stores, because only
    /// one handle may open a folder of sled.
    pub(crate) fn urls(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).join(Version::random().to_string()).display().to_string();
        let mut urls = vec![
            "memory:".to_owned(),
            format!("sqlite:{}", path("sqlite")),
            format!("sled:{}", path("sled")),
            self.redis.url(),
            self.postgres.url(),
        ];
        urls.extend(additional_urls());
        urls
    }
}

/// Returns the names of the stores. Starts no server, so that listing the tests is fast.
pub(crate) fn names() -> Vec<String> {
    let additional = additional_urls().into_iter().map(|url| url.parse::<StoreUrl>().unwrap().to_string());
    NAMES.map(str::to_owned).into_iter().chain(additional).collect()
}

fn additional_urls() -> Vec<String> {
    let urls = std::env::var("REFEREES_URLS").unwrap_or_default();
    urls.split_whitespace().map(str::to_owned).collect()
}

/// Opens a store and returns an empty namespace of the store.
pub(crate) async fn open(url: &str) -> Arc<dyn KvStore> {
    let store = anykv::registry().open_store(url.parse().unwrap()).await.unwrap();
    let namespace = Namespace::new(["referees".to_owned(), Version::random().to_string()]).unwrap();
    Arc::new(Namespaced::new(store, namespace))
}
