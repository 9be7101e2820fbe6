//! The reports that a watch must send, and the reports that it may send (clauses W-1 to W-3).

use std::collections::BTreeMap;

use kv_core::GapReason;

use super::answer::{Event, SeenEntry};
use super::memory::Memory;
use super::step::{KeyIndex, Watching};

/// A change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// One or more writes of the key that became visible together.
    Written { is_owed: bool, count: usize },
    /// The entry expired. The report may come at any later time.
    Expired,
}

impl Change {
    /// A write that must be reported.
    pub(super) const MUST: Self = Self::Written { is_owed: true, count: 1 };
    /// A write that may be reported.
    pub(super) const MAY: Self = Self::Written { is_owed: false, count: 1 };
}

/// The reports that a watch may send next, and the versions that the script has seen.
type Judged = (Reports, Memory<u64>);

/// A report of a key.
#[derive(Debug, Clone, Copy)]
enum Report<'e> {
    /// The entry, unless the watch asked for keys only.
    Set(Option<&'e SeenEntry>),
    Removed,
}

/// The event that a watch must send for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    Report,
    /// A report, or the gap that a later removal of everything under a prefix allows.
    ReportOrGap,
}

/// The reports of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reports {
    watching: Watching,
    keys: BTreeMap<KeyIndex, KeyReports>,
    /// True if several handles make the calls, so that the reports of their changes may arrive at any later time.
    has_other_handles: bool,
    owes_snapshot_end: bool,
    /// The number of gaps that removals of everything under a prefix allow, since the last call of `settle`.
    gaps: usize,
    /// The number of such gaps that removals between the last two calls of `settle` allow.
    gaps_before: usize,
}

/// The reports of one key.
///
/// A store may combine the reports of several changes into one report with a later state, and may report a change with
/// the state that it reads later. So each change allows one report, of its own state or of a later state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyReports {
    /// The states of the key, from the state that was reported last to the current state. If several states fit the
    /// last report, the first of them counts as reported.
    states: Vec<Option<SeenEntry<u64>>>,
    /// The event that the watch must send for the last change or a later state of the key.
    owed: Owed,
    /// True if a report has shown the current state since the last change.
    is_shown: bool,
    /// True if the last change was that the entry expired.
    has_expired: bool,
    /// The number of reports that changes since the last call of `settle` allow.
    allowed: usize,
    /// The number of reports that changes between the last two calls of `settle` allow.
    allowed_before: usize,
    /// The number of reports that expired entries allow.
    allowed_expired: usize,
    /// The number of reports that earlier changes allow if there are other handles. They may arrive at any later time.
    allowed_late: usize,
}

impl Reports {
    /// The reports of a new watch. Each key has its entry, and the number of its changes so far.
    pub(super) fn new(
        watching: Watching,
        entries: Vec<(KeyIndex, Option<SeenEntry<u64>>, usize)>,
        has_other_handles: bool,
    ) -> Self {
        let keys = entries.into_iter().map(|(key, entry, changes)| {
            let is_owed = watching.snapshot && entry.is_some();
            // One report is for a change from before the watch, which may still arrive, and one is for the snapshot.
            let allowed = 1 + usize::from(watching.snapshot);
            let reports = KeyReports {
                states: vec![entry],
                owed: if is_owed { Owed::Report } else { Owed::Nothing },
                is_shown: false,
                has_expired: false,
                allowed,
                allowed_before: 0,
                allowed_expired: 0,
                allowed_late: if has_other_handles { changes } else { 0 },
            };
            (key, reports)
        });
        let (keys, owes_snapshot_end) = (keys.collect(), watching.snapshot);
        Self { watching, keys, has_other_handles, owes_snapshot_end, gaps: 0, gaps_before: 0 }
    }

    /// Notes a change of the key to this entry.
    pub(super) fn note(&mut self, key: KeyIndex, entry: Option<&SeenEntry<u64>>, change: Change) {
        let Some(reports) = self.keys.get_mut(&key) else { return };
        reports.states.push(entry.cloned());
        reports.is_shown = false;
        reports.has_expired = change == Change::Expired;
        match change {
            Change::Written { is_owed, count } => {
                reports.owed = if is_owed { Owed::Report } else { reports.owed };
                reports.allowed += count;
            }
            Change::Expired => {
                // No report is required: a snapshot that is read from now on does not contain the expired entry.
                reports.owed = Owed::Nothing;
            }
        }
    }

    /// Notes that the store holds an expired entry of the key. The store may report the removal of this entry at any
    /// later time.
    pub(super) fn may_expire(&mut self, key: KeyIndex) {
        if let Some(reports) = self.keys.get_mut(&key) {
            reports.allowed_expired += 1;
        }
    }

    /// Notes that the expired entry of the key was swept. The removal of this entry must be reported.
    pub(super) fn owe_expiry(&mut self, key: KeyIndex) {
        if let Some(reports) = self.keys.get_mut(&key).filter(|reports| reports.has_expired) {
            reports.owed = if reports.is_shown { Owed::Nothing } else { Owed::Report };
        }
    }

    /// Notes that everything under a prefix was removed at once. A store may report this removal, and all changes before
    /// it, as a gap.
    pub(super) fn may_be_flushed(&mut self) {
        self.gaps += 1;
        for reports in self.keys.values_mut().filter(|reports| reports.owed == Owed::Report) {
            reports.owed = Owed::ReportOrGap;
        }
    }

