//! Writes of a single key.

use std::future::poll_fn;
use std::task::{Poll, ready};

use bytes::Bytes;
use kv_core::{
    BoxFuture, DeleteOptions, DeleteOutcome, IncrementOptions, Key, NewExpiry, Operation, Result, SetOptions,
    SetOutcome, Version,
};

use crate::bounded::Bounded;
use crate::engine::Engine;
use crate::error::reject;
use crate::state::State;
use crate::update;
use crate::yielding::{charge, poll_charge};

impl State {
    // Avoids an `async` block around the engine, for the reason given at `get`.
    #[inline]
    pub(crate) fn set<'call>(
        &'call self,
        key: &'call Key,
        value: Bytes,
        options: &'call SetOptions,
    ) -> BoxFuture<'call, Result<SetOutcome>> {
        let mut value = value;
        match &self.engine {
            Engine::Unbounded(engine) => Box::pin(poll_fn(move |context| {
                ready!(poll_charge(1, context));
                match self.check_set(&value, options) {
                    Ok(()) => Poll::Ready(Ok(engine.set(key, std::mem::take(&mut value), options))),
                    Err(error) => Poll::Ready(reject(Operation::Set, key, error)),
                }
            })),
            Engine::Bounded(engine) => Box::pin(async move {
                charge(Bounded::COST).await;
                match self.check_set(&value, options) {
                    Ok(()) => Ok(engine.set(key, value, options).await),
                    Err(error) => reject(Operation::Set, key, error),
                }
            }),
        }
    }

    /// Checks that the store is open, that it supports the options, and that the value is not too long.
    pub(crate) fn check_set(&self, value: &Bytes, options: &SetOptions) -> Result<()> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.admit(1).await?;
        options.check(&self.info.capabilities)?;
        Ok(self.engine.update(key, |current, now| update::delete(current, options, now)).await)
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.admit(1).await?;
        Ok(self.engine.update(key, |current, now| update::touch(current, expiry, now)).await)
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.admit(1).await?;
        options.check(&self.info.capabilities)?;
        let version = Version::random();
        self.engine.update(key, |current, now| update::increment(current, by, version, options, now)).await
    }
}
