//! The model of the store: the expected state of every key, computed from the operations of the clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anykv::{Bytes, Entry, Expires, Key, KeyPrefix, ListItem};
use tokio::time::Instant;

use super::prefill::Prefill;

/// The states of the keys of one client. Other clients read them only to check a list.
#[derive(Debug, Default)]
pub(super) struct Model {
    slots: Mutex<HashMap<Key, Slot>>,
}

/// The state of one key.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// The entry after the last acknowledged write.
    pub(super) entry: Option<ExpectedEntry>,
    /// The tick when the last write ended.
    ended_at: u64,
    /// True while a write is running.
    is_in_flight: bool,
    /// True after an indeterminate write, which may still be applied at any time.
    pub(super) is_unknown: bool,
}

/// The expected entry of a key.
#[derive(Debug, Clone)]
pub(super) struct ExpectedEntry {
    pub(super) value: Bytes,
    /// The earliest and the latest moment of expiry. The store started the time to live between the start of the write
    /// and its acknowledgement.
    pub(super) expires: Option<(Instant, Instant)>,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// The entry is absent. This is correct, because the entry may have expired or may have been evicted.
    MaybeExpired,
    Wrong(String),
}

impl ExpectedEntry {
    /// The maximum drift between the clocks of the client and the store during a run.
    const MARGIN: Duration = Duration::from_secs(1);

    pub(super) fn new(value: Bytes, ttl: Option<Duration>, issued: Instant, acknowledged: Instant) -> Self {
        let expires = ttl.and_then(|ttl| {
            let earliest = issued.checked_add(ttl)?;
            Some((earliest.checked_sub(Self::MARGIN).unwrap_or(issued), acknowledged.checked_add(ttl + Self::MARGIN)?))
        });
        Self { value, expires }
    }

    /// True if the entry may have expired at `now`.
    pub(super) fn may_have_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|(earliest, _)| now >= earliest)
    }

    /// True if the entry must have expired at `now`.
    fn must_have_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|(_, latest)| now >= latest)
    }
}

/// The start and end of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) issued: Instant,
    pub(super) completed: Instant,
}

/// The models of all clients of a round.
#[derive(Debug)]
pub(super) struct Models {
    clients: Vec<Model>,
    /// A logical clock, which orders the ends of writes and the starts of lists.
    ticks: AtomicU64,
    pub(super) may_evict: bool,
    prefill: Option<Prefill>,
}

impl Models {
    pub(super) fn new(clients: usize, may_evict: bool, prefill: Option<Prefill>) -> Self {
        let clients = (0..clients).map(|_| Model::default()).collect();
        Self { clients, ticks: AtomicU64::new(1), may_evict, prefill }
    }

