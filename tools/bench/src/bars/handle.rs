//! The handle `Kv` beside the store that it calls.

use std::hint::black_box;
use std::sync::Arc;

use anykv::memory::MemoryStore;
use anykv::{Key, Kv, KvStore};
use kv_cli::bench::Random;

use super::Measuring;
use super::memory::times;
use crate::allocations;
use crate::bar::{Bar, Required};
use crate::raw::{Inline, now};

pub(super) fn bars(measuring: &Measuring) -> Vec<Bar> {
    const ENTRIES: u64 = 10_000;
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let kv = Kv::new(Arc::clone(&store));
    let mut random = Random::new(7);
    let ids: Vec<String> = (0..ENTRIES).map(|_| format!("{:016x}", random.next())).collect();
    let keys: Vec<Key> = ids.iter().map(|id| Key::new(["users", id]).unwrap()).collect();
    for key in &keys {
        Inline::set(&store, key, random.bytes(100).into());
    }
    let (rounds, mut places) = (measuring.rounds(), [0; 2]);
    let [handle, called] = rounds.run_inline(|side| match side {
        0 => rounds.nanos(&ids, &mut places[0], |id| {
            black_box(now(kv.get_bytes(["users", id])).unwrap().unwrap());
        }),
        _ => rounds.nanos(&keys, &mut places[1], |key| {
            black_box(now(KvStore::get(&store, key)).unwrap().unwrap());
        }),
    });
    let what = "kv.get_bytes([\"users\", id]) beside the store's get with a prepared key, in memory: time";
    let bar = Bar::new("bar-kv", what, Required::AtMost(2.0), &handle.over(&called));
    let bar = bar.beside(times(&handle, &called));
    [bar].into_iter().chain(allocations::bars(&["bar-kv"], &|_| true)).collect()
}
