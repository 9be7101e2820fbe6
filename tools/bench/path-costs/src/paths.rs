//! The code paths that are counted.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Key, KeyPrefix, Kv, ListQuery, ManualClock, SetOptions, WatchQuery, When};

use crate::fixture::{Fixture, MAX_RUNS, expires_in_an_hour, keys};

macro_rules! paths {
    ($($path:ident)+) => {
        /// The names of all paths, in the order of `instructions.txt`.
        pub(crate) const PATHS: &[&str] = &[$(stringify!($path)),+];

        /// Runs a path `times` times.
        pub(crate) async fn run(path: &str, times: usize) {
            assert!(times <= MAX_RUNS, "a path runs at most {MAX_RUNS} times");
            match path {
                $(stringify!($path) => $path(times).await,)+
                _ => panic!("the path {path} does not exist"),
            }
        }
    };
}

paths! {
    get_hit get_hit_with_ttl get_miss overwrite overwrite_watched_elsewhere insert set_with_ttl compare_and_set list_100
    insert_with_ttl insert_with_ttl_and_sweep publish key_of_three_segments kv_get_bytes namespace_get_bytes
    bounded_get bounded_overwrite bounded_insert
}

async fn get(fixture: Fixture, times: usize) {
    for key in fixture.cycle(times) {
        black_box(fixture.store.get(key).await.unwrap().unwrap());
    }
}

async fn set(fixture: Fixture, times: usize, options: SetOptions) {
    for key in fixture.cycle(times) {
        assert!(fixture.store.set(key, fixture.value.clone(), &options).await.unwrap().is_stored());
    }
}

async fn set_fresh(fixture: Fixture, times: usize, options: &SetOptions) {
    for key in keys("fresh", MAX_RUNS).iter().take(times) {
        assert!(fixture.store.set(key, fixture.value.clone(), options).await.unwrap().is_stored());
    }
}

async fn get_bytes(fixture: Fixture, kv: Kv, times: usize) {
    for key in &fixture.keys {
        kv.set_bytes(key, fixture.value.clone()).await.unwrap();
    }
    // Builds each key from its segments, as a caller does. The keys are as long as the keys of the other paths.
    for run in 0..times {
        let id = [b'0' + u8::try_from(run % 10).unwrap()];
        let id = std::str::from_utf8(&id).unwrap();
        black_box(kv.get_bytes(["items", id, "42"]).await.unwrap().unwrap());
    }
}

async fn get_hit(times: usize) {
    get(Fixture::unbounded(&SetOptions::default()).await, times).await;
}

async fn get_hit_with_ttl(times: usize) {
    get(Fixture::unbounded(&expires_in_an_hour()).await, times).await;
}

async fn get_miss(times: usize) {
    let fixture = Fixture::unbounded(&SetOptions::default()).await;
    for key in keys("other", MAX_RUNS).iter().take(times) {
        assert!(black_box(fixture.store.get(key).await.unwrap()).is_none());
    }
}

async fn overwrite(times: usize) {
    set(Fixture::unbounded(&SetOptions::default()).await, times, SetOptions::default()).await;
}

async fn overwrite_watched_elsewhere(times: usize) {
    let fixture = Fixture::unbounded(&SetOptions::default()).await;
    let elsewhere = WatchQuery::prefix(KeyPrefix::new(["elsewhere"]).unwrap());
    let _changes = fixture.store.watch(&elsewhere).await.unwrap();
    set(fixture, times, SetOptions::default()).await;
}

async fn insert(times: usize) {
    set_fresh(Fixture::unbounded(&SetOptions::default()).await, times, &SetOptions::default()).await;
}

async fn set_with_ttl(times: usize) {
    set(Fixture::unbounded(&expires_in_an_hour()).await, times, expires_in_an_hour()).await;
}

async fn insert_with_ttl(times: usize) {
    set_fresh(Fixture::unbounded(&SetOptions::default()).await, times, &expires_in_an_hour()).await;
}

/// The difference to `insert_with_ttl` is the cost of sweeping one entry.
async fn insert_with_ttl_and_sweep(times: usize) {
    let clock = ManualClock::new();
    let fixture = Fixture::on_clock(&clock).await;
    let store = fixture.store;
    set_fresh(fixture, times, &expires_in_an_hour()).await;
    clock.advance(Duration::from_hours(2));
    assert_eq!(store.sweep().await.unwrap(), times as u64);
}

async fn compare_and_set(times: usize) {
    let fixture = Fixture::unbounded(&SetOptions::default()).await;
    let key = fixture.keys.first().unwrap();
    let mut version = fixture.store.get(key).await.unwrap().unwrap().version.unwrap();
    for _ in 0..times {
        let options = SetOptions::default().with_when(When::Version(version));
        version = fixture.store.set(key, fixture.value.clone(), &options).await.unwrap().version().unwrap();
    }
}

async fn list_100(times: usize) {
    let fixture = Fixture::unbounded(&SetOptions::default()).await;
    let query = ListQuery::new(KeyPrefix::new(["items", "5"]).unwrap());
    for _ in 0..times {
        assert_eq!(black_box(fixture.store.list(&query).await.unwrap()).items.len(), 100);
    }
}

async fn publish(times: usize) {
    let fixture = Fixture::unbounded(&SetOptions::default()).await;
    for key in fixture.cycle(times) {
        fixture.store.publish(key, fixture.value.clone()).await.unwrap();
    }
}

async fn key_of_three_segments(times: usize) {
    for _ in 0..times {
        black_box(Key::new(black_box(["items", "5", "42"])).unwrap());
    }
}

async fn kv_get_bytes(times: usize) {
    let fixture = Fixture::unbounded(&SetOptions::default()).await;
    let kv = Kv::new(Arc::clone(fixture.store));
    get_bytes(fixture, kv, times).await;
}

async fn namespace_get_bytes(times: usize) {
    let fixture = Fixture::unbounded(&SetOptions::default()).await;
    let kv = Kv::new(Arc::clone(fixture.store)).namespace(["app"]).unwrap();
    get_bytes(fixture, kv, times).await;
}

async fn bounded_get(times: usize) {
    get(Fixture::bounded().await, times).await;
}

async fn bounded_overwrite(times: usize) {
    set(Fixture::bounded().await, times, SetOptions::default()).await;
}

async fn bounded_insert(times: usize) {
    set_fresh(Fixture::bounded().await, times, &SetOptions::default()).await;
}
