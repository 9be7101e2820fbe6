//! Two tenants on one store. The name of one tenant is a prefix of the name of the other tenant, or looks like a
//! pattern. No tenant sees data of the other tenant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anykv::{
    DeleteOptions, Key, KeyPrefix, KvStore, ListQuery, MessageEvent, Namespace, Namespaced, SetOptions, WatchEvent,
    WatchQuery, registry,
};
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Pairs of names that a wrong implementation concatenates, truncates or reads as a pattern.
const NAMES: &[(&[&str], &[&str])] = &[
    (&["app"], &["app2"]),
    (&["app"], &["app", "eu"]),
    (&["app"], &["app#eu"]),
    (&["a:b"], &["a", "b"]),
    (&["*"], &["app"]),
    (&["app%"], &["app_"]),
    (&[""], &["", ""]),
    (&["$23"], &["#"]),
];

struct Tenant {
    name: String,
    store: Namespaced<Arc<dyn KvStore>>,
    model: BTreeMap<Key, String>,
}

impl Tenant {
    fn new(store: &Arc<dyn KvStore>, name: &[&str]) -> Self {
        let store = Namespaced::new(Arc::clone(store), Namespace::new(name).unwrap());
        Self { name: format!("{name:?}"), store, model: BTreeMap::new() }
    }

    /// Runs a random operation. Values and messages start with the name of the tenant.
    async fn run_random(&mut self, rng: &mut StdRng) {
        let segments = ["", "a", "b", "app", "eu", "2", "#", ":", "*", "%"];
        let length = rng.random_range(1..3);
        let key = Key::new((0..length).map(|_| segments[rng.random_range(0..segments.len())])).unwrap();
        let options = SetOptions::default();
        match rng.random_range(0..8) {
            0..4 => {
                let value = format!("{} {}", self.name, rng.random::<u32>());
                assert!(self.store.set(&key, value.clone().into(), &options).await.unwrap().is_stored());
                self.model.insert(key, value);
            }
            4 => {
                let deleted = self.store.delete(&key, &DeleteOptions::default()).await.unwrap().is_deleted();
                assert_eq!(deleted, self.model.remove(&key).is_some(), "{} deleted {key}", self.name);
            }
            5 => {
                let prefix = KeyPrefix::from(&key);
                let cleared = self.store.clear(&prefix).await.unwrap();
                let before = self.model.len();
                self.model.retain(|key, _| !prefix.covers(key));
                assert_eq!(cleared, (before - self.model.len()) as u64, "{} cleared {prefix}", self.name);
            }
            6 => {
                let found = self.store.get(&key).await.unwrap().map(|entry| entry.value);
                assert_eq!(found.as_deref(), self.model.get(&key).map(String::as_bytes), "{} reads {key}", self.name);
            }
            _ => self.store.publish(&key, self.name.clone().into()).await.unwrap(),
        }
    }

    async fn check(&self) {
        let page = self.store.list(&ListQuery::default()).await.unwrap();
        let found: BTreeMap<Key, Vec<u8>> =
            page.items.into_iter().map(|item| (item.key, item.entry.unwrap().value.to_vec())).collect();
        let expected: BTreeMap<Key, Vec<u8>> =
            self.model.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect();
        assert_eq!(found, expected, "the list of {}", self.name);
    }
}

/// Receives all events of a tenant until no event arrives for 100 ms, and checks that each event belongs to the tenant.
async fn assert_own_events(tenant: &Tenant, streams: (anykv::WatchStream, anykv::MessageStream)) {
    let (mut changes, mut messages) = streams;
    let is_own = |text: &[u8]| text.starts_with(tenant.name.as_bytes());
    let timeout = Duration::from_millis(100);
    while let Ok(Some(event)) = tokio::time::timeout(timeout, changes.next()).await {
        if let WatchEvent::Set { entry: Some(entry), .. } = event.unwrap() {
            assert!(
                is_own(&entry.value),
                "{} is notified of a change of the other tenant: {:?}",
                tenant.name,
                entry.value
            );
        }
    }
    while let Ok(Some(event)) = tokio::time::timeout(timeout, messages.next()).await {
        if let MessageEvent::Message(message) = event.unwrap() {
            assert!(is_own(&message.payload), "{} receives a message of the other tenant", tenant.name);
        }
    }
}

async fn assert_isolation(url: &str) {
    let store = registry().open_store(url.parse().unwrap()).await.unwrap();
    let mut rng = StdRng::seed_from_u64(0x7e4a);
    for (one, other) in NAMES {
        let mut tenants = [Tenant::new(&store, one), Tenant::new(&store, other)];
        let mut streams = Vec::new();
        for tenant in &tenants {
            let changes = tenant.store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
            streams.push((changes, tenant.store.subscribe(&KeyPrefix::ALL).await.unwrap()));
        }
        for step in 0..300 {
            tenants[rng.random_range(0..2)].run_random(&mut rng).await;
            if step % 50 == 49 {
                tenants[0].check().await;
                tenants[1].check().await;
            }
        }
        for (tenant, streams) in tenants.iter().zip(streams) {
            assert_own_events(tenant, streams).await;
        }
        let _ = tenants[0].store.clear(&KeyPrefix::ALL).await.unwrap();
        tenants[0].model.clear();
        tenants[0].check().await;
        tenants[1].check().await;
        let _ = tenants[1].store.clear(&KeyPrefix::ALL).await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_isolated_in_memory() {
    assert_isolation("memory:").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_isolated_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    assert_isolation(&format!("sqlite:{}", folder.path().join("store").display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_isolated_in_sled() {
    let folder = tempfile::tempdir().unwrap();
    assert_isolation(&format!("sled:{}", folder.path().join("store").display())).await;
}
