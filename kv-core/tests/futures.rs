//! The handle's futures and streams go where an application needs them.

use std::time::Duration;

use kv_core::kv::{Batch, Listing, Lock};
use kv_core::{Entry, Error, Key, Kv};

fn sent<T: Send>(value: T) -> T {
    value
}

/// Compiles; never runs.
#[allow(dead_code, reason = "the compiler is the test")]
fn every_future_is_send(kv: &Kv, key: &Key) {
    drop(sent(kv.get::<String>(key)));
    drop(sent(kv.get_bytes(["k"])));
    drop(sent(kv.get_entry(["k"])));
    drop(sent(kv.contains(vec!["k"])));
    drop(sent(kv.get_many::<String>([["k"]])));
    drop(sent(kv.set(["k"], "v").into_future()));
    drop(sent(kv.set(["k"], "v").if_absent().into_future()));
    drop(sent(kv.set_many([(["k"], "v")]).into_future()));
    drop(sent(kv.delete(["k"]).into_future()));
    drop(sent(kv.delete_many([["k"]])));
    drop(sent(kv.take::<String>(["k"])));
    drop(sent(kv.take_bytes(["k"])));
    drop(sent(kv.clear(())));
    drop(sent(kv.expire_after(["k"], Duration::ZERO)));
    drop(sent(kv.increment(["k"], 1).into_future()));
    drop(sent(kv.update(["k"], |old: Option<u8>| old).into_future()));
    drop(sent(kv.compare_and_swap(["k"], None, Some(&1)).into_future()));
    drop(sent(kv.get_or_insert_with(["k"], async || Ok::<u8, Error>(1)).into_future()));
    drop(sent(kv.lock(["k"], Duration::ZERO).into_future()));
    drop(sent(kv.transaction().delete(["k"]).commit()));
    drop(sent(kv.watch(["k"]).into_future()));
    drop(sent(kv.publish(["k"], "v")));
    drop(sent(kv.subscribe(["k"])));
}

#[test]
fn what_the_handle_gives_can_be_kept_and_sent() {
    fn check<T: Send + 'static>() {}
    check::<Kv>();
    check::<Lock>();
    check::<Batch<Entry>>();
    check::<Listing<(Key, String)>>();
}
