//! A client of a replay: issues its operations in order and checks every result.
//!
//! The client measures with the monotonic clock, and checks deadlines with a margin.

use std::sync::Arc;
use std::time::Duration;

use anykv::{
    Bytes, DeleteOptions, DeleteOutcome, Error, Expiry, Key, KeyPrefix, KvStore, ListItem, ListQuery, Result,
    SetOptions, When,
};
use tokio::time::Instant;

use super::model::{ExpectedEntry, Models, Slot, Span, Verdict};
use super::stats::{self, Kind, Stats};
use super::workload::{Operation, Step, Workload};
use crate::pager::Pager;
use crate::progress::Progress;

pub(super) struct Client {
    pub(super) store: Arc<dyn KvStore>,
    pub(super) models: Arc<Models>,
    /// The index of this client's model.
    pub(super) index: usize,
    pub(super) stats: Stats,
}

impl Client {
    /// The number of operations between two updates of the progress bar.
    const PROGRESS_INTERVAL: usize = 64;

    /// Runs the operations at these indices of the workload.
    pub(super) async fn run(mut self, workload: Arc<Workload>, indices: Vec<usize>, progress: Progress) -> Stats {
        for chunk in indices.chunks(Self::PROGRESS_INTERVAL) {
            for operation in chunk.iter().filter_map(|&index| workload.operations.get(index)) {
                self.issue(operation).await;
            }
            progress.advance(chunk.len());
            // A call on a memory store never waits. Yield to the other clients and to an interrupt.
            tokio::task::yield_now().await;
        }
        self.stats
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
        let result = self.store.get(key).await;
        let span = self.record(Kind::Get, issued);
        match result {
            Ok(found) => {
                let verdict = self.models.check(&slot, found.as_ref(), span);
                self.apply(line, Kind::Get, key, &slot, verdict);
            }
            Err(error) => self.stats.error(&stats::context(line, Kind::Get, key), &error),
        }
    }

    async fn set(&mut self, line: u64, key: &Key, value: &Bytes, ttl: Option<Duration>) {
        let options = SetOptions::default().with_expiry(expiry(ttl));
        self.models.begin(self.index, key);
        let issued = Instant::now();
        let result = self.store.set(key, value.clone(), &options).await;
        let span = self.record(Kind::Set, issued);
        self.end(line, Kind::Set, key, result.as_ref().map(|_| ()), |slot| {
            slot.entry = Some(ExpectedEntry::new(value.clone(), ttl, span.issued, span.completed));
        });
        if result.is_ok_and(|outcome| !outcome.is_stored()) {
            self.stats.wrong(&stats::context(line, Kind::Set, key), "refused a write without a condition");
        }
    }

    async fn delete(&mut self, line: u64, key: &Key) {
        let slot = self.models.slot(self.index, key);
        self.models.begin(self.index, key);
        let issued = Instant::now();
        let result = self.store.delete(key, &DeleteOptions::default()).await;
        let span = self.record(Kind::Delete, issued);
        self.end(line, Kind::Delete, key, result.as_ref().map(|_| ()), |slot| slot.entry = None);
        let existed = slot.entry.is_some();
        let may_be_absent =
            slot.entry.is_some_and(|expected| expected.may_have_expired(span.completed)) || self.models.may_evict;
        let problem = match result {
            Err(_) => return,
            _ if slot.is_unknown => {
                self.stats.unchecked += 1;
                return;
            }
            Ok(DeleteOutcome::Deleted { .. }) if !existed => "deleted a missing entry",
            Ok(DeleteOutcome::Missing) if existed && !may_be_absent => "did not find the entry",
            Ok(DeleteOutcome::Refused { .. }) => "refused a delete without a condition",
            Ok(_) => return,
        };
        self.stats.wrong(&stats::context(line, Kind::Delete, key), problem);
    }

