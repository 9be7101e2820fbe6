//! Transactions.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use kv_core::{Expiry, Key, KvStore, Transaction, When};
use kv_memory::MemoryStore;

/// Reads the input as transactions over four keys, and checks that each transaction is applied as a whole or not at
/// all.
pub fn transactions(data: &[u8]) {
    let store = MemoryStore::new();
    let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    for part in data.split(|byte| *byte == b'\n').take(64) {
        let mut transaction = Transaction::new();
        let mut after = model.clone();
        let mut holds = true;
        for step in part.chunks_exact(2).take(64) {
            let [action, value] = step else { continue };
            let name = ["a", "b", "c", "d"].get(usize::from(action >> 6)).copied().unwrap_or("a");
            let Ok(key) = Key::new(["k", name]) else { continue };
            let value = vec![*value];
            let current = model.get(&key);
            (transaction, holds) = match action % 6 {
                0 => (transaction.check(key, When::Absent), holds && current.is_none()),
                1 => (transaction.check(key.clone(), When::Present), holds && current.is_some()),
                2 => {
                    let is_same = current == Some(&value);
                    (transaction.check(key, When::Value(value.into())), holds && is_same)
                }
                3 => {
                    after.remove(&key);
                    (transaction.delete(key), holds)
                }
                _ => {
                    after.insert(key.clone(), value.clone());
                    (transaction.set(key, value, Expiry::Never), holds)
                }
            };
        }
        // The futures of an unbounded store in memory are never pending.
        let outcome = store.commit(&transaction).now_or_never().expect("a memory store is never pending");
        assert_eq!(
            outcome.expect("a memory store does not fail").is_committed(),
            holds,
            "{transaction:?} over {model:?}"
        );
        if holds {
            model = after;
        }
        for name in ["a", "b", "c", "d"] {
            let Ok(key) = Key::new(["k", name]) else { continue };
            let found = store
                .get(&key)
                .now_or_never()
                .expect("a memory store is never pending")
                .expect("a memory store does not fail");
            assert_eq!(
                found.map(|entry| entry.value.to_vec()).as_ref(),
                model.get(&key),
                "{name} after {transaction:?}"
            );
        }
    }
}
