//! The running and finished operations of a case, for the texts of timeouts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The operations of a case. Clones share one record.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<Record>>);

#[derive(Debug)]
struct Record {
    next_id: u64,
    running: BTreeMap<u64, (&'static str, Instant)>,
    /// The number of finished calls of each operation, and their total time.
    finished: BTreeMap<&'static str, (u64, Duration)>,
    last_end: Instant,
}

/// An operation that runs until this value is dropped.
#[must_use]
pub(crate) struct Running {
    activity: Activity,
    id: u64,
}

impl Activity {
    /// The maximum number of operations in a text.
    const MAX_SHOWN: usize = 3;
    /// The total time of an operation's calls from which on the text has a hint.
    const SLOW: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Self {
        let record =
            Record { next_id: 0, running: BTreeMap::new(), finished: BTreeMap::new(), last_end: Instant::now() };
        Self(Arc::new(Mutex::new(record)))
    }

    /// Notes that an operation begins.
    pub(crate) fn begin(&self, operation: &'static str) -> Running {
        let mut record = self.lock();
        let id = record.next_id;
        record.next_id += 1;
        record.running.insert(id, (operation, Instant::now()));
        Running { activity: self.clone(), id }
    }

    /// The time since the last operation ended. Zero while an operation runs.
    pub(crate) fn quiet_for(&self) -> Duration {
        let record = self.lock();
        if record.running.is_empty() { record.last_end.elapsed() } else { Duration::ZERO }
    }

    /// The running operations, and the operations that took the most time, as the end of a failure text.
    pub(crate) fn summary(&self) -> String {
        let record = self.lock();
        let running = record.running.values().take(Self::MAX_SHOWN);
        let running: Vec<_> =
            running.map(|(operation, since)| format!("`{operation}` for {:.1?}", since.elapsed())).collect();
        let mut totals: Vec<_> = record.finished.iter().collect();
        totals.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
        let totals = totals.into_iter().take(Self::MAX_SHOWN);
        let totals: Vec<_> =
            totals.map(|(operation, (calls, time))| format!("{calls} `{operation}` in {time:.1?}")).collect();
        // The empty part puts a separator in front of the others.
        let mut parts = vec![String::new()];
        if !running.is_empty() {
            parts.push(format!("still running: {}", running.join(", ")));
        }
        if !totals.is_empty() {
            parts.push(format!("finished: {}", totals.join(", ")));
        }
        let is_slow = |operation| record.finished.get(operation).is_some_and(|(_, time)| *time > Self::SLOW);
        if is_slow("set_many") || record.running.values().any(|(operation, _)| *operation == "set_many") {
            parts.push("a store that flushes each write should override `set_many`".to_owned());
        }
        parts.join("; ")
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut record = self.activity.lock();
        record.last_end = Instant::now();
        if let Some((operation, since)) = record.running.remove(&self.id) {
            let (calls, time) = record.finished.entry(operation).or_default();
            *calls += 1;
            *time += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_summary_names_the_running_and_the_slowest_operations() {
        let activity = Activity::new();
        let get = activity.begin("get");
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(get);
        let _set_many = activity.begin("set_many");
        tokio::time::advance(Duration::from_secs(20)).await;
        let text = activity.summary();
        assert!(
            text.starts_with("; still running: `set_many` for 20.0s; finished: 1 `get` in 1.0s; a store"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_time_counts_from_the_end_of_the_last_operation() {
        let activity = Activity::new();
        let set = activity.begin("set");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(activity.quiet_for(), Duration::ZERO);
        drop(set);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(activity.quiet_for(), Duration::from_secs(3));
    }
}
