//! Looks for a script on which a store and the model part, and for the shortest such.

use kv_core::{Namespace, Namespaced};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::sync::mpsc;

use super::code;
use super::menu::Menu;
use super::model::Model;
use super::play::Player;
use super::step::Step;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// How often a failing script is made shorter, or its steps simpler, at the most.
const SIMPLER: usize = 400;

/// Where a store and the model part.
pub(super) struct Parting {
    /// The place of the step.
    pub(super) at: usize,
    /// What the model answers.
    pub(super) expected: String,
    /// What the store answers.
    pub(super) found: String,
}

/// The script of this number, the same for the same seed, with the ways to make it simpler.
fn tree(menu: Menu, seed: u64, nth: usize) -> Result<impl ValueTree<Value = Vec<Step>>, Failure> {
    let mut bytes = [0; 32];
    let words = seed.to_le_bytes().into_iter().chain((nth as u64).to_le_bytes());
    bytes.iter_mut().zip(words).for_each(|(place, byte)| *place = byte);
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    menu.scripts().new_tree(&mut runner).map_err(|reason| Failure::new(format!("no script could be made: {reason}")))
}

/// The script of this number.
pub(super) fn script(menu: Menu, seed: u64, nth: usize) -> Result<Vec<Step>, Failure> {
    Ok(tree(menu, seed, nth)?.current())
}

/// Runs scripts of the menu on the case's store, and fails with the shortest one found on which it is not as the model.
pub(crate) async fn search(cx: &Context, menu: Menu) -> Verdict {
    let menu = menu.within(&cx.capabilities(), cx.moves_clock());
    let mut stage = Stage { cx, played: 0 };
    for nth in 1..=cx.scripts() {
        let script = script(menu, cx.seed(), nth)?;
        let Some(parting) = stage.play(&script).await? else { continue };
        let (script, parting) = stage.shorten(menu, nth, script, parting).await?;
        let Parting { at, expected, found } = &parting;
        return Err(Failure::new(format!(
            "script {nth} of {}, made as short as possible: step {} should come to {expected}, and came to {found}\n{}",
            cx.scripts(),
            at + 1,
            code::test(&script, &parting)
        )));
    }
    Ok(())
}

/// Where scripts are played, each in a namespace of its own.
struct Stage<'c> {
    cx: &'c Context,
    played: u64,
}

impl Stage<'_> {
    /// Plays a script, and tells where the store and the model part.
    async fn play(&mut self, script: &[Step]) -> Result<Option<Parting>, Failure> {
        self.played += 1;
        let namespace = Namespace::new(["script", &self.played.to_string()])?;
        let mut model = Model::new(self.cx.capabilities(), self.cx.moves_clock());
        let mut store = Player::new(self.cx, Namespaced::new(self.cx.store().clone(), namespace));
        for (at, step) in script.iter().enumerate() {
            let (expected, found) = (model.step(step), store.step(step).await);
            if expected != found {
                return Ok(Some(Parting { at, expected: format!("{expected:?}"), found: format!("{found:?}") }));
            }
        }
        Ok(None)
    }

    /// The simplest script found that fails, too, and how.
    async fn shorten(
        &mut self,
        menu: Menu,
        nth: usize,
        mut script: Vec<Step>,
        mut parting: Parting,
    ) -> Result<(Vec<Step>, Parting), Failure> {
        // The ways to make a script simpler are not `Send`: they stay on a thread, which ends when this side does.
        let (offer, mut offered) = mpsc::channel::<Vec<Step>>(1);
        let (judge, mut judged) = mpsc::channel::<bool>(1);
        let seed = self.cx.seed();
        tokio::task::spawn_blocking(move || {
            let Ok(mut tree) = tree(menu, seed, nth) else { return };
            let mut goes_on = tree.simplify();
            for _ in 0..SIMPLER {
                if !goes_on || offer.blocking_send(tree.current()).is_err() {
                    return;
                }
                match judged.blocking_recv() {
                    Some(true) => goes_on = tree.simplify(),
                    Some(false) => goes_on = tree.complicate(),
                    None => return,
                }
            }
        });
        while let Some(simpler) = offered.recv().await {
            let closer = self.play(&simpler).await?;
            let still_fails = closer.is_some();
            if let Some(closer) = closer {
                (script, parting) = (simpler, closer);
            }
            if judge.send(still_fails).await.is_err() {
                break;
            }
        }
        script.truncate(parting.at + 1);
        Ok((script, parting))
    }
}