    /// Notes that the watch has sent the reports of all changes so far. More reports of these changes are allowed only
    /// until the next call, or at any later time if there are other handles.
    pub(super) fn settle(&mut self) {
        for reports in self.keys.values_mut() {
            let unused = std::mem::replace(&mut reports.allowed_before, std::mem::take(&mut reports.allowed));
            reports.allowed_late += if self.has_other_handles { unused } else { 0 };
        }
        let unused = std::mem::replace(&mut self.gaps_before, std::mem::take(&mut self.gaps));
        self.gaps_before += if self.has_other_handles { unused } else { 0 };
    }

    /// The missing event, or `None` if the watch has reported all changes.
    pub(super) fn missing(&self) -> Option<String> {
        if let Some((key, reports)) = self.keys.iter().find(|(_, reports)| reports.owed != Owed::Nothing) {
            let state = reports.states.last().cloned().flatten();
            return Some(format!("an event of {:?} with the current entry, which is {state:?}", key.segments()));
        }
        self.owes_snapshot_end.then(|| "the end of the snapshot".to_owned())
    }

    /// Judges an event. Returns the reports and the seen versions after each explanation of the event. If nothing
    /// explains the event, returns the events that the contract allows instead.
    pub(super) fn judge(&self, event: &Event, memory: &Memory<u64>) -> Result<Vec<Judged>, String> {
        let mut after = self.clone();
        match event {
            Event::Set(Some(key), entry) => return self.judge_report(*key, Report::Set(entry.as_ref()), memory),
            Event::Removed(Some(key)) => return self.judge_report(*key, Report::Removed, memory),
            Event::SnapshotEnd if self.owes_snapshot_end => after.owes_snapshot_end = false,
            Event::Gap(GapReason::Flushed) if self.gaps_before + self.gaps > 0 => {
                let gaps = if self.gaps_before > 0 { &mut after.gaps_before } else { &mut after.gaps };
                *gaps -= 1;
                for reports in after.keys.values_mut().filter(|reports| reports.owed == Owed::ReportOrGap) {
                    reports.owed = Owed::Nothing;
                }
            }
            Event::SnapshotEnd => return Err("no end of a snapshot: it has ended, or none was asked for".to_owned()),
            Event::Gap(_) => return Err("no gap, since nothing was lost".to_owned()),
            Event::Set(None, _) | Event::Removed(None) => return Err("no event of another key".to_owned()),
            Event::Other(_) => return Err("a set, a removal, the end of a snapshot, or a gap".to_owned()),
        }
        Ok(vec![(after, memory.clone())])
    }

    /// Judges a report of the key.
    fn judge_report(&self, key: KeyIndex, reported: Report<'_>, memory: &Memory<u64>) -> Result<Vec<Judged>, String> {
        let Some(reports) = self.keys.get(&key) else {
            return Err(format!("no event of {:?}, which is not watched", key.segments()));
        };
        let mut explanations: Vec<Judged> = Vec::new();
        let mut versions = Vec::new();
        for (at, state) in reports.states.iter().enumerate() {
            let mut memory = memory.clone();
            let version = state.as_ref().and_then(|state| state.version);
            // If several states look the same, the earliest of them allows the most later events.
            if !self.shows(state.as_ref(), reported, &mut memory) || versions.contains(&version) {
                continue;
            }
            versions.push(version);
            let mut after = self.clone();
            let shows_current = reports
                .states
                .last()
                .is_some_and(|current| self.shows(current.as_ref(), reported, &mut memory.clone()));
            if after.keys.get_mut(&key).is_some_and(|reports| reports.consume(at, shows_current)) {
                explanations.push((after, memory));
            }
            if self.watching.keys_only {
                break;
            }
        }
        match (explanations.is_empty(), versions.is_empty()) {
            (false, _) => Ok(explanations),
            (true, true) => Err(format!("a state of {:?} since its last event: {:?}", key.segments(), reports.states)),
            (true, false) => {
                Err(format!("no event of {:?}, which did not change since its last event", key.segments()))
            }
        }
    }

    /// True if the report shows this state.
    fn shows(&self, state: Option<&SeenEntry<u64>>, reported: Report<'_>, memory: &mut Memory<u64>) -> bool {
        match (state, reported) {
            (None, Report::Removed) => true,
            (Some(_), Report::Set(None)) => self.watching.keys_only,
            (Some(state), Report::Set(Some(entry))) if !self.watching.keys_only => {
                let is_same_version = match (state.version, entry.version) {
                    (None, None) => true,
                    (Some(version), Some(number)) => memory.has_number(version, number),
                    _ => false,
                };
                is_same_version && state.value == entry.value && state.deadline == entry.deadline
            }
            _ => false,
        }
    }
}

impl KeyReports {
    /// Counts one report of the state with this index against the allowed reports. Returns false if no report is
    /// allowed.
    fn consume(&mut self, at: usize, shows_current: bool) -> bool {
        let sources = [&mut self.allowed_before, &mut self.allowed, &mut self.allowed_expired, &mut self.allowed_late];
        let Some(allowed) = sources.into_iter().find(|allowed| **allowed > 0) else { return false };
        *allowed -= 1;
        self.states.drain(..at);
        if shows_current {
            (self.owed, self.is_shown) = (Owed::Nothing, true);
        }
        true
    }
}
