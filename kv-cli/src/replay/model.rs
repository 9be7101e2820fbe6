//! What every key must hold, as the clients' own operations make it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anykv::{Bytes, Entry, Expires, Key, KeyPrefix, ListItem};
use tokio::time::Instant;

use super::prefill::Prefill;

/// The keys of one client. The others look into it only when they check a list.
#[derive(Debug, Default)]
pub(super) struct Model {
    slots: Mutex<HashMap<Key, Slot>>,
}

/// One key.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// What was acknowledged last.
    pub(super) state: Option<Stored>,
    /// Since when, in ticks.
    acknowledged: u64,
    /// Whether a write has begun and not ended.
    is_in_flight: bool,
    /// Whether a write may still be applied, at any time, so that nothing is known for good.
    pub(super) is_unknown: bool,
}

/// A live entry.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) value: Bytes,
    /// When it expires, between two moments: its write was issued before the deadline's clock started, and acknowledged
    /// after.
    pub(super) expires: Option<(Instant, Instant)>,
}

/// What an answer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// Absent although an entry was there, and may be: it has expired or was evicted.
    Gone,
    Wrong(String),
}

impl Stored {
    /// How far the clocks of two machines may drift apart in a run.
    const MARGIN: Duration = Duration::from_secs(1);

    pub(super) fn new(value: Bytes, ttl: Option<Duration>, issued: Instant, acknowledged: Instant) -> Self {
        let expires = ttl.and_then(|ttl| {
            let earliest = issued.checked_add(ttl)?;
            Some((earliest.checked_sub(Self::MARGIN).unwrap_or(issued), acknowledged.checked_add(ttl + Self::MARGIN)?))
        });
        Self { value, expires }
    }

    /// Whether it may have expired at `now`.
    pub(super) fn may_be_gone(&self, now: Instant) -> bool {
        self.expires.is_some_and(|(earliest, _)| now >= earliest)
    }

    /// Whether it must have expired at `now`.
    fn must_be_gone(&self, now: Instant) -> bool {
        self.expires.is_some_and(|(_, latest)| now >= latest)
    }
}

/// When an operation ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) issued: Instant,
    pub(super) answered: Instant,
}

/// The models of all clients of a round.
#[derive(Debug)]
pub(super) struct Models {
    clients: Vec<Model>,
    ticks: AtomicU64,
    pub(super) may_evict: bool,
    prefill: Option<Prefill>,
}

impl Models {
    pub(super) fn new(clients: usize, may_evict: bool, prefill: Option<Prefill>) -> Self {
        let clients = (0..clients).map(|_| Model::default()).collect();
        Self { clients, ticks: AtomicU64::new(1), may_evict, prefill }
    }

