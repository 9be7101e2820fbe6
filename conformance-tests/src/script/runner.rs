//! Runs the steps of a script as calls of a store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kv_core::{Error, KvStore, Version};

use super::answer::Answer;
use super::caller::{Caller, failed};
use super::events::Watches;
use super::memory::Memory;
use super::messages::Subscription;
use super::step::Step;
use crate::context::Context;

/// The store of a script, with the clock, the seen versions and the open streams.
pub(super) struct ScriptRunner<'c> {
    cx: &'c Context,
    /// Handles on the same store, which make the calls in turn.
    handles: Vec<Arc<dyn KvStore>>,
    steps: usize,
    pub(super) caller: Caller,
    pub(super) watches: Watches,
    subscription: Option<Subscription>,
}

impl<'c> ScriptRunner<'c> {
    pub(super) fn new(cx: &'c Context, handles: Vec<Arc<dyn KvStore>>) -> Self {
        Self {
            cx,
            handles,
            steps: 0,
            caller: Caller { is_exact: cx.moves_clock(), start: cx.now(), memory: Memory::default() },
            watches: Watches::default(),
            subscription: None,
        }
    }

    /// The handle of the call with this number in the current step.
    pub(super) fn handle(&self, call: usize) -> Arc<dyn KvStore> {
        match self.handles.get((self.steps + call) % self.handles.len().max(1)) {
            Some(handle) => Arc::clone(handle),
            None => unreachable!("a script runs on at least one handle"),
        }
    }

    /// Runs a step. The events of [`Step::ReadEvents`] must have been read before.
    pub(super) async fn step(&mut self, step: &Step) -> Answer {
        let answer = self.try_step(step).await.unwrap_or_else(|error| failed(&error));
        self.steps += 1;
        self.caller.memory.observe(step, answer)
    }

    async fn try_step(&mut self, step: &Step) -> Result<Answer<Version>, Error> {
        let handle = self.handle(0);
        match step {
            Step::Together(steps) => {
                let handles: Vec<_> = (0..steps.len()).map(|call| self.handle(call)).collect();
                let caller = &self.caller;
                let calls = steps.iter().zip(&handles).map(|(step, handle)| async move {
                    caller.call(handle, step).await.unwrap_or_else(|error| failed(&error))
                });
                return Ok(Answer::Each(join_all(calls).await));
            }
            Step::Watch(slot, watching) => self.watches.open(&handle, *slot, *watching).await?,
            Step::Unwatch(slot) => self.watches.close(*slot),
            // `read_events` has already read these events.
            Step::ReadEvents(_) => {}
            Step::Subscribe(channels) => self.subscription = Some(Subscription::start(&handle, *channels).await?),
            Step::ReadMessages => {
                let Some(subscription) = &mut self.subscription else { return Ok(Answer::Messages(Vec::new())) };
                return subscription.read(&handle).await;
            }
            Step::Advance(millis) => self.cx.advance(Duration::from_millis(*millis)).await,
            call => return self.caller.call(&handle, call).await,
        }
        Ok(Answer::Done)
    }
}
