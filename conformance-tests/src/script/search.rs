//! Searches for a script on which a store and the model answer differently, and shortens it.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, KvStore, Namespace, Namespaced, SystemClock};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::sync::mpsc;

use super::answer::Mismatch;
use super::code;
use super::judge::Judge;
use super::runner::ScriptRunner;
use super::step::{SLOTS, Slot, Step};
use super::step_kinds::StepKinds;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::recorder::Recorder;

/// The maximum number of attempts to shorten a failing script or to simplify its steps.
const MAX_SHRINK_STEPS: usize = 400;

/// The factor by which the number of scripts grows if they have watches, or calls that are started together.
const COMBINED_SCRIPTS: usize = 3;

/// The maximum duration of shortening a failing script.
const MAX_SHRINK_TIME: Duration = Duration::from_secs(6);

/// Time to wait for the next event of a watch.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time to wait for the next event while a failing script is shortened. The shortest script then runs again with
/// [`PATIENCE`].
const SHRINK_PATIENCE: Duration = Duration::from_millis(100);

/// Generates script `number`, with a tree of simpler scripts. The same seed and number give the same script.
fn tree(kinds: StepKinds, seed: u64, number: usize) -> Result<impl ValueTree<Value = Vec<Step>>, Failure> {
    let mut bytes = [0; 32];
    let words = seed.to_le_bytes().into_iter().chain((number as u64).to_le_bytes());
    bytes.iter_mut().zip(words).for_each(|(target, byte)| *target = byte);
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    kinds
        .scripts()
        .new_tree(&mut runner)
        .map_err(|reason| Failure::new(format!("could not generate a random script: {reason}")))
}

/// Returns script `number`.
pub(super) fn script(kinds: StepKinds, seed: u64, number: usize) -> Result<Vec<Step>, Failure> {
    Ok(tree(kinds, seed, number)?.current())
}

/// Appends to the script the steps that read the events of all open watches.
fn with_last_events(mut script: Vec<Step>) -> Vec<Step> {
    let has_watch = |slot| script.iter().any(|step| matches!(step, Step::Watch(opened, _) if *opened == slot));
    let slots: Vec<Slot> = (0..SLOTS).map(Slot).filter(|slot| has_watch(*slot)).collect();
    script.extend(slots.into_iter().map(Step::ReadEvents));
    script
}

/// Runs random scripts on the store of the case. The scripts have these kinds of steps. Fails if an answer is wrong;
/// the failure shows the shortest script found that gets a wrong answer.
pub(crate) async fn search(cx: &Context, kinds: StepKinds) -> Verdict {
    search_on(cx, &[cx.store().clone()], kinds).await
}

/// Runs random scripts as [`search`] does, on several handles of the store, which make the calls in turn.
pub(crate) async fn search_on(cx: &Context, handles: &[Recorder], kinds: StepKinds) -> Verdict {
    let kinds = kinds.within(&cx.capabilities(), cx.moves_clock());
    let mut shrinker = Shrinker { cx, handles, runs: 0 };
    // There are many combinations of calls, so more scripts are needed to find a combination that gets a wrong answer.
    let scripts = if kinds.watches || kinds.together { cx.scripts() * COMBINED_SCRIPTS } else { cx.scripts() };
    for number in 1..=scripts {
        let script = with_last_events(script(kinds, cx.seed(), number)?);
        let Some(mismatch) = shrinker.run(&script, PATIENCE).await? else { continue };
        let (script, mismatch) = shrinker.shorten(kinds, number, script, mismatch).await?;
        let Mismatch { at, expected, found } = &mismatch;
        return Err(Failure::new(format!(
            "script {number} of {scripts}, shortened: {} in step {} should return {expected}, but it returned {found}\n{}",
            script.get(*at).map(code::summary).unwrap_or_default(),
            at + 1,
            code::test_code(&script, handles.len(), &mismatch)
        )));
    }
    Ok(())
}

/// Runs scripts on the store of the case, each script in its own namespace, and shortens a failing script.
struct Shrinker<'c> {
    cx: &'c Context,
    handles: &'c [Recorder],
    runs: u64,
}

impl Shrinker<'_> {
    /// Runs a script and returns the first step on which the store and the model differ.
    async fn run(&mut self, script: &[Step], patience: Duration) -> Result<Option<Mismatch>, Failure> {
        self.runs += 1;
        let namespace = Namespace::new(["script", &self.runs.to_string()])?;
        let mut judge =
            Judge::new(self.cx.capabilities(), self.cx.moves_clock(), self.handles.len() > 1 || self.cx.alternates());
        let handles = self.handles.iter().map(|handle| {
            let store: Arc<dyn KvStore> = Arc::new(Namespaced::new(handle.clone(), namespace.clone()));
            store
        });
        let mut store = ScriptRunner::new(self.cx, handles.collect());
        for (at, step) in script.iter().enumerate() {
            if let Step::ReadEvents(slot) = step
                && let Err(wrong) = store.read_events(*slot, &mut judge, patience).await
            {
                return Ok(Some(Mismatch { at, expected: wrong.expected, found: wrong.found }));
            }
            let found = store.step(step).await;
            if let Err(expected) = judge.answer(step, &found) {
                return Ok(Some(Mismatch { at, expected, found: format!("{found:?}") }));
            }
        }
        Ok(None)
    }

    /// Returns the simplest failing script found, and its mismatch.
    async fn shorten(
        &mut self,
        kinds: StepKinds,
        number: usize,
        mut script: Vec<Step>,
        mut mismatch: Mismatch,
    ) -> Result<(Vec<Step>, Mismatch), Failure> {
        // The tree of simpler scripts is not `Send`, so the tree stays on one thread. The thread stops when this
        // function drops `offered` and `judge`.
        let (offer, mut offered) = mpsc::channel::<Vec<Step>>(1);
        let (judge, mut judged) = mpsc::channel::<bool>(1);
        let seed = self.cx.seed();
        tokio::task::spawn_blocking(move || {
            let Ok(mut tree) = tree(kinds, seed, number) else { return };
            let mut has_next = tree.simplify();
            for _ in 0..MAX_SHRINK_STEPS {
                if !has_next || offer.blocking_send(tree.current()).is_err() {
                    return;
                }
                match judged.blocking_recv() {
                    Some(true) => has_next = tree.simplify(),
                    Some(false) => has_next = tree.complicate(),
                    None => return,
                }
            }
        });
        let (first_script, first_mismatch) = (script.clone(), mismatch.clone());
        let began = SystemClock.now();
        while SystemClock.now().duration_since(began).unwrap_or_default() < MAX_SHRINK_TIME {
            let Some(simpler) = offered.recv().await else { break };
            let simpler = with_last_events(simpler);
            let next_mismatch = self.run(&simpler, SHRINK_PATIENCE).await?;
            let still_fails = next_mismatch.is_some();
            if let Some(next_mismatch) = next_mismatch {
                (script, mismatch) = (simpler, next_mismatch);
            }
            if judge.send(still_fails).await.is_err() {
                break;
            }
        }
        script.truncate(mismatch.at + 1);
        match self.run(&script, PATIENCE).await? {
            Some(mismatch) => Ok((script, mismatch)),
            // The shorter script failed by chance, or only because `SHRINK_PATIENCE` was too short.
            None => Ok((first_script, first_mismatch)),
        }
    }
}
