//! The keys of one task. Only this task writes these keys, one call at a time. Therefore the states of the keys are
//! known exactly, except for the effects of unanswered calls and near a deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::operation::{Answer, Call, Change, Condition, Seen, Write};
use crate::state::{Span, Step};
use crate::track::{Track, Violation};

/// A transaction that may have happened.
#[derive(Debug, Clone)]
struct Pending {
    call: Call,
    span: Span,
}

#[derive(Debug)]
pub(crate) struct Group {
    /// The first segment of the keys.
    name: String,
    tracks: BTreeMap<String, Track>,
    pending: Option<Pending>,
}

/// An entry that was read after the kill, and the time of the read.
pub(crate) type Reading = (Option<Seen>, Span);

impl Group {
    pub(crate) fn new(name: String, keys: impl IntoIterator<Item = String>) -> Self {
        let tracks = keys.into_iter().map(|key| (key, Track::default())).collect();
        Self { name, tracks, pending: None }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.tracks.keys()
    }

    /// The first key whose value is certain and has no deadline.
    pub(crate) fn certain_key(&self) -> Option<&String> {
        self.tracks.iter().find(|(_, track)| track.certain().is_some()).map(|(key, _)| key)
    }

    /// Applies a call with its answer, or with `None` if there was no answer.
    pub(crate) fn apply(
        &mut self,
        call: &Call,
        span: Span,
        answer: Option<&Answer>,
        line: &Arc<str>,
    ) -> Result<(), Violation> {
        for key in keys(call) {
            self.track(key).record(line);
        }
        match (call, answer) {
            (_, Some(Answer::Failed(failure))) if !failure.maybe_applied => Ok(()),
            (Call::Commit { .. }, None | Some(Answer::Failed(_))) => {
                self.pending = Some(Pending { call: call.clone(), span });
                Ok(())
            }
            (Call::Commit { checks, changes }, Some(answer)) => self.commit(checks, changes, span, answer),
            (Call::List { reverse }, Some(Answer::Listed(listed))) => self.listed(*reverse, listed, span),
            _ => parts(call, answer).into_iter().try_for_each(|part| self.part(&part, span)),
        }
    }

    fn part(&mut self, part: &Part<'_>, span: Span) -> Result<(), Violation> {
        let Part { key, step, answer } = part;
        match answer {
            None => {
                self.track(key).apply_unanswered(*step, span, None);
                Ok(())
            }
            Some(Answer::Failed(failure)) => {
                if failure.maybe_applied {
                    self.track(key).apply_unanswered(*step, span, failure.version);
                }
                Ok(())
            }
            Some(answer) => self.step(key, *step, span, Some(answer)),
        }
    }

    fn step(&mut self, key: &str, step: Step<'_>, span: Span, answer: Option<&Answer>) -> Result<(), Violation> {
        let name = format!("{}#{key}", self.name);
        let track = self.track(key);
        track.apply(step, span, answer).map_err(|problem| {
            let found = if let Some(Answer::Found(found)) = answer { Some(found) } else { None };
            track.violation(name, problem, found)
        })
    }

    fn track(&mut self, key: &str) -> &mut Track {
        self.tracks.entry(key.to_owned()).or_default()
    }

    /// Compares a listing of the group with the states of all its keys.
    fn listed(&mut self, reverse: bool, listed: &[(String, Seen)], span: Span) -> Result<(), Violation> {
        let is_ordered = listed.iter().zip(listed.iter().skip(1)).all(|((a, _), (b, _))| (a < b) != reverse && a != b);
        let unknown = listed.iter().find(|(key, _)| !self.tracks.contains_key(key));
        if !is_ordered || unknown.is_some() {
            let problem = format!("a listing is out of order or has a key that no task wrote: {listed:?}");
            return Err(Track::default().violation(self.name.clone(), problem, None));
        }
        let keys: Vec<String> = self.tracks.keys().cloned().collect();
        keys.iter().try_for_each(|key| {
            let found = listed.iter().find(|(name, _)| name == key).map(|(_, seen)| seen.clone());
            self.step(key, Step::Read, span, Some(&Answer::Found(found)))
        })
    }

    fn commit(
        &mut self,
        checks: &[(String, Condition)],
        changes: &[Change],
        span: Span,
        answer: &Answer,
    ) -> Result<(), Violation> {
        let refused = if let Answer::RefusedCheck(index) = answer { Some(*index) } else { None };
        for (index, (key, when)) in checks.iter().enumerate().take(refused.map_or(usize::MAX, |index| index + 1)) {
            self.step(key, Step::Check { when, holds: refused != Some(index) }, span, None)?;
        }
        let versions = match answer {
            Answer::RefusedCheck(index) if *index < checks.len() => return Ok(()),
            Answer::Committed(versions) if versions.len() == changes.len() => versions,
            _ => {
                let (name, problem) = (self.name.clone(), format!("{answer:?} is not an answer to the transaction"));
                return Err(Track::default().violation(name, problem, None));
            }
        };
        changes.iter().zip(versions).try_for_each(|(change, version)| match change {
            Change::Set(write) => self.step(&write.key, write_step(write), span, Some(&Answer::Stored(*version))),
            Change::Delete(key) => self.step(key, Step::Erase, span, None),
        })
    }

