//! Writes of one key.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use kv_core::{
    BoxFuture, DeleteOptions, DeleteOutcome, IncrementOptions, Key, NewExpiry, Operation, Result, SetOptions,
    SetOutcome, Version,
};

use crate::engine::Engine;
use crate::error::reject;
use crate::state::State;
use crate::update;

impl State {
    // Calls the engine without a layer in between, as `get` does.
    #[inline]
    pub(crate) fn set<'call>(
        &'call self,
        key: &'call Key,
        value: Bytes,
        options: &'call SetOptions,
    ) -> BoxFuture<'call, Result<SetOutcome>> {
        let mut value = value;
        match &self.engine {
            Engine::Unbounded(engine) => Box::pin(poll_fn(move |_| match self.check_set(&value, options) {
                Ok(()) => Poll::Ready(Ok(engine.set(key, std::mem::take(&mut value), options))),
                Err(error) => Poll::Ready(reject(Operation::Set, key, error)),
            })),
            Engine::Bounded(engine) => Box::pin(async move {
                match self.check_set(&value, options) {
                    Ok(()) => Ok(engine.set(key, value, options).await),
                    Err(error) => reject(Operation::Set, key, error),
                }
            }),
        }
    }

    /// Checks that the store is open and that it supports the options and the length of the value.
    pub(crate) fn check_set(&self, value: &Bytes, options: &SetOptions) -> Result<()> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        Ok(self.engine.update(key, |current, now| update::delete(current, options, now)).await)
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.check_open()?;
        Ok(self.engine.update(key, |current, now| update::touch(current, expiry, now)).await)
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        let version = Version::random();
        self.engine.update(key, |current, now| update::increment(current, by, version, options, now)).await
    }
}
