//! Transactions.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use kv_core::{Expiry, Key, KvStore, Transaction, When};
use kv_memory::MemoryStore;

/// Any bytes, read as transactions of up to four keys, are applied as a whole or not at all.
pub fn transactions(data: &[u8]) {
    let store = MemoryStore::new();
    let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    for part in data.split(|byte| *byte == b'\n').take(64) {
        let mut transaction = Transaction::new();
        let mut after = model.clone();
        let mut holds = true;
        for step in part.chunks_exact(2).take(64) {
            let [what, value] = step else { continue };
            let name = ["a", "b", "c", "d"].get(usize::from(what >> 6)).copied().unwrap_or("a");
            let Ok(key) = Key::new(["k", name]) else { continue };
            let value = vec![*value];
            let there = model.get(&key);
            (transaction, holds) = match what % 6 {
                0 => (transaction.check(key, When::Absent), holds && there.is_none()),
                1 => (transaction.check(key.clone(), When::Present), holds && there.is_some()),
                2 => {
                    let is_same = there == Some(&value);
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
        // A store in memory is never waited for.
        let outcome = store.commit(&transaction).now_or_never().expect("memory answers at once");
        assert_eq!(outcome.expect("memory does not fail").is_committed(), holds, "{transaction:?} over {model:?}");
        if holds {
            model = after;
        }
        for name in ["a", "b", "c", "d"] {
            let Ok(key) = Key::new(["k", name]) else { continue };
            let found = store.get(&key).now_or_never().expect("memory answers at once").expect("memory does not fail");
            assert_eq!(
                found.map(|entry| entry.value.to_vec()).as_ref(),
                model.get(&key),
                "{name} after {transaction:?}"
            );
        }
    }
}
