//! Calls over several keys, split into statements of a bounded size.

use std::collections::{HashMap, HashSet};

use kv_core::{DeleteOutcome, Entry, Error, Expiry, Key, Result, SetItem, SetOutcome, Version};

use crate::batch::{self, Set};
use crate::state::{Answers, Core};
use crate::store::plain;
use crate::write::SetAlone;

/// How many keys go in one statement, and how many bytes, unless one value alone has more.
const MAX_KEYS: usize = 1_000;
const MAX_BYTES: usize = 4 << 20;

/// Reads several keys.
pub(crate) async fn get(core: &Core, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
    let mut answers = Vec::with_capacity(keys.len());
    while let Some(rest) = keys.get(answers.len()..).filter(|rest| !rest.is_empty()) {
        let most = (Answers::MAX_BYTES / core.answers.expected()).clamp(1, MAX_KEYS);
        let chunk: Vec<_> = rest.iter().take(most).collect();
        answers.extend(batch::get_many(core, &chunk).await);
    }
    answers
}

/// Removes several keys.
pub(crate) async fn delete(core: &Core, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
    let mut outcomes = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(MAX_KEYS) {
        let chunk: Vec<_> = chunk.iter().collect();
        outcomes.extend(batch::delete_many(core, &chunk).await);
    }
    outcomes
}

/// A write of a `set_many`, by how it is sent.
enum Write {
    Refused(Error),
    /// With others, all of them with moments or all without.
    Together {
        set: Set,
        has_moment: bool,
    },
    Alone(SetAlone),
}

/// Writes several keys. Writes of one key keep their order: such a key goes alone where not all of its writes are of one kind.
pub(crate) async fn set(core: &Core, items: Vec<SetItem>, checked: Vec<Result<()>>) -> Vec<Result<SetOutcome>> {
    let mut kinds: HashMap<Key, bool> = HashMap::new();
    let mut mixed: HashSet<Key> = HashSet::new();
    for item in &items {
        let has_moment = matches!(item.options.expiry, Expiry::At(_));
        let kind = *kinds.entry(item.key.clone()).or_insert(has_moment);
        if plain(&item.options).is_none() || kind != has_moment {
            mixed.insert(item.key.clone());
        }
    }
    let writes = items.into_iter().zip(checked).map(|(item, checked)| {
        let version = Version::random();
        match (checked, plain(&item.options)) {
            (Err(error), _) => Write::Refused(error),
            (Ok(()), Some(lifetime)) if !mixed.contains(&item.key) => {
                let has_moment = matches!(item.options.expiry, Expiry::At(_));
                Write::Together { set: Set { key: item.key, value: item.value, version, lifetime }, has_moment }
            }
            (Ok(()), _) => Write::Alone(SetAlone { key: item.key, value: item.value, version, options: item.options }),
        }
    });
    let writes: Vec<_> = writes.collect();
    let mut outcomes: Vec<Option<Result<SetOutcome>>> = Vec::new();
    outcomes.resize_with(writes.len(), || None);
    for moments in [false, true] {
        let together = writes.iter().enumerate().filter_map(|(at, write)| match write {
            Write::Together { set, has_moment } if *has_moment == moments => Some((at, set)),
            _ => None,
        });
        for chunk in chunks(together) {
            let (places, sets): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
            let done = batch::set_many(core, &sets).await;
            for (at, outcome) in places.into_iter().zip(done) {
                if let Some(place) = outcomes.get_mut(at) {
                    *place = Some(outcome);
                }
            }
        }
    }
    let mut answers = Vec::with_capacity(writes.len());
    for (write, outcome) in writes.into_iter().zip(outcomes) {
        answers.push(match (write, outcome) {
            (_, Some(outcome)) => outcome,
            (Write::Alone(set), None) => set.send(core).await,
            (Write::Refused(error), None) => Err(error),
            (Write::Together { .. }, None) => Err(Error::unavailable("the write was not sent")),
        });
    }
    answers
}

/// Splits writes where their number or their bytes are enough.
fn chunks<'s>(sets: impl Iterator<Item = (usize, &'s Set)>) -> Vec<Vec<(usize, &'s Set)>> {
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
    for (at, set) in sets {
        let size = set.key.as_str().len() + set.value.len();
        if !chunk.is_empty() && (chunk.len() == MAX_KEYS || bytes.saturating_add(size) > MAX_BYTES) {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        chunk.push((at, set));
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}
