//! Hundreds of concurrent gets, which are sent together.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use futures_util::future::join_all;
use kv_core::{ErrorKind, KvStore, SetItem};
use test_servers::redis::Redis;

mod support;
use support::{at, calls, key, set, value};

const MANY: usize = 256;

/// Polls each future once, and returns those that are still pending.
async fn poll_once<F: Future + Unpin>(futures: impl IntoIterator<Item = F>) -> Vec<F> {
    let mut pending = Vec::new();
    for mut future in futures {
        if futures_util::poll!(&mut future).is_pending() {
            pending.push(future);
        }
    }
    pending
}

#[tokio::test]
async fn concurrent_gets_share_few_commands_and_each_gets_its_own_entry() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let items: Vec<_> = (0..MANY).map(|number| SetItem::new(key(number), number.to_string())).collect();
    assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
    server.cli(&["RPUSH", "kv#{0}list", "foreign"]).unwrap();
    server.cli(&["SET", "kv#{0}foreign", "foreign"]).unwrap();

    let before = calls(&server, &["get", "mget"]);
    let names = (0..MANY).map(|number| number.to_string()).chain(["none", "list", "foreign"].map(String::from));
    let (found, rest): (Vec<_>, _) = {
        let results = join_all(names.map(|name| {
            let store = store.clone();
            async move { (store.get(&key(&name)).await, name) }
        }));
        let mut results = results.await;
        let rest = results.split_off(MANY);
        (results, rest)
    };
    for (result, name) in found {
        assert_eq!(result.unwrap().unwrap().value, name);
    }
    let kinds: Vec<_> =
        rest.iter().map(|(result, _)| result.as_ref().map(Option::is_some).map_err(kv_core::Error::kind)).collect();
    assert_eq!(kinds, [Ok(false), Err(ErrorKind::Corrupt), Err(ErrorKind::Corrupt)]);
    let commands = calls(&server, &["get", "mget"]) - before;
    assert!(commands < 50, "{commands} commands for {MANY} gets");
}

#[tokio::test]
async fn gets_succeed_after_the_first_gets_were_dropped() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
    let name = key("k");
    for dropped in [33, 34, 40, 200] {
        let mut gets = poll_once((0..MANY).map(|_| store.get(&name))).await;
        // Drop the gets that were sent alone, and some of the queued gets.
        drop(gets.drain(..dropped.min(gets.len())));
        for found in join_all(gets).await {
            assert_eq!(found.unwrap().unwrap().value, "v");
        }
    }
}

#[test]
fn gets_of_an_ended_runtime_do_not_block_other_gets() {
    let server = Redis::start().unwrap();
    let lasting = tokio::runtime::Runtime::new().unwrap();
    let short = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = lasting.block_on(at(&server.url()).open()).unwrap();
    let _ = lasting.block_on(set(&store, "k", "v")).unwrap();
    let name = key("k");
    let abandoned = short.block_on(poll_once((0..MANY).map(|_| store.get(&name))));
    // The task that should send these gets is in the other runtime, and never runs.
    let gets = lasting.block_on(poll_once((0..MANY).map(|_| store.get(&name))));
    drop(abandoned);
    drop(short);
    lasting.block_on(async {
        for found in tokio::time::timeout(Duration::from_secs(10), join_all(gets)).await.unwrap() {
            assert_eq!(found.unwrap().unwrap().value, "v");
        }
        let others = join_all((0..MANY).map(|_| value(&store, "k")));
        assert!(tokio::time::timeout(Duration::from_secs(10), others).await.unwrap().iter().all(Option::is_some));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_of_long_values_are_not_sent_together() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let long = "x".repeat(2 << 20);
    let _ = set(&store, "long", &long).await.unwrap();
    // The reply raises the estimate of value lengths, so that each further get is a separate command.
    assert_eq!(value(&store, "long").await.unwrap().len(), long.len());
    let before = calls(&server, &["mget"]);
    for found in join_all((0..64).map(|_| value(&store, "long"))).await {
        assert_eq!(found.unwrap().len(), long.len());
    }
    assert_eq!(calls(&server, &["mget"]), before);
}