    /// Judges the entries that were read after the kill. From then on, these entries are the only possible states.
    pub(crate) fn judge(&mut self, readings: &BTreeMap<String, Reading>) -> Vec<Violation> {
        let pending = self.pending.take();
        let mut violations = Vec::new();
        if let Some(pending) = pending {
            violations.extend(self.resolve(&pending, readings));
        }
        if !violations.is_empty() {
            return violations;
        }
        for (key, (found, span)) in readings {
            violations.extend(self.step(key, Step::Read, *span, Some(&Answer::Found(found.clone()))).err());
        }
        violations
    }

    /// Decides by the readings if an unanswered transaction happened. Fails if only a part of the transaction happened.
    fn resolve(&mut self, pending: &Pending, readings: &BTreeMap<String, Reading>) -> Option<Violation> {
        let Call::Commit { checks, changes } = &pending.call else { return None };
        let before: BTreeMap<String, Track> =
            changes.iter().filter_map(|change| self.tracks.get_key_value(change.key())).map(clone_pair).collect();
        let mut after = before.clone();
        let is_possible = checks.iter().all(|(key, when)| {
            let step = Step::Check { when, holds: true };
            self.tracks.get(key).is_some_and(|track| !track.effects(step, pending.span, None).is_empty())
        });
        for change in changes {
            let Some(track) = after.get_mut(change.key()) else { continue };
            let step = match change {
                Change::Set(write) => write_step(write),
                Change::Delete(_) => Step::Erase,
            };
            track.states = track.effects(step, pending.span, None);
        }
        let explained = |tracks: &BTreeMap<String, Track>| -> Vec<bool> {
            let explains = |(key, track): (&String, &Track)| {
                readings.get(key).is_none_or(|(found, span)| {
                    track.clone().apply(Step::Read, *span, Some(&Answer::Found(found.clone()))).is_ok()
                })
            };
            tracks.iter().map(explains).collect()
        };
        let (unchanged, changed) = (explained(&before), explained(&after));
        match (unchanged.iter().all(|fits| *fits), is_possible && changed.iter().all(|fits| *fits)) {
            (_, true) => {
                self.tracks.extend(after);
                None
            }
            (true, false) => None,
            (false, false) => {
                let problem = format!(
                    "the unanswered transaction {:?} is neither applied nor absent: of its keys {:?}, unchanged are \
                     {unchanged:?} and changed are {changed:?}; found {readings:?}",
                    pending.call,
                    before.keys()
                );
                let (first, track) = before.iter().next()?;
                Some(track.violation(format!("{}#{first}", self.name), problem, None))
            }
        }
    }
}

fn clone_pair((key, track): (&String, &Track)) -> (String, Track) {
    (key.clone(), track.clone())
}

/// The part of a call that concerns one key, with its answer.
struct Part<'a> {
    key: &'a str,
    step: Step<'a>,
    answer: Option<Answer>,
}

fn write_step(write: &Write) -> Step<'_> {
    Step::Write { value: &write.value, life: write.life, when: &Condition::Always }
}

/// Splits a call other than a transaction into its parts. An answer of the wrong kind is passed on unchanged, so that
/// no state explains the answer.
fn parts<'a>(call: &'a Call, answer: Option<&Answer>) -> Vec<Part<'a>> {
    let one = |key: &'a str, step| vec![Part { key, step, answer: answer.cloned() }];
    let item = |index: usize| match answer {
        Some(Answer::Many(items)) => items.get(index).cloned().or_else(|| answer.cloned()),
        Some(Answer::FoundMany(found)) => Some(Answer::Found(found.get(index).cloned().flatten())),
        other => other.cloned(),
    };
    match call {
        Call::Get(key) => one(key, Step::Read),
        Call::GetMany(keys) => {
            keys.iter().enumerate().map(|(index, key)| Part { key, step: Step::Read, answer: item(index) }).collect()
        }
        Call::Set { write, when } => one(&write.key, Step::Write { value: &write.value, life: write.life, when }),
        Call::SetMany(writes) => {
            let part = |(index, write): (usize, &'a Write)| Part {
                key: &write.key,
                step: write_step(write),
                answer: item(index),
            };
            writes.iter().enumerate().map(part).collect()
        }
        Call::Delete { key, when } => one(key, Step::Remove { when }),
        Call::DeleteMany(keys) => {
            let step = Step::Remove { when: &Condition::Always };
            keys.iter().enumerate().map(|(index, key)| Part { key, step, answer: item(index) }).collect()
        }
        Call::Take(key) => one(key, Step::Take),
        Call::Touch { key, life } => one(key, Step::Touch(*life)),
        Call::Increment { key, by, life } => one(key, Step::Add { by: *by, life: *life }),
        Call::List { .. } | Call::Commit { .. } => Vec::new(),
    }
}

/// The keys that a call names.
fn keys(call: &Call) -> Vec<&str> {
    match call {
        Call::Get(key)
        | Call::Take(key)
        | Call::Delete { key, .. }
        | Call::Touch { key, .. }
        | Call::Increment { key, .. } => vec![key],
        Call::GetMany(keys) | Call::DeleteMany(keys) => keys.iter().map(String::as_str).collect(),
        Call::List { .. } => Vec::new(),
        Call::Set { write, .. } => vec![&write.key],
        Call::SetMany(writes) => writes.iter().map(|write| write.key.as_str()).collect(),
        Call::Commit { checks, changes } => {
            let changed = changes.iter().map(Change::key);
            changed.chain(checks.iter().map(|(key, _)| key.as_str())).collect::<BTreeSet<_>>().into_iter().collect()
        }
    }
}
