//! The wait-for graph of all loads in this process. The graph shows loads that wait for each other.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task_local;

use crate::error::{Error, Result};

/// The identity of a running load in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LoadId(u64);

impl LoadId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

task_local! {
    /// The load that the current task runs.
    pub(super) static CURRENT: LoadId;
}

/// The targets of each waiting load. A load may wait several times for the same target, so a target can occur more than
/// once.
static WAITS: Mutex<Option<HashMap<LoadId, Vec<LoadId>>>> = Mutex::new(None);

fn graph() -> MutexGuard<'static, Option<HashMap<LoadId, Vec<LoadId>>>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An edge of the graph: one load waits for another. Dropping this value removes the edge.
#[derive(Debug)]
pub(super) struct Wait {
    edge: Option<(LoadId, LoadId)>,
}

impl Wait {
    /// Registers that the current task waits for a load. If the current task runs no load, no edge is added.
    ///
    /// # Errors
    /// `Invalid` if the target waits for the current load, directly or through other loads.
    pub(super) fn begin(target: LoadId) -> Result<Self> {
        let Ok(current) = CURRENT.try_with(|current| *current) else { return Ok(Self { edge: None }) };
        let mut graph = graph();
        let waits = graph.get_or_insert_default();
        if current == target || reaches(waits, target, current) {
            return Err(Error::invalid("a loader waits for itself: loading this key needs the value of this key"));
        }
        waits.entry(current).or_default().push(target);
        Ok(Self { edge: Some((current, target)) })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some((from, to)) = self.edge else { return };
        let mut graph = graph();
        let waits = graph.get_or_insert_default();
        if let Some(targets) = waits.get_mut(&from) {
            if let Some(position) = targets.iter().position(|target| *target == to) {
                targets.swap_remove(position);
            }
            if targets.is_empty() {
                waits.remove(&from);
            }
        }
    }
}

fn reaches(waits: &HashMap<LoadId, Vec<LoadId>>, from: LoadId, to: LoadId) -> bool {
    let (mut pending, mut seen) = (vec![from], HashSet::from([from]));
    while let Some(load) = pending.pop() {
        for next in waits.get(&load).into_iter().flatten() {
            if *next == to {
                return true;
            }
            if seen.insert(*next) {
                pending.push(*next);
            }
        }
    }
    false
}

/// The number of waits in this process.
#[cfg(test)]
pub(super) fn edges() -> usize {
    graph().iter().flatten().map(|(_, targets)| targets.len()).sum()
}
