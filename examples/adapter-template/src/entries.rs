//! What is in the file, in memory: in the order of keys, and in the order of deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use kv_core::{Bytes, Deadline, Entry, Key, ListItem, ListPage, ListQuery, Version};

/// What is held under a key, live or not.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Deadline,
}

impl Held {
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(self.value.clone()).with_version(self.version).with_expires(self.deadline)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    by_key: BTreeMap<Key, Held>,
    by_deadline: BTreeSet<(Deadline, Key)>,
}

impl Entries {
    /// The entry of a key at this time: from its deadline on it is absent, whether it was swept or not (clause T-1).
    pub(crate) fn live(&self, key: &Key, now: SystemTime) -> Option<&Held> {
        self.by_key.get(key).filter(|held| !held.deadline.has_passed(now))
    }

    pub(crate) fn insert(&mut self, key: Key, held: Held) {
        self.remove(&key);
        if held.deadline != Deadline::NEVER {
            self.by_deadline.insert((held.deadline, key.clone()));
        }
        self.by_key.insert(key, held);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(held) = self.by_key.remove(key) {
            self.by_deadline.remove(&(held.deadline, key.clone()));
        }
    }

    /// The key whose deadline passed first, if one has.
    pub(crate) fn expired(&self, now: SystemTime) -> Option<Key> {
        self.by_deadline.first().filter(|(deadline, _)| deadline.has_passed(now)).map(|(_, key)| key.clone())
    }

    /// One page (clauses L-1 and L-3). The order of keys is the order of their texts, so a query is one range.
    pub(crate) fn page(&self, query: &ListQuery, now: SystemTime) -> ListPage {
        let Some(range) = query.range() else { return ListPage::default() };
        let found =
            self.by_key.range::<str, _>((range.0.as_ref().map(String::as_str), range.1.as_ref().map(String::as_str)));
        if query.reverse { fill(found.rev(), query, now) } else { fill(found, query, now) }
    }
}

fn fill<'e>(found: impl Iterator<Item = (&'e Key, &'e Held)>, query: &ListQuery, now: SystemTime) -> ListPage {
    let mut page = ListPage::default();
    let mut bytes = 0;
    for (key, held) in found.filter(|(_, held)| !held.deadline.has_passed(now)) {
        let is_full = bytes >= query.max_page_bytes || query.limit.is_some_and(|limit| page.items.len() >= limit);
        if let (true, Some(last)) = (is_full, page.items.last()) {
            page.next = Some(last.key.clone());
            break;
        }
        bytes += if query.keys_only { key.as_str().len() } else { held.value.len() };
        page.items.push(ListItem { key: key.clone(), entry: (!query.keys_only).then(|| held.entry()) });
    }
    page
}
