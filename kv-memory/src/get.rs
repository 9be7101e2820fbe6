//! Reads of one key.

use std::future::poll_fn;
use std::task::{Poll, ready};

use kv_core::{BoxFuture, Entry, Key, Operation, Result};

use crate::bounded::Bounded;
use crate::engine::Engine;
use crate::error::reject;
use crate::state::State;
use crate::yielding::{charge, poll_charge};

impl State {
    // The hot path calls the engine without a layer in between, and `poll_fn` returns the entry where it was built: an
    // `async` block would move it once more, field by field.
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

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        self.admit(1).await?;
        Ok(self.engine.contains(key).await)
    }
}
