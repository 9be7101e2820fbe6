//! Many tasks on one handle, dropped futures, clocks that disagree, and users with few rights.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kv_core::{
    Clock, DeleteOptions, ErrorKind, Expires, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, NewExpiry, SetItem,
    SetOptions, SystemClock, Transaction, When,
};
use kv_redis::{RedisStore, redis};
use test_servers::redis::Redis;

mod support;
use support::{at, key, keys, set, value};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_share_the_connection_of_a_handle() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let tasks: Vec<_> = (0..256)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let text = format!("{task} {round}");
                    let _ = set(&store, task, &text).await.unwrap();
                    assert_eq!(value(&store, task).await, Some(text));
                    store.increment(&key("count"), 1, &IncrementOptions::default()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(value(&store, "count").await.as_deref(), Some("5120"));
    assert_eq!(keys(&store).await.len(), 257);
    let clients = server.cli(&["CLIENT", "LIST"]).unwrap();
    assert_eq!(clients.lines().filter(|line| line.contains("lib-name=anykv") || line.contains("resp=3")).count(), 1);
}

/// Polls a future at most `times` times, then drops it.
async fn poll_times<F: Future>(times: usize, future: F) {
    let mut future = pin!(future);
    for _ in 0..times {
        let is_ready = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if is_ready {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_leave_a_consistent_store() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let name = |number: usize| key(format!("k{}", number % 7));
    for number in 0..400_usize {
        let (times, own, plain) = (1 + number % 5, name(number), SetOptions::default());
        poll_times(times, store.set(&own, "a".into(), &plain)).await;
        poll_times(times, store.set(&own, "b".into(), &plain.clone().with_when(When::Present))).await;
        poll_times(times, store.get(&own)).await;
        poll_times(times, store.get_many(&[own.clone(), name(number + 1)])).await;
        poll_times(times, store.set_many(&[SetItem::new(name(number + 2), "c")])).await;
        poll_times(times, store.delete(&name(number + 3), &DeleteOptions::default())).await;
        poll_times(times, store.touch(&own, NewExpiry::After(Duration::from_secs(1_000)))).await;
        poll_times(times, store.increment(&key("count"), 1, &IncrementOptions::default())).await;
        let both = Transaction::new().set(key("one"), number.to_string(), Expiry::Never).set(
            key("two"),
            number.to_string(),
            Expiry::Never,
        );
        poll_times(times, store.commit(&both)).await;
        poll_times(times, store.list(&kv_core::ListQuery::default())).await;
        poll_times(times, store.clear(&KeyPrefix::new(["nothing"]).unwrap())).await;
        poll_times(times, store.watch(&kv_core::WatchQuery::key(own.clone()))).await;
        poll_times(times, store.publish(&own, "m".into())).await;
        poll_times(times, store.subscribe(&KeyPrefix::ALL)).await;
        poll_times(times, store.sweep()).await;
        assert_eq!(value(&store, "one").await, value(&store, "two").await, "the transaction was partially applied");
    }
    // The index must agree with the entries: the list has exactly the keys for which `contains` returns true.
    let listed: BTreeSet<Key> = keys(&store).await.into_iter().collect();
    for name in ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "count", "one", "two"].map(key) {
        assert_eq!(store.contains(&name).await.unwrap(), listed.contains(&name), "{name}");
    }
    assert!(store.increment(&key("count"), 0, &IncrementOptions::default()).await.unwrap() <= 400);
    let _ = set(&store, "k0", "after").await.unwrap();
    assert_eq!(value(&store, "k0").await.as_deref(), Some("after"));
}

/// A clock that is ahead of the system clock by a fixed duration.
#[derive(Debug)]
struct Ahead(Duration);

#[async_trait]
impl Clock for Ahead {
    fn now(&self) -> SystemTime {
        SystemClock.now() + self.0
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_whose_clocks_are_five_seconds_apart_agree_on_deadlines() {
    const TTL: Duration = Duration::from_millis(600);
    let server = Redis::start().unwrap();
    let right = at(&server.url()).open().await.unwrap();
    let wrong = at(&server.url()).clock(Arc::new(Ahead(Duration::from_secs(5)))).open().await.unwrap();
    for (writer, name) in [(&right, "right"), (&wrong, "wrong")] {
        let start = SystemClock.now();
        let options = SetOptions::default().with_expiry(Expiry::After(TTL));
        let _ = writer.set(&key(name), "v".into(), &options).await.unwrap();
        let entry = right.get(&key(name)).await.unwrap().unwrap();
        assert_eq!(wrong.get(&key(name)).await.unwrap().unwrap(), entry);
        let Expires::At(deadline) = entry.expires else { panic!("{entry:?}") };
        let off = deadline.duration_since(start + TTL).unwrap_or_else(|before| before.duration());
        assert!(off < Duration::from_millis(100), "{name}: {off:?}");
        SystemClock.sleep(TTL / 2).await;
        assert!(right.contains(&key(name)).await.unwrap() && wrong.contains(&key(name)).await.unwrap());
        SystemClock.sleep(TTL).await;
        assert!(!right.contains(&key(name)).await.unwrap() && !wrong.contains(&key(name)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_in_the_readme_suffice_and_a_user_without_these_rights_is_denied() {
    let server = Redis::builder()
        .acl_user("ada", "s3cret/@:canary", &support::rights("kv", ""))
        .acl_user("bob", "canary", "~other* +@all")
        .start()
        .unwrap();
    let store = at(&server.url_of("ada", "s3cret/@:canary")).open().await.unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
    let soon = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(100)));
    let _ = store.set(&key("k"), "w".into(), &soon.with_when(When::Present)).await.unwrap();
    assert!(store.touch(&key("k"), NewExpiry::Never).await.unwrap());
    assert_eq!(store.increment(&key("count"), 2, &IncrementOptions::default()).await.unwrap(), 2);
    let both = Transaction::new().delete(key("k")).set(key("l"), "v", Expiry::Keep);
    assert!(store.commit(&both).await.unwrap().is_committed());
    assert_eq!(keys(&store).await, [key("count"), key("l")]);
    let _watch = store.watch(&kv_core::WatchQuery::key(key("k"))).await.unwrap();
    let _messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    store.publish(&key("c"), "m".into()).await.unwrap();
    store.sweep().await.unwrap();
    store.ping().await.unwrap();
    assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 2);

    for url in [server.url_of("ada", "canary"), server.url_of("nobody", "canary"), server.url_of("bob", "canary")] {
        let error = at(&url).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!format!("{error} {error:?} {:?}", at(&url)).contains("canary"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_unix_and_tls_addresses_lead_to_the_same_store() {
    let server = Redis::builder().password("canary").tls().start().unwrap();
    let tcp = at(&server.url()).open().await.unwrap();
    let _ = set(&tcp, "k", "v").await.unwrap();
    let unix = at(&server.unix_url()).open().await.unwrap();
    let tls = at(&server.tls_url()).ca(server.ca_certificate()).open().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let ready = RedisStore::builder().client(&client).open().await.unwrap();
    for store in [&unix, &tls, &ready] {
        assert_eq!(value(store, "k").await.as_deref(), Some("v"));
        assert!(!format!("{store:?}").contains("canary"));
    }
    let other = at(&format!("{}/3", server.url())).open().await.unwrap();
    assert_eq!(value(&other, "k").await, None);
    let _ = set(&other, "k", "three").await.unwrap();
    assert_eq!(value(&tcp, "k").await.as_deref(), Some("v"));
    let untrusted = at(&server.tls_url()).open().await.unwrap_err();
    assert_eq!(untrusted.kind(), ErrorKind::Denied, "{untrusted}");
    assert!(!format!("{untrusted:?}").contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_another_database_are_not_delivered() {
    let server = Redis::start().unwrap();
    let (one, other) =
        (at(&server.url()).open().await.unwrap(), at(&format!("{}/1", server.url())).open().await.unwrap());
    let mut stream = one.subscribe(&KeyPrefix::ALL).await.unwrap();
    other.publish(&key("c"), "theirs".into()).await.unwrap();
    one.publish(&key("c"), "ours".into()).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(5), futures_util::StreamExt::next(&mut stream)).await;
    let kv_core::MessageEvent::Message(message) = event.unwrap().unwrap().unwrap() else { panic!() };
    assert_eq!(message.payload, "ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweeper_removes_expired_keys_from_the_index() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let soon = SetOptions::default().with_expiry(Expiry::After(Duration::from_millis(500)));
    for round in 0..20 {
        let items: Vec<_> =
            (0..10_000).map(|at| SetItem::new(key(format!("{round} {at}")), "v").with_options(soon.clone())).collect();
        assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
    }
    let size = || server.cli(&["ZCARD", "kv!{0}"]).unwrap().trim().parse::<u64>().unwrap();
    support::eventually(|| async { size() == 0 }).await;
    let _ = set(&store, "k", "v").await.unwrap();
    assert_eq!(size(), 1);
}
