//! Calls over several keys.
//!
//! Each call is split into statements of a bounded size.

use std::collections::{HashMap, HashSet};

use kv_core::{DeleteOutcome, Entry, Error, Expiry, Key, Result, SetItem, SetOutcome, Version};

use crate::estimate::ValueLength;
use crate::multi_key::{self, PlainSet};
use crate::state::State;
use crate::write::{SingleSet, plain_lifetime};

/// The maximum number of keys in one statement.
const MAX_KEYS: usize = 1_000;
/// The maximum total size of the keys and values in one statement, in bytes. A larger write is sent alone.
const MAX_BYTES: usize = 4 << 20;

/// Reads several keys.
pub(crate) async fn get_many(state: &State, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
    let mut results = Vec::with_capacity(keys.len());
    while let Some(rest) = keys.get(results.len()..).filter(|rest| !rest.is_empty()) {
        let max_keys = (ValueLength::MAX_RESPONSE_BYTES / state.value_length.expected()).clamp(1, MAX_KEYS);
        let chunk: Vec<_> = rest.iter().take(max_keys).collect();
        results.extend(multi_key::get_many(state, &chunk).await);
    }
    results
}

/// Removes several keys.
pub(crate) async fn delete_many(state: &State, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
    let mut outcomes = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(MAX_KEYS) {
        let chunk: Vec<_> = chunk.iter().collect();
        outcomes.extend(multi_key::delete_many(state, &chunk).await);
    }
    outcomes
}

/// A write of a `set_many`, by the kind of its statement.
enum Write {
    /// Not sent, because the check of its options or its value failed.
    Refused(Error),
    /// Sent in one statement with other writes. Either all writes of a statement have absolute deadlines, or none has.
    Shared { set: PlainSet, is_absolute: bool },
    /// Sent in a separate statement.
    Single(SingleSet),
}

/// Writes several keys. `checked` contains, for each item, the result of the check of its options and its value.
///
/// Writes of the same key keep their order. If these writes need different kinds of statements, each write is sent in a
/// separate statement.
pub(crate) async fn set_many(state: &State, items: Vec<SetItem>, checked: Vec<Result<()>>) -> Vec<Result<SetOutcome>> {
    let mut kinds: HashMap<Key, bool> = HashMap::new();
    let mut mixed: HashSet<Key> = HashSet::new();
    for item in &items {
        let is_absolute = matches!(item.options.expiry, Expiry::At(_));
        let kind = *kinds.entry(item.key.clone()).or_insert(is_absolute);
        if plain_lifetime(&item.options).is_none() || kind != is_absolute {
            mixed.insert(item.key.clone());
        }
    }
    let writes = items.into_iter().zip(checked).map(|(item, checked)| {
        let version = Version::random();
        match (checked, plain_lifetime(&item.options)) {
            (Err(error), _) => Write::Refused(error),
            (Ok(()), Some(lifetime)) if !mixed.contains(&item.key) => {
                let is_absolute = matches!(item.options.expiry, Expiry::At(_));
                Write::Shared { set: PlainSet { key: item.key, value: item.value, version, lifetime }, is_absolute }
            }
            (Ok(()), _) => {
                Write::Single(SingleSet { key: item.key, value: item.value, version, options: item.options })
            }
        }
    });
    let writes: Vec<_> = writes.collect();
    let mut outcomes: Vec<Option<Result<SetOutcome>>> = Vec::new();
    outcomes.resize_with(writes.len(), || None);
    for absolute in [false, true] {
        let shared = writes.iter().enumerate().filter_map(|(index, write)| match write {
            Write::Shared { set, is_absolute } if *is_absolute == absolute => Some((index, set)),
            _ => None,
        });
        for chunk in chunks(shared) {
            let (indexes, sets): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
            let sent = multi_key::set_many(state, &sets).await;
            for (index, outcome) in indexes.into_iter().zip(sent) {
                if let Some(slot) = outcomes.get_mut(index) {
                    *slot = Some(outcome);
                }
            }
        }
    }
    let mut results = Vec::with_capacity(writes.len());
    for (write, outcome) in writes.into_iter().zip(outcomes) {
        results.push(match (write, outcome) {
            (_, Some(outcome)) => outcome,
            (Write::Single(set), None) => set.send(state).await,
            (Write::Refused(error), None) => Err(error),
            (Write::Shared { .. }, None) => Err(Error::unavailable("the write was not sent")),
        });
    }
    results
}

/// Splits writes into chunks within the limits of one statement.
fn chunks<'s>(sets: impl Iterator<Item = (usize, &'s PlainSet)>) -> Vec<Vec<(usize, &'s PlainSet)>> {
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    for (index, set) in sets {
        let size = set.key.as_str().len() + set.value.len();
        if !chunk.is_empty() && (chunk.len() == MAX_KEYS || bytes.saturating_add(size) > MAX_BYTES) {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        chunk.push((index, set));
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}
