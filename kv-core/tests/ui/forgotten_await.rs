#![deny(unused_must_use)]

use std::time::Duration;

use kv_core::Kv;

fn forgets(kv: &Kv) {
    kv.set(["k"], "v");
    kv.set(["k"], "v").ttl(Duration::from_secs(1));
    kv.set_many([(["k"], "v")]);
    kv.delete(["k"]);
    kv.increment(["n"], 1);
    kv.update(["n"], |old: Option<u8>| old);
    kv.compare_and_swap(["n"], None, Some(&1));
    kv.transaction().delete(["k"]);
    kv.lock(["l"], Duration::from_secs(1));
    kv.keys(());
}

fn main() {}