    /// Compares and swaps JSON values. Without `expected`, the key must be absent. Without `value`, the entry is
    /// deleted.
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
        let result = compare_and_swap(self.store.as_ref(), key, expected, value, ttl).await;
        let span = self.record(Kind::Cas, issued);
        let matches = match (&before.entry, expected) {
            (None, None) => true,
            (Some(entry), Some(expected)) => is_same_json(&entry.value, expected),
            _ => false,
        };
        let swapped = *result.as_ref().unwrap_or(&false);
        self.end(line, Kind::Cas, key, result.as_ref().map(|_| ()), |slot| {
            if swapped {
                slot.entry = value.map(|value| ExpectedEntry::new(value.clone(), ttl, span.issued, span.completed));
            } else if matches && expected.is_some() {
                // If the expected value was refused, the result is correct only if the entry has expired or was
                // evicted.
                slot.entry = None;
            }
        });
        let may_be_absent =
            self.models.may_evict || before.entry.is_some_and(|expected| expected.may_have_expired(span.completed));
        if before.is_unknown {
            self.stats.unchecked += 1;
        } else if result.is_ok() && swapped != matches && !may_be_absent {
            let name = |success: bool| if success { "success" } else { "refusal" };
            let problem = format!("expected {}, got {}", name(matches), name(swapped));
            self.stats.wrong(&stats::context(line, Kind::Cas, key), &problem);
        }
    }

    /// Lists everything under the prefix and checks the result.
    pub(super) async fn list(&mut self, context: &str, prefix: &KeyPrefix) {
        let since = self.models.tick();
        let issued = Instant::now();
        let result = list_all(&self.store, prefix).await;
        let span = self.record(Kind::List, issued);
        match result {
            Ok(items) => {
                let problems = self.models.check_list(prefix, &items, since, span);
                for problem in problems {
                    self.stats.wrong(context, &problem);
                }
            }
            Err(error) => self.stats.error(context, &error),
        }
    }

    /// Reads every key of this client's model again.
    pub(super) async fn verify(&mut self) {
        let keys = self.models.keys(self.index);
        for keys in keys.chunks(256) {
            let issued = Instant::now();
            let results = self.store.get_many(keys).await;
            let span = Span { issued, completed: Instant::now() };
            for (key, result) in keys.iter().zip(results) {
                let slot = self.models.slot(self.index, key);
                match result {
                    Ok(found) => match self.models.check(&slot, found.as_ref(), span) {
                        Verdict::Wrong(problem) => self.stats.wrong(&format!("at the end, `{key}`"), &problem),
                        Verdict::Right | Verdict::MaybeExpired => {}
                    },
                    Err(error) => self.stats.error(&format!("at the end, `{key}`"), &error),
                }
            }
        }
    }

    /// Records the latency of an operation that has just completed.
    fn record(&mut self, kind: Kind, issued: Instant) -> Span {
        let completed = Instant::now();
        self.stats.record(kind, completed.duration_since(issued));
        Span { issued, completed }
    }

    /// Applies the verdict on a read to the statistics and the model.
    fn apply(&mut self, line: u64, kind: Kind, key: &Key, slot: &Slot, verdict: Verdict) {
        self.stats.unchecked += u64::from(slot.is_unknown);
        match verdict {
            Verdict::Right => {}
            Verdict::MaybeExpired => self.models.end(self.index, key, |slot| slot.entry = None),
            Verdict::Wrong(problem) => self.stats.wrong(&stats::context(line, kind, key), &problem),
        }
    }

    /// Ends a write in the model: applies `change` if the write succeeded, and marks the key as unknown if the write
    /// failed and may have been applied.
    fn end(&mut self, line: u64, kind: Kind, key: &Key, result: Result<(), &Error>, change: impl FnOnce(&mut Slot)) {
        self.models.end(self.index, key, |slot| match result {
            Ok(()) => change(slot),
            Err(error) => slot.is_unknown |= error.maybe_applied(),
        });
        if let Err(error) = result {
            self.stats.error(&stats::context(line, kind, key), error);
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
    let mut pages = Pager::new(Arc::clone(store), ListQuery::new(prefix.clone()));
    let mut items = Vec::new();
    while let Some(page) = pages.next_page().await? {
        items.extend(page);
    }
    Ok(items)
}

/// True if two JSON texts have the same value.
fn is_same_json(one: &[u8], other: &[u8]) -> bool {
    let decode = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
    one == other || decode(one).is_some_and(|value| decode(other) == Some(value))
}
