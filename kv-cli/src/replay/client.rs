//! One client: issues its operations in order and judges every answer.
//!
//! Latencies are taken from the monotonic clock, which nobody sets; a deadline is judged with a margin.

use std::sync::Arc;
use std::time::Duration;

use anykv::{
    Bytes, DeleteOptions, DeleteOutcome, Error, Expiry, Key, KeyPrefix, KvStore, ListItem, ListQuery, Result,
    SetOptions, When,
};
use tokio::time::Instant;

use super::model::{Models, Slot, Span, Stored, Verdict};
use super::tally::{self, Kind, Tally};
use super::workload::{Operation, Step, Workload};
use crate::pages::Pages;
use crate::progress::Progress;

pub(super) struct Client {
    pub(super) store: Arc<dyn KvStore>,
    pub(super) models: Arc<Models>,
    /// Which of the models is its own.
    pub(super) index: usize,
    pub(super) tally: Tally,
}

impl Client {
    /// How many operations lie between two steps of the progress.
    const OPERATIONS_A_STEP: usize = 64;

    /// Runs the operations at these places of the workload.
    pub(super) async fn run(mut self, workload: Arc<Workload>, places: Vec<usize>, progress: Progress) -> Tally {
        for step in places.chunks(Self::OPERATIONS_A_STEP) {
            for operation in step.iter().filter_map(|&place| workload.operations.get(place)) {
                self.issue(operation).await;
            }
            progress.advance(step.len());
            // A store in memory never waits: the other clients, and an interrupt, have their turn here.
            tokio::task::yield_now().await;
        }
        self.tally
    }

    async fn issue(&mut self, Operation { line, step }: &Operation) {
        match step {
            Step::Get { key } => self.get(*line, key).await,
            Step::Set { key, value, ttl } => self.set(*line, key, value, *ttl).await,
            Step::Delete { key } => self.delete(*line, key).await,
            Step::Cas { key, expected, value, ttl } => {
                self.cas(*line, key, expected.as_ref(), value.as_ref(), *ttl).await;
            }
            Step::List { prefix } => self.list(&format!("line {line}, list of `{prefix}`"), prefix).await,
        }
    }

    async fn get(&mut self, line: u64, key: &Key) {
        let slot = self.models.slot(self.index, key);
        let issued = Instant::now();
        let answer = self.store.get(key).await;
        let span = self.answered(Kind::Get, issued);
        match answer {
            Ok(found) => {
                let verdict = self.models.judge(&slot, found.as_ref(), span);
                self.take(line, Kind::Get, key, &slot, verdict);
            }
            Err(error) => self.tally.error(&tally::place(line, Kind::Get, key), &error),
        }
    }

    async fn set(&mut self, line: u64, key: &Key, value: &Bytes, ttl: Option<Duration>) {
        let options = SetOptions::default().with_expiry(expiry(ttl));
        self.models.begin(self.index, key);
        let issued = Instant::now();
        let answer = self.store.set(key, value.clone(), &options).await;
        let span = self.answered(Kind::Set, issued);
        self.end(line, Kind::Set, key, answer.as_ref().map(|_| ()), |slot| {
            slot.state = Some(Stored::new(value.clone(), ttl, span.issued, span.answered));
        });
        if answer.is_ok_and(|outcome| !outcome.is_stored()) {
            self.tally.wrong(&tally::place(line, Kind::Set, key), "refused a write without condition");
        }
    }

    async fn delete(&mut self, line: u64, key: &Key) {
        let slot = self.models.slot(self.index, key);
        self.models.begin(self.index, key);
        let issued = Instant::now();
        let answer = self.store.delete(key, &DeleteOptions::default()).await;
        let span = self.answered(Kind::Delete, issued);
        self.end(line, Kind::Delete, key, answer.as_ref().map(|_| ()), |slot| slot.state = None);
        let was_there = slot.state.is_some();
        let may_be_gone = slot.state.is_some_and(|stored| stored.may_be_gone(span.answered)) || self.models.may_evict;
        let problem = match answer {
            Err(_) => return,
            _ if slot.is_unknown => {
                self.tally.unchecked += 1;
                return;
            }
            Ok(DeleteOutcome::Deleted { .. }) if !was_there => "deleted what was not there",
            Ok(DeleteOutcome::Missing) if was_there && !may_be_gone => "did not find the entry",
            Ok(DeleteOutcome::Refused { .. }) => "refused a delete without condition",
            Ok(_) => return,
        };
        self.tally.wrong(&tally::place(line, Kind::Delete, key), problem);
    }