    pub(super) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn slots(&self, client: usize) -> Option<MutexGuard<'_, HashMap<Key, Slot>>> {
        self.clients.get(client).map(|model| model.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of a key.
    pub(super) fn slot(&self, client: usize, key: &Key) -> Slot {
        self.slots(client).and_then(|slots| slots.get(key).cloned()).unwrap_or_default()
    }

    /// A write of the key is about to be issued.
    pub(super) fn begin(&self, client: usize, key: &Key) {
        if let Some(mut slots) = self.slots(client) {
            match slots.get_mut(key) {
                Some(slot) => slot.is_in_flight = true,
                None => drop(slots.insert(key.clone(), Slot { is_in_flight: true, ..Slot::default() })),
            }
        }
    }

    /// A write of the key has ended, and `change` tells what it left.
    pub(super) fn end(&self, client: usize, key: &Key, change: impl FnOnce(&mut Slot)) {
        let acknowledged = self.tick();
        if let Some(mut slots) = self.slots(client)
            && let Some(slot) = slots.get_mut(key)
        {
            change(slot);
            slot.is_in_flight = false;
            slot.acknowledged = acknowledged;
        }
    }

    /// Every key that was written.
    pub(super) fn keys(&self, client: usize) -> Vec<Key> {
        self.slots(client).map(|slots| slots.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Judges what was read under a key.
    pub(super) fn judge(&self, slot: &Slot, found: Option<&Entry>, span: Span) -> Verdict {
        let wrong = |expected: &str, found: &str| Verdict::Wrong(format!("expected {expected}, answered {found}"));
        match (&slot.state, found) {
            _ if slot.is_unknown => Verdict::Right,
            (None, None) => Verdict::Right,
            (None, Some(entry)) => wrong("nothing", &shown(&entry.value)),
            (Some(stored), None) if self.may_evict || stored.may_be_gone(span.answered) => Verdict::Gone,
            (Some(stored), None) => wrong(&shown(&stored.value), "nothing"),
            (Some(stored), Some(entry)) if stored.must_be_gone(span.issued) => {
                wrong("nothing, for its deadline has passed", &shown(&entry.value))
            }
            (Some(stored), Some(entry)) if stored.value != entry.value => {
                wrong(&shown(&stored.value), &shown(&entry.value))
            }
            (Some(stored), Some(entry)) => match (stored.expires, entry.expires) {
                (None, Expires::At(_)) => wrong("an entry without deadline", "one with a deadline"),
                (Some(_), Expires::Never) => wrong("an entry with a deadline", "one without"),
                _ => Verdict::Right,
            },
        }
    }

    /// Judges a list that began at the tick `since`, as `replay` describes it.
    pub(super) fn judge_list(&self, prefix: &KeyPrefix, items: &[ListItem], since: u64, span: Span) -> Vec<String> {
        let mut problems = Vec::new();
        for pair in items.windows(2) {
            if let [one, next] = pair
                && one.key >= next.key
            {
                problems.push(format!("{} stands behind {}", next.key, one.key));
            }
        }
        let mut rest: HashMap<&Key, &ListItem> = items.iter().map(|item| (&item.key, item)).collect();
        for client in 0..self.clients.len() {
            let Some(slots) = self.slots(client) else { continue };
            for (key, slot) in slots.iter().filter(|(key, _)| prefix.covers(key)) {
                let found = rest.remove(key).and_then(|item| item.entry.as_ref());
                let is_still = !slot.is_in_flight && slot.acknowledged < since;
                if is_still && let Verdict::Wrong(problem) = self.judge(slot, found, span) {
                    problems.push(format!("{key}: {problem}"));
                }
            }
        }
        let mut prefilled = 0;
        for item in rest.into_values() {
            match self.prefill.and_then(|prefill| prefill.value_of(&item.key)) {
                Some(value) if item.entry.as_ref().is_some_and(|entry| entry.value == value) => prefilled += 1,
                Some(_) => problems.push(format!("{}: not as it was prefilled", item.key)),
                None => problems.push(format!("{}: was never written, or is not under the prefix", item.key)),
            }
        }
        let expected = self.prefill.map_or(0, |prefill| prefill.count_under(prefix));
        if prefilled != expected && !self.may_evict {
            problems.push(format!("{prefilled} prefilled entries instead of {expected}"));
        }
        problems
    }
}

/// The start of a value, for a message.
fn shown(value: &[u8]) -> String {
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
        models.end(client, &key(name), |slot| slot.state = Some(Stored::new(value.into(), None, now, now)));
    }

    fn problems(models: &Models, since: u64, items: &[ListItem]) -> usize {
        let span = Span { issued: Instant::now(), answered: Instant::now() };
        models.judge_list(&KeyPrefix::new(["k"]).unwrap(), items, since, span).len()
    }

    #[test]
    fn a_list_is_checked_for_every_key_that_nobody_wrote_meanwhile() {
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
    fn a_key_that_is_written_meanwhile_may_be_there_or_not() {
        let models = Models::new(1, false, None);
        let since = models.tick();
        set(&models, 0, "a", "1");
        models.begin(0, &key("b"));
        assert_eq!(problems(&models, since, &[]), 0);
        assert_eq!(problems(&models, since, &[item("a", "old"), item("b", "2")]), 0);
        assert_eq!(problems(&models, models.tick(), &[item("b", "2")]), 1, "a was written before this list");
    }

    #[test]
    fn absence_is_right_near_the_deadline_only() {
        let models = Models::new(1, false, None);
        let start = Instant::now();
        let stored = Stored::new("v".into(), Some(Duration::from_secs(10)), start, start);
        let slot = Slot { state: Some(stored), ..Slot::default() };
        let at = |seconds: u64| {
            let moment = start + Duration::from_secs(seconds);
            Span { issued: moment, answered: moment }
        };
        let entry = Entry::new("v").with_expires(Expires::Unknown);
        assert!(matches!(models.judge(&slot, None, at(8)), Verdict::Wrong(_)));
        assert_eq!(models.judge(&slot, None, at(10)), Verdict::Gone);
        assert_eq!(models.judge(&slot, Some(&entry), at(10)), Verdict::Right);
        assert!(matches!(models.judge(&slot, Some(&entry), at(12)), Verdict::Wrong(_)));
    }
}
