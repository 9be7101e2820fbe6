//! Checks that a transaction is visible as a whole (clause X-1).

use std::collections::HashMap;

use super::model::{Call, History, Operation, Transaction, Value};

/// Fails if a read showed one effect of a transaction, and a later read of another key showed a value that is
/// certainly older than the transaction.
pub(super) fn check_atomicity(history: &History) -> Result<(), String> {
    let mut ends: HashMap<Value, u64> = HashMap::new();
    for operation in history.keys.values().flatten() {
        if let (Call::Set { value, .. }, Some((returned, _))) = (operation.call, operation.returned) {
            ends.insert(value, returned.tick);
        }
    }
    for transaction in &history.transactions {
        let reads = |name: &str| history.keys.get(name).into_iter().flatten();
        let shows = |(name, value): &(&'static str, Value)| {
            let shown = reads(name).filter(|read| shown(read) == Some(*value));
            shown.filter_map(|read| read.returned.map(|(returned, _)| returned.tick)).min()
        };
        let Some((seen, &(first, _))) =
            transaction.sets.iter().filter_map(|set| Some((shows(set)?, set))).min_by_key(|(tick, _)| *tick)
        else {
            continue;
        };
        for (name, _) in transaction.sets.iter().filter(|(name, _)| *name != first) {
            let is_old = |read: &&Operation| {
                let end = shown(read).and_then(|value| ends.get(&value));
                read.called.tick > seen && end.is_some_and(|end| *end < transaction.called.tick)
            };
            if let Some(read) = reads(name).find(is_old) {
                return Err(violation(transaction, first, name, read));
            }
        }
    }
    Ok(())
}

/// The value that the answer of the operation shows.
fn shown(operation: &Operation) -> Option<Value> {
    operation.returned.and_then(|(_, answer)| answer.shown())
}

fn violation(transaction: &Transaction, first: &str, name: &str, read: &Operation) -> String {
    let sets: Vec<_> = transaction.sets.iter().map(|(name, value)| format!("`{name}` to {value}")).collect();
    let answer = read.returned.map(|(_, answer)| answer.to_string()).unwrap_or_default();
    format!(
        "a transaction of client {} set {}; after a read of `{first}` had shown it, {} of `{name}` by client {} returned \
         {answer}, which is older than the transaction",
        transaction.client,
        sets.join(" and "),
        read.call,
        read.client,
    )
}
