//! The overhead of the handle `Kv` over the store that it calls.

use std::hint::black_box;
use std::sync::Arc;

use anykv::memory::MemoryStore;
use anykv::{Key, Kv, KvStore};
use kv_cli::bench::Random;

use super::BenchOptions;
use super::memory::medians;
use crate::allocations;
use crate::bar::{Bar, Required};
use crate::raw::{SyncDriver, poll_until_ready};

pub(super) fn bars(options: &BenchOptions) -> Vec<Bar> {
    const ENTRIES: u64 = 10_000;
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let kv = Kv::new(Arc::clone(&store));
    let mut random = Random::new(7);
    let ids: Vec<String> = (0..ENTRIES).map(|_| format!("{:016x}", random.next())).collect();
    let keys: Vec<Key> = ids.iter().map(|id| Key::new(["users", id]).unwrap()).collect();
    for key in &keys {
        SyncDriver::set(&store, key, random.bytes(100).into());
    }
    let (rounds, mut positions) = (options.rounds(), [0; 2]);
    let [handle, store_get] = rounds.run_inline(|side| match side {
        0 => rounds.nanos(&ids, &mut positions[0], |id| {
            black_box(poll_until_ready(kv.get_bytes(["users", id])).unwrap().unwrap());
        }),
        _ => rounds.nanos(&keys, &mut positions[1], |key| {
            black_box(poll_until_ready(KvStore::get(&store, key)).unwrap().unwrap());
        }),
    });
    let label = "kv.get_bytes([\"users\", id]) vs get of the store with a prepared key, in memory: time";
    let bar = Bar::new("bar-kv", label, Required::AtMost(2.0), &handle.over(&store_get));
    let bar = bar.details(medians(&handle, &store_get));
    [bar].into_iter().chain(allocations::bars(&["bar-kv"], &|_| true)).collect()
}
