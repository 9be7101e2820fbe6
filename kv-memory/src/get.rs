//! Reads of a single key.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::SystemTime;

use kv_core::{BoxFuture, Entry, GetOptions, GetOutcome, Key, Operation, Result};

use crate::bounded::Bounded;
use crate::engine::Engine;
use crate::error::reject;
use crate::state::State;
use crate::yielding::{charge, poll_charge};

impl State {
    // `get` is called most often. An `async` block around the unbounded engine would move the entry once more, field by
    // field. Therefore the future of `get` uses `poll_fn`, which returns the entry directly.
    #[inline]
    pub(crate) fn get<'call>(&'call self, key: &'call Key) -> BoxFuture<'call, Result<Option<Entry>>> {
        match &self.engine {
            Engine::Unbounded(engine) => Box::pin(poll_fn(move |context| {
                ready!(poll_charge(1, context));
                match self.check_open() {
                    Ok(()) => Poll::Ready(Ok(engine.get(key))),
                    Err(error) => Poll::Ready(reject(Operation::Get, key, error)),
                }
            })),
            Engine::Bounded(engine) => Box::pin(async move {
                charge(Bounded::COST).await;
                match self.check_open() {
                    Ok(()) => Ok(engine.get(key).await),
                    Err(error) => reject(Operation::Get, key, error),
                }
            }),
        }
    }

    pub(crate) async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        self.admit(1).await?;
        options.check(&self.info.capabilities)?;
        let entry = match &self.engine {
            Engine::Unbounded(engine) => engine.get(key),
            Engine::Bounded(engine) => Box::pin(engine.get(key)).await,
        };
        Ok(GetOutcome::of(entry, options))
    }

    /// Returns the time of the clock by which every operation judges deadlines.
    pub(crate) async fn time(&self) -> Result<SystemTime> {
        self.admit(1).await?;
        Ok(self.engine.services().clock.now())
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        self.admit(1).await?;
        Ok(self.engine.contains(key).await)
    }
}