    /// Returns the next tick of the logical clock.
    pub(super) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn slots(&self, client: usize) -> Option<MutexGuard<'_, HashMap<Key, Slot>>> {
        self.clients.get(client).map(|model| model.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the state of a key.
    pub(super) fn slot(&self, client: usize, key: &Key) -> Slot {
        self.slots(client).and_then(|slots| slots.get(key).cloned()).unwrap_or_default()
    }

    /// Marks the start of a write.
    pub(super) fn begin(&self, client: usize, key: &Key) {
        if let Some(mut slots) = self.slots(client) {
            match slots.get_mut(key) {
                Some(slot) => slot.is_in_flight = true,
                None => drop(slots.insert(key.clone(), Slot { is_in_flight: true, ..Slot::default() })),
            }
        }
    }

    /// Marks the end of a write. `change` applies the effect of the write.
    pub(super) fn end(&self, client: usize, key: &Key, change: impl FnOnce(&mut Slot)) {
        let ended_at = self.tick();
        if let Some(mut slots) = self.slots(client)
            && let Some(slot) = slots.get_mut(key)
        {
            change(slot);
            slot.is_in_flight = false;
            slot.ended_at = ended_at;
        }
    }

    /// Returns every key that a client wrote.
    pub(super) fn keys(&self, client: usize) -> Vec<Key> {
        self.slots(client).map(|slots| slots.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Checks the result of reading a key.
    pub(super) fn check(&self, slot: &Slot, found: Option<&Entry>, span: Span) -> Verdict {
        let wrong = |expected: &str, found: &str| Verdict::Wrong(format!("expected {expected}, got {found}"));
        match (&slot.entry, found) {
            _ if slot.is_unknown => Verdict::Right,
            (None, None) => Verdict::Right,
            (None, Some(entry)) => wrong("no entry", &describe(&entry.value)),
            (Some(expected), None) if self.may_evict || expected.may_have_expired(span.completed) => {
                Verdict::MaybeExpired
            }
            (Some(expected), None) => wrong(&describe(&expected.value), "no entry"),
            (Some(expected), Some(entry)) if expected.must_have_expired(span.issued) => {
                wrong("no entry after the deadline", &describe(&entry.value))
            }
            (Some(expected), Some(entry)) if expected.value != entry.value => {
                wrong(&describe(&expected.value), &describe(&entry.value))
            }
            (Some(expected), Some(entry)) => match (expected.expires, entry.expires) {
                (None, Expires::At(_)) => wrong("an entry without a deadline", "one with a deadline"),
                (Some(_), Expires::Never) => wrong("an entry with a deadline", "one without"),
                _ => Verdict::Right,
            },
        }
    }

    /// Checks a list that began at the tick `since`. The documentation of the module `replay` describes the checks.
    pub(super) fn check_list(&self, prefix: &KeyPrefix, items: &[ListItem], since: u64, span: Span) -> Vec<String> {
        let mut problems = Vec::new();
        for pair in items.windows(2) {
            if let [one, next] = pair
                && one.key >= next.key
            {
                problems.push(format!("{} is listed after {}", next.key, one.key));
            }
        }
        let mut unmatched: HashMap<&Key, &ListItem> = items.iter().map(|item| (&item.key, item)).collect();
        for client in 0..self.clients.len() {
            let Some(slots) = self.slots(client) else { continue };
            for (key, slot) in slots.iter().filter(|(key, _)| prefix.covers(key)) {
                let found = unmatched.remove(key).and_then(|item| item.entry.as_ref());
                let is_stable = !slot.is_in_flight && slot.ended_at < since;
                if is_stable && let Verdict::Wrong(problem) = self.check(slot, found, span) {
                    problems.push(format!("{key}: {problem}"));
                }
            }
        }
        let mut prefilled = 0;
        for item in unmatched.into_values() {
            match self.prefill.and_then(|prefill| prefill.value_of(&item.key)) {
                Some(value) if item.entry.as_ref().is_some_and(|entry| entry.value == value) => prefilled += 1,
                Some(_) => problems.push(format!("{}: differs from its prefilled entry", item.key)),
                None => problems.push(format!("{}: was never written, or does not have the prefix", item.key)),
            }
        }
        let expected = self.prefill.map_or(0, |prefill| prefill.count_under(prefix));
        if prefilled != expected && !self.may_evict {
            problems.push(format!("listed {prefilled} prefilled entries instead of {expected}"));
        }
        problems
    }
}

/// Describes a value by its length and its first bytes.
fn describe(value: &[u8]) -> String {
    let start = String::from_utf8_lossy(value.get(..60).unwrap_or(value));
    format!("{} bytes `{start}{}`", value.len(), if value.len() > 60 { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(["k", name]).unwrap()
    }

    fn item(name: &str, value: &'static str) -> ListItem {
        ListItem { key: key(name), entry: Some(Entry::new(value)) }
    }

    fn set(models: &Models, client: usize, name: &str, value: &'static str) {
        models.begin(client, &key(name));
        let now = Instant::now();
        models.end(client, &key(name), |slot| slot.entry = Some(ExpectedEntry::new(value.into(), None, now, now)));
    }

    fn problems(models: &Models, since: u64, items: &[ListItem]) -> usize {
        let span = Span { issued: Instant::now(), completed: Instant::now() };
        models.check_list(&KeyPrefix::new(["k"]).unwrap(), items, since, span).len()
    }

    #[test]
    fn a_list_is_checked_for_every_key_without_a_concurrent_write() {
        let models = Models::new(2, false, None);
        set(&models, 0, "a", "1");
        set(&models, 1, "b", "2");
        let since = models.tick();
        assert_eq!(problems(&models, since, &[item("a", "1"), item("b", "2")]), 0);
        assert_eq!(problems(&models, since, &[item("a", "1")]), 1, "one is missing");
        assert_eq!(problems(&models, since, &[item("a", "1"), item("b", "x")]), 1, "one has another value");
        assert_eq!(problems(&models, since, &[item("b", "2"), item("a", "1")]), 1, "out of order");
        assert_eq!(problems(&models, since, &[item("a", "1"), item("b", "2"), item("c", "3")]), 1, "never written");
        assert_eq!(problems(&models, since, &[item("a", "1"), item("a", "1"), item("b", "2")]), 1, "twice");
    }

    #[test]
    fn a_concurrently_written_key_may_be_listed_or_not() {
        let models = Models::new(1, false, None);
        let since = models.tick();
        set(&models, 0, "a", "1");
        models.begin(0, &key("b"));
        assert_eq!(problems(&models, since, &[]), 0);
        assert_eq!(problems(&models, since, &[item("a", "old"), item("b", "2")]), 0);
        assert_eq!(problems(&models, models.tick(), &[item("b", "2")]), 1, "a was written before this list");
    }

    #[test]
    fn absence_is_accepted_only_near_the_deadline() {
        let models = Models::new(1, false, None);
        let start = Instant::now();
        let expected = ExpectedEntry::new("v".into(), Some(Duration::from_secs(10)), start, start);
        let slot = Slot { entry: Some(expected), ..Slot::default() };
        let span_at = |seconds: u64| {
            let moment = start + Duration::from_secs(seconds);
            Span { issued: moment, completed: moment }
        };
        let entry = Entry::new("v").with_expires(Expires::Unknown);
        assert!(matches!(models.check(&slot, None, span_at(8)), Verdict::Wrong(_)));
        assert_eq!(models.check(&slot, None, span_at(10)), Verdict::MaybeExpired);
        assert_eq!(models.check(&slot, Some(&entry), span_at(10)), Verdict::Right);
        assert!(matches!(models.check(&slot, Some(&entry), span_at(12)), Verdict::Wrong(_)));
    }
}
