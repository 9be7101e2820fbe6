//! The entries of the file in memory, with indexes by key and by deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use kv_core::{Bytes, Deadline, Entry, Key, ListItem, ListPage, ListQuery, Version};

/// The entry of a key, live or expired.
#[derive(Debug, Clone)]
pub(crate) struct StoredEntry {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Deadline,
}

impl StoredEntry {
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(self.value.clone()).with_version(self.version).with_expires(self.deadline)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    by_key: BTreeMap<Key, StoredEntry>,
    by_deadline: BTreeSet<(Deadline, Key)>,
}

impl Entries {
    /// Returns the entry of a key, unless its deadline has passed (clause T-1). The sweeper may remove an expired
    /// entry later.
    pub(crate) fn live(&self, key: &Key, now: SystemTime) -> Option<&StoredEntry> {
        self.by_key.get(key).filter(|stored| !stored.deadline.has_passed(now))
    }

    pub(crate) fn insert(&mut self, key: Key, stored: StoredEntry) {
        self.remove(&key);
        if stored.deadline != Deadline::NEVER {
            self.by_deadline.insert((stored.deadline, key.clone()));
        }
        self.by_key.insert(key, stored);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(stored) = self.by_key.remove(key) {
            self.by_deadline.remove(&(stored.deadline, key.clone()));
        }
    }

    /// Returns the due key with the earliest deadline.
    pub(crate) fn next_due(&self, now: SystemTime) -> Option<Key> {
        self.by_deadline.first().filter(|(deadline, _)| deadline.has_passed(now)).map(|(_, key)| key.clone())
    }

    /// Returns one page (clauses L-1 and L-3). Keys are ordered by their text, so a query is one range.
    pub(crate) fn page(&self, query: &ListQuery, now: SystemTime) -> ListPage {
        let Some(range) = query.range() else { return ListPage::default() };
        let found =
            self.by_key.range::<str, _>((range.0.as_ref().map(String::as_str), range.1.as_ref().map(String::as_str)));
        if query.reverse { fill(found.rev(), query, now) } else { fill(found, query, now) }
    }
}

fn fill<'e>(found: impl Iterator<Item = (&'e Key, &'e StoredEntry)>, query: &ListQuery, now: SystemTime) -> ListPage {
    let mut page = ListPage::default();
    let mut bytes = 0;
    for (key, stored) in found.filter(|(_, stored)| !stored.deadline.has_passed(now)) {
        let is_full = bytes >= query.max_page_bytes || query.limit.is_some_and(|limit| page.items.len() >= limit);
        if let (true, Some(last)) = (is_full, page.items.last()) {
            page.next = Some(last.key.clone());
            break;
        }
        bytes += if query.keys_only { key.as_str().len() } else { stored.value.len() };
        page.items.push(ListItem { key: key.clone(), entry: (!query.keys_only).then(|| stored.entry()) });
    }
    page
}
