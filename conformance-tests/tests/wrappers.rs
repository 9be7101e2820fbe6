//! Wrappers of a good store pass the suite with the same capabilities.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance_tests::Suite;
use kv_core::{Entry, Key, KvStore, Namespace, Namespaced, Result, delegate_store};
use kv_memory::CAPABILITIES;

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
    passes(support::suite("namespaced", move |good, _| Arc::new(Namespaced::new(good, namespace.clone())))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_in_a_namespace_passes() {
    let (outer, inner) = (Namespace::new(["app"]).unwrap(), Namespace::new(["", "app"]).unwrap());
    passes(support::suite("namespaced twice", move |good, _| {
        Arc::new(Namespaced::new(Namespaced::new(good, outer.clone()), inner.clone()))
    }))
    .await;
}
