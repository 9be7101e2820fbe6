//! A store with many watchers. `kv-bench bars bar-watchers` measures their cost.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use futures_util::{FutureExt, StreamExt};
use kv_core::{Key, KvStore, SetOptions, WatchEvent, WatchQuery};
use kv_memory::MemoryStore;

fn key(number: usize) -> Key {
    Key::new(["users", &format!("k{number:06}")]).unwrap()
}

#[tokio::test]
async fn each_of_many_watchers_gets_only_its_own_changes() {
    const STORED: usize = 2_000;
    let store = MemoryStore::new();
    let mut streams = Vec::with_capacity(STORED);
    for at in 0..STORED {
        streams.push(store.watch(&WatchQuery::key(key(at))).await.unwrap());
    }
    // Every second watch ends, so that the others are found after removals.
    let kept: Vec<_> = streams.into_iter().enumerate().filter(|(at, _)| at % 2 == 1).collect();
    for at in 0..STORED {
        assert!(store.set(&key(at), "v".into(), &SetOptions::default()).await.unwrap().is_stored());
    }
    for (at, mut stream) in kept {
        let event = stream.next().await.unwrap().unwrap();
        assert!(matches!(event, WatchEvent::Set { key: ref set, .. } if *set == key(at)), "{at}: {event:?}");
        let second = tokio::task::unconstrained(stream.next()).now_or_never();
        assert!(second.is_none(), "watcher {at} got a second event");
    }
}
