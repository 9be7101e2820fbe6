//! Two tenants on one store, of which one has the beginning of the other's name: neither sees anything of the other.
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

/// Names that a careless store glues together, cuts, or takes for a pattern.
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

    /// Something at random, with values and messages that name the tenant.
    async fn act(&mut self, rng: &mut StdRng) {
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
        assert_eq!(found, expected, "what {} lists", self.name);
    }
}

/// Hears everything under a tenant's name until nothing comes any more, and fails where it names another.
async fn hears_only_its_own(tenant: &Tenant, heard: (anykv::WatchStream, anykv::MessageStream)) {
    let (mut changes, mut messages) = heard;
    let own = |text: &[u8]| text.starts_with(tenant.name.as_bytes());
    let quiet = Duration::from_millis(100);
    while let Ok(Some(event)) = tokio::time::timeout(quiet, changes.next()).await {
        if let WatchEvent::Set { entry: Some(entry), .. } = event.unwrap() {
            assert!(own(&entry.value), "{} hears of a change of another: {:?}", tenant.name, entry.value);
        }
    }
    while let Ok(Some(event)) = tokio::time::timeout(quiet, messages.next()).await {
        if let MessageEvent::Message(message) = event.unwrap() {
            assert!(own(&message.payload), "{} hears a message to another", tenant.name);
        }
    }
}

async fn stay_apart(url: &str) {
    let store = registry().open_store(url.parse().unwrap()).await.unwrap();
    let mut rng = StdRng::seed_from_u64(0x7e4a);
    for (one, other) in NAMES {
        let mut tenants = [Tenant::new(&store, one), Tenant::new(&store, other)];
        let mut heard = Vec::new();
        for tenant in &tenants {
            let changes = tenant.store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
            heard.push((changes, tenant.store.subscribe(&KeyPrefix::ALL).await.unwrap()));
        }
        for step in 0..300 {
            tenants[rng.random_range(0..2)].act(&mut rng).await;
            if step % 50 == 49 {
                tenants[0].check().await;
                tenants[1].check().await;
            }
        }
        for (tenant, heard) in tenants.iter().zip(heard) {
            hears_only_its_own(tenant, heard).await;
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
async fn in_memory() {
    stay_apart("memory:").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    stay_apart(&format!("sqlite:{}", folder.path().join("store").display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sled() {
    let folder = tempfile::tempdir().unwrap();
    stay_apart(&format!("sled:{}", folder.path().join("store").display())).await;
}
