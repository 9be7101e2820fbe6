//! Locks.

mod support;

use std::time::Duration;

use kv_core::{Capability, Error, ErrorKind};
use support::{BY_VALUE, CORE, FULL, Tiny};

const TTL: Duration = Duration::from_secs(10);

/// Yields often enough for background tasks to finish.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lock_has_one_holder_until_it_is_released() {
    let kv = Tiny::new(FULL).kv();
    let lock = kv.lock(["l"], TTL).await.unwrap().unwrap();
    assert!(kv.lock(["l"], TTL).await.unwrap().is_none());
    assert_eq!(kv.get_bytes(["l"]).await.unwrap().unwrap(), lock.token());
    assert!(lock.release().await.unwrap());
    let next = kv.lock(["l"], TTL).await.unwrap().unwrap();
    assert_eq!(next.key().as_str(), "l");
    assert!(!next.is_lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_twenty_concurrent_callers_gets_the_lock() {
    let kv = Tiny::new(FULL).kv();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let kv = kv.clone();
            tokio::spawn(async move { kv.lock(["l"], TTL).await.unwrap() })
        })
        .collect();
    let mut held = Vec::new();
    for caller in callers {
        held.extend(caller.await.unwrap());
    }
    assert_eq!(held.len(), 1);
}

#[tokio::test]
async fn a_renewed_lock_is_held_longer_and_can_be_released() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    let mut lock = kv.lock(["l"], TTL).await.unwrap().unwrap();
    store.clock().advance(TTL / 2);
    assert!(lock.renew(TTL).await.unwrap());
    store.clock().advance(TTL * 3 / 4);
    assert!(!lock.is_lost());
    assert!(kv.lock(["l"], TTL).await.unwrap().is_none());
    assert!(lock.release().await.unwrap());
    assert!(!kv.contains(["l"]).await.unwrap());
}

#[tokio::test]
async fn an_expired_lock_is_lost_and_does_not_affect_the_next_holder() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    let (mut first, second) =
        (kv.lock(["l"], TTL).await.unwrap().unwrap(), kv.lock(["m"], TTL).await.unwrap().unwrap());
    assert!(!first.is_lost());
    store.clock().advance(TTL);
    assert!(first.is_lost() && second.is_lost());

    let next = [kv.lock(["l"], TTL).await.unwrap().unwrap(), kv.lock(["m"], TTL).await.unwrap().unwrap()];
    assert!(!first.renew(TTL).await.unwrap());
    assert!(first.is_lost());
    assert!(!first.release().await.unwrap());
    assert!(!second.release().await.unwrap());
    for (key, lock) in [("l", &next[0]), ("m", &next[1])] {
        assert_eq!(kv.get_bytes([key]).await.unwrap().unwrap(), lock.token());
    }
}

#[tokio::test]
async fn a_dropped_lock_is_released_in_the_background_only_if_it_is_still_held() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    drop(kv.lock(["l"], TTL).await.unwrap());
    settle().await;
    let expired = kv.lock(["l"], TTL).await.unwrap().unwrap();
    store.clock().advance(TTL);
    let next = kv.lock(["l"], TTL).await.unwrap().unwrap();
    drop(expired);
    settle().await;
    assert_eq!(kv.get_bytes(["l"]).await.unwrap().unwrap(), next.token());
}

#[tokio::test]
async fn a_waiting_caller_gets_the_lock_when_it_is_free_or_times_out() {
    let store = Tiny::new(FULL);
    let (kv, clock) = (store.kv(), store.clock());
    let held = kv.lock(["l"], TTL).await.unwrap().unwrap();
    let wait = |max: Duration| {
        let kv = kv.clone();
        tokio::spawn(async move { kv.lock(["l"], TTL).wait(max).await.unwrap() })
    };
    let (short, long) = (wait(Duration::from_secs(1)), wait(Duration::from_secs(5)));
    for _ in 0..30 {
        settle().await;
        clock.advance(Duration::from_millis(50));
    }
    assert!(short.await.unwrap().is_none());
    assert!(!long.is_finished());
    assert!(held.release().await.unwrap());
    for _ in 0..20 {
        settle().await;
        clock.advance(Duration::from_millis(50));
    }
    assert!(long.await.unwrap().is_some());
}

#[tokio::test]
async fn growing_pauses_limit_the_polls_of_a_long_wait() {
    let store = Tiny::new(FULL);
    let (kv, clock) = (store.kv(), store.clock());
    let _held = kv.lock(["l"], TTL * 10).await.unwrap().unwrap();
    store.calls();
    let waiting = tokio::spawn({
        let kv = kv.clone();
        async move { kv.lock(["l"], TTL).wait(Duration::from_secs(20)).await.unwrap() }
    });
    while !waiting.is_finished() {
        settle().await;
        clock.advance(Duration::from_millis(5));
    }
    assert!(waiting.await.unwrap().is_none());
    let polls = store.calls().len();
    // Pauses of 250 to 500 ms follow a few short pauses.
    assert!((40..=95).contains(&polls), "{polls}");
}

#[tokio::test]
async fn after_an_indeterminate_renewal_the_lock_is_still_held() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    let mut lock = kv.lock(["l"], TTL).await.unwrap().unwrap();
    store.fail_next_write(Error::indeterminate(None, "cut"));
    assert!(lock.renew(TTL * 2).await.unwrap_err().maybe_applied());
    assert!(!lock.is_lost());
    assert!(lock.renew(TTL).await.unwrap());
    assert!(lock.release().await.unwrap());
}

#[tokio::test]
async fn a_store_without_locks_returns_unsupported() {
    for capabilities in [CORE, BY_VALUE, FULL.with_may_evict()] {
        let store = Tiny::new(capabilities);
        let error = store.kv().lock(["l"], TTL).await.unwrap_err();
        assert_eq!(error.capability(), Some(Capability::Locks));
        assert_eq!(store.calls(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_lock_that_expires_at_once_is_refused() {
    let kv = Tiny::new(FULL).kv();
    let error = kv.lock(["l"], Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let mut lock = kv.lock(["l"], TTL).await.unwrap().unwrap();
    assert_eq!(lock.renew(Duration::ZERO).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!lock.is_lost());
}
