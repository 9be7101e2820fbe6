//! Runs the same scripts on several stores and compares the answers.

use std::sync::Arc;

use kv_core::{Namespace, Namespaced};

use super::answer::Mismatch;
use super::code;
use super::runner::ScriptRunner;
use super::search::script;
use super::step_kinds::StepKinds;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Runs the same scripts on each of these stores. The scripts have only steps that all of the stores support. Fails if
/// two stores answer differently; the failure names both stores.
///
/// The scripts have no watches and no calls that are started together. The answers to such steps depend on timing, so
/// two correct stores may answer differently.
pub(crate) async fn compare(stores: &[(String, Context)]) -> Verdict {
    let Some(((first_name, first), others)) = stores.split_first() else { return Ok(()) };
    let moves_clock = stores.iter().all(|(_, cx)| cx.moves_clock());
    let kinds = StepKinds { watches: false, together: false, ..StepKinds::ALL };
    let kinds = stores.iter().fold(kinds, |kinds, (_, cx)| kinds.within(&cx.capabilities(), moves_clock));
    for number in 1..=first.scripts() {
        let script = script(kinds, first.seed(), number)?;
        let namespace = Namespace::new(["compared", &number.to_string()])?;
        let mut reference = runner(first, &namespace);
        let mut runners: Vec<_> = others.iter().map(|(name, cx)| (name, runner(cx, &namespace))).collect();
        for (at, step) in script.iter().enumerate() {
            let expected = reference.step(step).await;
            for (name, runner) in &mut runners {
                let found = runner.step(step).await;
                if found != expected {
                    let script = script.get(..=at).unwrap_or(&script);
                    let mismatch = Mismatch { at, expected: format!("{expected:?}"), found: format!("{found:?}") };
                    return Err(Failure::new(format!(
                        "{first_name} and {name} answer differently at step {} of script {number}:\n{}",
                        at + 1,
                        code::test_code(script, 1, &mismatch)
                    )));
                }
            }
        }
    }
    Ok(())
}

fn runner<'c>(cx: &'c Context, namespace: &Namespace) -> ScriptRunner<'c> {
    ScriptRunner::new(cx, vec![Arc::new(Namespaced::new(cx.store().clone(), namespace.clone()))])
}
