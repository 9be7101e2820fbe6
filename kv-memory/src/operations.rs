//! The operations of a store over either engine: check, decide, do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv_core::hub::{Hub, Messages};
use kv_core::{
    Capability, Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, IncrementOptions, Key, KeyPrefix,
    Message, MessageStream, NewExpiry, Result, SetOptions, SetOutcome, StoreInfo, Transaction, Version, WatchQuery,
    WatchStream, deliver, follow,
};

use crate::decide;
use crate::engine::Engine;
use crate::memory::MemoryStore;

/// What the clones of a store share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) info: StoreInfo,
    pub(crate) engine: Engine,
    pub(crate) letters: Hub<Messages>,
    pub(crate) is_closed: AtomicBool,
}

impl Inner {
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.engine.context().clock)
    }

    /// Refuses every call after `close`.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        if self.check_open().is_err() {
            return keys.iter().map(|_| Err(Error::closed())).collect();
        }
        self.engine.get_many(keys).await.into_iter().map(Ok).collect()
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        self.check_open()?;
        Ok(self.engine.contains(key).await)
    }

    /// Whether a write is one that the store takes.
    pub(crate) fn check_set(&self, value: &Bytes, options: &SetOptions) -> Result<()> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.check_set(&value, options)?;
        let version = Version::random();
        Ok(self.engine.mutate(key, |current, now| decide::set(current, value, version, options, now)).await)
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        Ok(self.engine.mutate(key, |current, now| decide::delete(current, options, now)).await)
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.check_open()?;
        Ok(self.engine.mutate(key, |current, now| decide::touch(current, expiry, now)).await)
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.check_open()?;
        options.check(&self.info.capabilities)?;
        let version = Version::random();
        self.engine.mutate(key, |current, now| decide::increment(current, by, version, options, now)).await
    }

    pub(crate) fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.check_open()?;
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        match &self.engine {
            Engine::Unbounded(engine) => engine.commit(transaction),
            // Its capabilities say so, and the transaction did not pass.
            Engine::Bounded(_) => Err(Error::unsupported(Capability::Transactions)),
        }
    }

    pub(crate) fn publish(&self, channel: &Key, payload: Bytes) -> Result<()> {
        self.check_open()?;
        self.info.limits.check_message(payload.len())?;
        self.letters.notify(&Message { channel: channel.clone(), payload });
        Ok(())
    }

    pub(crate) fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.check_open()?;
        Ok(deliver(self.letters.subscribe(channels.clone())))
    }

    pub(crate) async fn sweep(&self) -> Result<u64> {
        self.check_open()?;
        Ok(self.engine.sweep().await)
    }

    /// Ends the streams and the sweeper and drops the entries. A write that passed its own check before may leave an entry
    /// that nobody sees any more.
    pub(crate) async fn close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let context = self.engine.context();
        context.changes.close();
        context.sweeper.stop();
        self.letters.close();
        self.engine.clear().await;
    }
}

impl MemoryStore {
    /// A watch reads the store again for every change, so it holds a handle.
    pub(crate) fn follow(&self, query: &WatchQuery) -> Result<WatchStream> {
        self.inner.check_open()?;
        query.check(&self.inner.info.capabilities)?;
        let inbox = self.inner.engine.context().changes.subscribe(query.target.prefix());
        Ok(follow(self.clone(), query.clone(), inbox))
    }
}