    /// Compare and swap on JSON values: an absent `expected` means that the key is absent, an absent `value` deletes.
    async fn cas(
        &mut self,
        line: u64,
        key: &Key,
        expected: Option<&Bytes>,
        value: Option<&Bytes>,
        ttl: Option<Duration>,
    ) {
        let before = self.models.slot(self.index, key);
        self.models.begin(self.index, key);
        let issued = Instant::now();
        let answer = compare_and_swap(self.store.as_ref(), key, expected, value, ttl).await;
        let span = self.answered(Kind::Cas, issued);
        let holds = match (&before.state, expected) {
            (None, None) => true,
            (Some(stored), Some(expected)) => is_same_json(&stored.value, expected),
            _ => false,
        };
        let swapped = *answer.as_ref().unwrap_or(&false);
        self.end(line, Kind::Cas, key, answer.as_ref().map(|_| ()), |slot| {
            if swapped {
                slot.state = value.map(|value| Stored::new(value.clone(), ttl, span.issued, span.answered));
            } else if holds && expected.is_some() {
                // Refused although the value was the expected one: it is right only if the entry is gone.
                slot.state = None;
            }
        });
        let may_be_gone = self.models.may_evict || before.state.is_some_and(|stored| stored.may_be_gone(span.answered));
        if before.is_unknown {
            self.tally.unchecked += 1;
        } else if answer.is_ok() && swapped != holds && !may_be_gone {
            let says = |yes: bool| if yes { "yes" } else { "no" };
            let problem = format!("expected {}, answered {}", says(holds), says(swapped));
            self.tally.wrong(&tally::place(line, Kind::Cas, key), &problem);
        }
    }

    /// Lists everything under the prefix and judges it.
    pub(super) async fn list(&mut self, place: &str, prefix: &KeyPrefix) {
        let since = self.models.tick();
        let issued = Instant::now();
        let answer = list_all(&self.store, prefix).await;
        let span = self.answered(Kind::List, issued);
        match answer {
            Ok(items) => {
                let problems = self.models.judge_list(prefix, &items, since, span);
                for problem in problems {
                    self.tally.wrong(place, &problem);
                }
            }
            Err(error) => self.tally.error(place, &error),
        }
    }

    /// Reads every key of its model again.
    pub(super) async fn verify(&mut self) {
        let keys = self.models.keys(self.index);
        for keys in keys.chunks(256) {
            let issued = Instant::now();
            let answers = self.store.get_many(keys).await;
            let span = Span { issued, answered: Instant::now() };
            for (key, answer) in keys.iter().zip(answers) {
                let slot = self.models.slot(self.index, key);
                match answer {
                    Ok(found) => match self.models.judge(&slot, found.as_ref(), span) {
                        Verdict::Wrong(problem) => self.tally.wrong(&format!("at the end, `{key}`"), &problem),
                        Verdict::Right | Verdict::Gone => {}
                    },
                    Err(error) => self.tally.error(&format!("at the end, `{key}`"), &error),
                }
            }
        }
    }

    fn answered(&mut self, kind: Kind, issued: Instant) -> Span {
        let answered = Instant::now();
        self.tally.record(kind, answered.duration_since(issued));
        Span { issued, answered }
    }

    /// Takes the verdict on a read into tally and model.
    fn take(&mut self, line: u64, kind: Kind, key: &Key, slot: &Slot, verdict: Verdict) {
        self.tally.unchecked += u64::from(slot.is_unknown);
        match verdict {
            Verdict::Right => {}
            Verdict::Gone => self.models.end(self.index, key, |slot| slot.state = None),
            Verdict::Wrong(problem) => self.tally.wrong(&tally::place(line, kind, key), &problem),
        }
    }

    /// Ends a write: `change` where it was answered, nothing where it did not happen.
    fn end(&mut self, line: u64, kind: Kind, key: &Key, answer: Result<(), &Error>, change: impl FnOnce(&mut Slot)) {
        self.models.end(self.index, key, |slot| match answer {
            Ok(()) => change(slot),
            Err(error) => slot.is_unknown |= error.maybe_applied(),
        });
        if let Err(error) = answer {
            self.tally.error(&tally::place(line, kind, key), error);
        }
    }
}

fn expiry(ttl: Option<Duration>) -> Expiry {
    ttl.map_or(Expiry::Never, Expiry::After)
}

async fn compare_and_swap(
    store: &dyn KvStore,
    key: &Key,
    expected: Option<&Bytes>,
    value: Option<&Bytes>,
    ttl: Option<Duration>,
) -> Result<bool> {
    let when = match expected {
        None => When::Absent,
        Some(expected) => match store.get(key).await? {
            Some(entry) if is_same_json(&entry.value, expected) => match entry.version {
                Some(version) => When::Version(version),
                None => When::Value(entry.value),
            },
            _ => return Ok(false),
        },
    };
    if let Some(value) = value {
        let options = SetOptions::default().with_expiry(expiry(ttl)).with_when(when);
        return Ok(store.set(key, value.clone(), &options).await?.is_stored());
    }
    let outcome = store.delete(key, &DeleteOptions::default().with_when(when)).await?;
    Ok(!matches!(outcome, DeleteOutcome::Refused { .. }))
}

async fn list_all(store: &Arc<dyn KvStore>, prefix: &KeyPrefix) -> Result<Vec<ListItem>> {
    let mut pages = Pages::new(Arc::clone(store), ListQuery::new(prefix.clone()));
    let mut items = Vec::new();
    while let Some(page) = pages.next().await? {
        items.extend(page);
    }
    Ok(items)
}

/// Whether two JSON texts stand for the same value.
fn is_same_json(one: &[u8], other: &[u8]) -> bool {
    let decode = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
    one == other || decode(one).is_some_and(|value| decode(other) == Some(value))
}
