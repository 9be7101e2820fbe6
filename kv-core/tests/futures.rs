//! The handle's futures and results implement `Send`.

use std::time::Duration;

use kv_core::kv::{Batch, Listing, Lock};
use kv_core::{Entry, Error, Key, Kv};

fn assert_send<T: Send>(value: T) -> T {
    value
}

/// Never runs. The test is that this function compiles.
#[allow(dead_code, reason = "the compiler is the test")]
fn every_future_is_send(kv: &Kv, key: &Key) {
    drop(assert_send(kv.get::<String>(key)));
    drop(assert_send(kv.get_bytes(["k"])));
    drop(assert_send(kv.get_entry(["k"])));
    drop(assert_send(kv.contains(vec!["k"])));
    drop(assert_send(kv.get_many::<String>([["k"]])));
    drop(assert_send(kv.set(["k"], "v").into_future()));
    drop(assert_send(kv.set(["k"], "v").if_absent().into_future()));
    drop(assert_send(kv.set_many([(["k"], "v")]).into_future()));
    drop(assert_send(kv.delete(["k"]).into_future()));
    drop(assert_send(kv.delete_many([["k"]])));
    drop(assert_send(kv.take::<String>(["k"])));
    drop(assert_send(kv.take_bytes(["k"])));
    drop(assert_send(kv.clear(())));
    drop(assert_send(kv.expire_after(["k"], Duration::ZERO)));
    drop(assert_send(kv.increment(["k"], 1).into_future()));
    drop(assert_send(kv.update(["k"], |old: Option<u8>| old).into_future()));
    drop(assert_send(kv.compare_and_swap(["k"], None, Some(&1)).into_future()));
    drop(assert_send(kv.get_or_insert_with(["k"], async || Ok::<u8, Error>(1)).into_future()));
    drop(assert_send(kv.lock(["k"], Duration::ZERO).into_future()));
    drop(assert_send(kv.transaction().delete(["k"]).commit()));
    drop(assert_send(kv.watch(["k"]).into_future()));
    drop(assert_send(kv.publish(["k"], "v")));
    drop(assert_send(kv.subscribe(["k"])));
}

#[test]
fn results_of_the_handle_are_send_and_static() {
    fn check<T: Send + 'static>() {}
    check::<Kv>();
    check::<Lock>();
    check::<Batch<Entry>>();
    check::<Listing<(Key, String)>>();
}
