//! Wrappers of a good store pass the suite with the same capabilities, and return the damaged entries of its pages.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance_tests::Suite;
use kv_core::{
    Entry, Error, ErrorKind, Key, KvStore, ListPage, ListQuery, Namespace, Namespaced, Result, delegate_store,
};
use kv_memory::{CAPABILITIES, MemoryStore};

async fn passes(suite: Suite) {
    assert_eq!(suite.capabilities(), CAPABILITIES, "the capabilities of {}", suite.name());
    // Few cases at a time and a long time limit, because the tests of this file run concurrently.
    let report = suite.with_cases_at_once(2).with_time_limit(Duration::from_secs(300)).run("").await;
    assert!(report.is_green(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_store_passes() {
    passes(support::suite("bare", |good, _| good)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arc_passes() {
    passes(support::suite("arc", |good, _| Arc::new(good))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_passes() {
    passes(support::suite("box", |good, _| Arc::new(Box::new(good)))).await;
}

#[derive(Debug)]
struct Delegating<S> {
    inner: S,
}

#[async_trait]
impl<S: KvStore> KvStore for Delegating<S> {
    delegate_store!(self.inner, except get);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegating_wrapper_passes() {
    passes(support::suite("delegating", |good, _| Arc::new(Delegating { inner: good }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_passes() {
    let namespace = Namespace::new(["app", "eu#1"]).unwrap();
    let suite = support::suite("namespaced", move |good, _| Arc::new(Namespaced::new(good, namespace.clone())));
    passes(suite.in_namespaces()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_in_a_namespace_passes() {
    let (outer, inner) = (Namespace::new(["app"]).unwrap(), Namespace::new(["", "app"]).unwrap());
    let suite = support::suite("namespaced twice", move |good, _| {
        Arc::new(Namespaced::new(Namespaced::new(good, outer.clone()), inner.clone()))
    });
    passes(suite.in_namespaces()).await;
}

/// A store whose pages report these keys as damaged entries.
#[derive(Debug)]
struct Damaged<S> {
    inner: S,
    keys: Vec<Key>,
}

#[async_trait]
impl<S: KvStore> KvStore for Damaged<S> {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        let keys = self.keys.iter().filter(|key| query.prefix.covers(key));
        page.damaged.extend(keys.map(|key| Error::corrupt("the checksum does not match").with_key(key)));
        Ok(page)
    }
}

fn damaged(keys: impl IntoIterator<Item = Key>) -> Damaged<MemoryStore> {
    Damaged { inner: MemoryStore::new(), keys: keys.into_iter().collect() }
}

/// Fails unless a page of the store reports exactly these keys as damaged.
async fn reports_damage(store: impl KvStore, expected: &[Key]) {
    let page = store.list(&ListQuery::default()).await.unwrap();
    let keys: Vec<Key> = page.damaged.iter().filter_map(Error::key).cloned().collect();
    assert_eq!(keys, expected);
    assert!(page.damaged.iter().all(|error| error.kind() == ErrorKind::Corrupt), "{:?}", page.damaged);
}

fn damaged_keys() -> [Key; 2] {
    [Key::new(["a"]).unwrap(), Key::new(["b", "c"]).unwrap()]
}

#[tokio::test]
async fn an_arc_returns_damaged_entries() {
    let store: Arc<dyn KvStore> = Arc::new(damaged(damaged_keys()));
    reports_damage(store, &damaged_keys()).await;
}

#[tokio::test]
async fn a_box_returns_damaged_entries() {
    let store: Box<dyn KvStore> = Box::new(damaged(damaged_keys()));
    reports_damage(store, &damaged_keys()).await;
}

#[tokio::test]
async fn a_delegating_wrapper_returns_damaged_entries() {
    reports_damage(Delegating { inner: damaged(damaged_keys()) }, &damaged_keys()).await;
}

#[tokio::test]
async fn a_namespace_returns_only_its_own_damaged_entries() {
    let (namespace, other) = (Namespace::new(["app"]).unwrap(), Namespace::new(["app", "eu"]).unwrap());
    let mut keys: Vec<Key> = damaged_keys().iter().map(|key| namespace.wrap(key)).collect();
    // The key with the same segments as the namespace, and a key of another namespace.
    keys.extend([Key::new(["app"]).unwrap(), other.wrap(&Key::new(["a"]).unwrap())]);
    reports_damage(Namespaced::new(damaged(keys.clone()), namespace.clone()), &damaged_keys()).await;
    let store: Arc<dyn KvStore> = Arc::new(Delegating { inner: damaged(keys) });
    reports_damage(Namespaced::new(store, namespace), &damaged_keys()).await;
}

#[tokio::test]
async fn a_namespace_in_a_namespace_returns_its_own_damaged_entries() {
    let (outer, inner) = (Namespace::new(["app"]).unwrap(), Namespace::new(["eu"]).unwrap());
    let keys = damaged_keys().map(|key| outer.wrap(&inner.wrap(&key)));
    reports_damage(Namespaced::new(Namespaced::new(damaged(keys), outer), inner), &damaged_keys()).await;
}
