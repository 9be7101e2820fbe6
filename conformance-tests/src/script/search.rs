//! Searches for a script on which a store and the model answer differently, and shortens it.

use kv_core::{Namespace, Namespaced};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::sync::mpsc;

use super::answer::Mismatch;
use super::code;
use super::model::Model;
use super::runner::ScriptRunner;
use super::step::Step;
use super::step_kinds::StepKinds;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// The maximum number of attempts to shorten a failing script or to simplify its steps.
const MAX_SHRINK_STEPS: usize = 400;

/// Generates the script of this number, with a tree of simpler scripts. The same seed and number give the same script.
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

/// The script of this number.
pub(super) fn script(kinds: StepKinds, seed: u64, number: usize) -> Result<Vec<Step>, Failure> {
    Ok(tree(kinds, seed, number)?.current())
}

/// Runs scripts of these kinds of steps on the store of the case. Fails on a wrong answer, with the shortest script
/// found.
pub(crate) async fn search(cx: &Context, kinds: StepKinds) -> Verdict {
    let kinds = kinds.within(&cx.capabilities(), cx.moves_clock());
    let mut shrinker = Shrinker { cx, runs: 0 };
    for number in 1..=cx.scripts() {
        let script = script(kinds, cx.seed(), number)?;
        let Some(mismatch) = shrinker.run(&script).await? else { continue };
        let (script, mismatch) = shrinker.shorten(kinds, number, script, mismatch).await?;
        let Mismatch { at, expected, found } = &mismatch;
        return Err(Failure::new(format!(
            "script {number} of {}, shortened: `{}` in step {} should return {expected}, but it returned {found}\n{}",
            cx.scripts(),
            script.get(*at).map(code::call).unwrap_or_default(),
            at + 1,
            code::test_code(&script, &mismatch)
        )));
    }
    Ok(())
}

/// Runs scripts on the store of the case, each in its own namespace.
struct Shrinker<'c> {
    cx: &'c Context,
    runs: u64,
}

impl Shrinker<'_> {
    /// Runs a script and returns the first step on which the store and the model differ.
    async fn run(&mut self, script: &[Step]) -> Result<Option<Mismatch>, Failure> {
        self.runs += 1;
        let namespace = Namespace::new(["script", &self.runs.to_string()])?;
        let mut model = Model::new(self.cx.capabilities(), self.cx.moves_clock());
        let mut store = ScriptRunner::new(self.cx, Namespaced::new(self.cx.store().clone(), namespace));
        for (at, step) in script.iter().enumerate() {
            let (expected, found) = (model.step(step), store.step(step).await);
            if expected != found {
                return Ok(Some(Mismatch { at, expected: format!("{expected:?}"), found: format!("{found:?}") }));
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
        // The tree of simpler scripts is not `Send`, so it stays on one thread. The thread ends when this function
        // drops its ends of the channels.
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
        while let Some(simpler) = offered.recv().await {
            let next_mismatch = self.run(&simpler).await?;
            let still_fails = next_mismatch.is_some();
            if let Some(next_mismatch) = next_mismatch {
                (script, mismatch) = (simpler, next_mismatch);
            }
            if judge.send(still_fails).await.is_err() {
                break;
            }
        }
        script.truncate(mismatch.at + 1);
        Ok((script, mismatch))
    }
}
