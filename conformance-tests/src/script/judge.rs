//! Judges the answers of a store by the states that the model may be in.

use std::collections::BTreeSet;

use kv_core::Capabilities;

use super::answer::{Answer, Event};
use super::model::Model;
use super::reports::Reports;
use super::step::{KeyIndex, Slot, Step};

/// The states that the model may be in, given the answers so far. After calls that were started together, more than one
/// state may be possible.
#[derive(Debug)]
pub(super) struct Judge {
    possible: Vec<Model>,
    steps: u64,
}

impl Judge {
    /// The maximum number of expected answers in a failure.
    const MAX_EXPECTED: usize = 4;
    /// The maximum number of versions that one call creates.
    const VERSIONS_PER_CALL: u64 = 16;
    /// The maximum number of calls in one step.
    const CALLS_PER_STEP: u64 = 64;

    /// `is_exact` is true if the script sets the clock; `has_other_handles` if several handles make the calls.
    pub(super) fn new(capabilities: Capabilities, is_exact: bool, has_other_handles: bool) -> Self {
        Self { possible: vec![Model::new(capabilities, is_exact, has_other_handles)], steps: 0 }
    }

    /// Judges the answer to a step. Returns the expected answers if the contract does not allow the answer.
    pub(super) fn answer(&mut self, step: &Step, found: &Answer) -> Result<(), String> {
        self.steps += 1;
        let first_version = self.steps * Self::CALLS_PER_STEP * Self::VERSIONS_PER_CALL;
        let mut expected = BTreeSet::new();
        let mut possible: Vec<Model> = Vec::new();
        for model in &self.possible {
            for (mut model, answer) in outcomes(model, step, first_version) {
                let answer = model.memory.observe(step, answer);
                if answer != *found {
                    expected.insert(format!("{answer:?}"));
                } else if !possible.contains(&model) {
                    possible.push(model);
                }
            }
        }
        self.keep(possible, expected)
    }

    /// Judges an event of the watch in the slot.
    pub(super) fn event(&mut self, slot: Slot, event: &Event) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        let mut possible: Vec<Model> = Vec::new();
        for model in &mut self.possible {
            match model.after_event(slot, event) {
                Ok(explanations) => {
                    for model in explanations {
                        if !possible.contains(&model) {
                            possible.push(model);
                        }
                    }
                }
                Err(text) => _ = expected.insert(text),
            }
        }
        self.keep(possible, expected)
    }

    fn keep(&mut self, possible: Vec<Model>, expected: BTreeSet<String>) -> Result<(), String> {
        if possible.is_empty() {
            let expected: Vec<String> = expected.into_iter().take(Self::MAX_EXPECTED).collect();
            return Err(expected.join(" or "));
        }
        self.possible = possible;
        Ok(())
    }

    /// Returns an event that the watch in the slot must still send. Returns `None` if the watch has sent all events in
    /// at least one of the possible states.
    pub(super) fn missing_event(&mut self, slot: Slot) -> Option<String> {
        let mut missing = None;
        for model in &mut self.possible {
            missing = Some(model.reports(slot)?.missing()?);
        }
        missing
    }

    /// Notes that the watch in the slot has sent the events of all changes so far.
    pub(super) fn settle(&mut self, slot: Slot) {
        self.possible.iter_mut().filter_map(|model| model.reports(slot)).for_each(Reports::settle);
    }
}

/// The possible answers to the step, each with the model afterwards.
fn outcomes(model: &Model, step: &Step, first_version: u64) -> Vec<(Model, Answer<u64>)> {
    let Step::Together(steps) = step else {
        let mut model = model.clone();
        model.number_from(first_version);
        let answer = model.step(step);
        return vec![(model, answer)];
    };
    let calls =
        (0_usize..).zip(steps).flat_map(|(caller, step)| step.parts().into_iter().map(move |call| (caller, call)));
    let calls: Vec<Call> = calls
        .zip(0_u64..)
        .map(|((caller, step), number)| Call {
            caller,
            first_version: first_version + number * Judge::VERSIONS_PER_CALL,
            step,
        })
        .collect();
    let mut outcomes = Vec::new();
    let mut answers = vec![None; calls.len()];
    every_order(model, &calls, &mut answers, &mut |model, answers| {
        let each = steps.iter().enumerate().map(|(index, step)| {
            let mut own = calls.iter().zip(answers).filter(|(call, _)| call.caller == index);
            match own.next() {
                Some((_, Some(answer))) if !step.is_batch() => answer.clone(),
                first => Answer::Each(first.into_iter().chain(own).filter_map(|(_, answer)| answer.clone()).collect()),
            }
        });
        outcomes.push((model, Answer::Each(each.collect())));
    });
    outcomes
}

/// A single call among calls that were started together.
struct Call {
    /// The index of the step that the call is part of.
    caller: usize,
    /// The first version that the call creates, which is the same in every order.
    first_version: u64,
    step: Step,
}

impl Call {
    /// True if this call comes before the other call in every order: the parts of a batch on one key keep their order.
    fn comes_before(&self, other: &Self) -> bool {
        self.caller == other.caller && key_of(&self.step) == key_of(&other.step)
    }
}

fn key_of(step: &Step) -> Option<KeyIndex> {
    match step {
        Step::Get(key) | Step::Delete { key, .. } => Some(*key),
        Step::Set(write) => Some(write.key),
        _ => None,
    }
}

/// For each order of the calls that have no answer yet, calls the function with the model after these calls and with
/// their answers.
fn every_order(
    model: &Model,
    calls: &[Call],
    answers: &mut Vec<Option<Answer<u64>>>,
    finish: &mut impl FnMut(Model, &[Option<Answer<u64>>]),
) {
    if answers.iter().all(Option::is_some) {
        return finish(model.clone(), answers);
    }
    for (index, call) in calls.iter().enumerate() {
        let waits = |(earlier, answer): (&Call, &Option<_>)| answer.is_none() && earlier.comes_before(call);
        let is_done = answers.get(index).is_none_or(Option::is_some);
        if is_done || calls.iter().zip(&*answers).take(index).any(waits) {
            continue;
        }
        let mut model = model.clone();
        model.number_from(call.first_version);
        let answer = model.step(&call.step);
        if let Some(place) = answers.get_mut(index) {
            *place = Some(answer);
        }
        every_order(&model, calls, answers, finish);
        if let Some(place) = answers.get_mut(index) {
            *place = None;
        }
    }
}
