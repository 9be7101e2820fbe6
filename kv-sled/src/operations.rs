//! What the store does, below the names and above the threads.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, IncrementOptions, Key, KeyPrefix, ListPage, ListQuery,
    Message as Letter, MessageStream, NewExpiry, Result, SetItem, SetOptions, SetOutcome, Transaction, Version,
    deliver, stored,
};
use sled::Tree;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::codec::{data_key, data_range, entry};
use crate::decide;
use crate::draft::Draft;
use crate::error::{from_sled, is_fatal};
use crate::gate;
use crate::handle::{Inner, Shared};
use crate::health::Trouble;
use crate::request::{Message, Waiting, request};
use crate::worker::SWEEP_LIMIT;

/// How long a read waits for a batch on the caller's own thread. A batch takes far less, as a rule.
const BRIEF: Duration = Duration::from_millis(2);

/// How many records, and about how many bytes of them, `clear` removes in one batch.
const CLEAR_LIMIT: usize = 1_000;
const CLEAR_BYTES: usize = 8 << 20;

impl Shared {
    /// Reads on the caller's thread. While a batch takes long, a thread that may block waits for its end.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(answer) = self.try_read(BRIEF, &read) {
            return answer;
        }
        let shared = Arc::clone(self);
        let patient = move || {
            let stuck = || Err(Error::unavailable("a write stands still, and reads wait behind it"));
            shared.try_read(shared.operation_timeout, &read).unwrap_or_else(stuck)
        };
        match Handle::try_current() {
            Ok(runtime) => match runtime.spawn_blocking(patient).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::unavailable("the runtime has ended")),
            },
            Err(_) => patient(),
        }
    }

    /// Reads, unless the way into sled stays shut that long.
    fn try_read<T>(&self, patience: Duration, read: &impl Fn(&Tree) -> Result<T>) -> Option<Result<T>> {
        if let Err(error) = self.health.check() {
            return Some(Err(error));
        }
        let tree = self.tree.try_read_for(patience)?;
        let Some(tree) = &*tree else { return Some(Err(Error::closed())) };
        let _beside = gate::shared(patience)?;
        if let Err(error) = self.health.check() {
            return Some(Err(error));
        }
        Some(match catch_unwind(AssertUnwindSafe(|| read(tree))) {
            Ok(Err(error)) if is_fatal(&error) => {
                self.health.poison(Trouble::failed(&error));
                Err(error)
            }
            Ok(answer) => answer,
            Err(_panic) => {
                self.health.poison(Trouble::panicked("a read"));
                Err(Error::unavailable(self.health.story()))
            }
        })
    }
}

impl Inner {
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        self.shared
            .read(move |tree| {
                let Some(stored) = tree.get(data_key(&key)).map_err(from_sled)? else { return Ok(None) };
                let (entry, deadline) = entry(&key, stored)?;
                // What never expires asks no clock.
                let is_live = deadline.as_millis().is_none() || !deadline.has_passed(shared.clock.now());
                Ok(is_live.then_some(entry))
            })
            .await
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        self.shared
            .read(move |tree| {
                let Some(stored) = tree.get(data_key(&key)).map_err(from_sled)? else { return Ok(false) };
                Ok(!stored::deadline(&key, &stored)?.has_passed(shared.clock.now()))
            })
            .await
    }

    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        self.shared.list(query).await
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.send_set(key, value, options).await?.wait(self).await
    }

    /// Several writes at once: they wait in the same batch.
    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut sent = Vec::with_capacity(items.len());
        for item in items {
            sent.push(self.send_set(&item.key, item.value.clone(), &item.options).await);
        }
        self.wait_for(sent).await
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.send_delete(key, options).await?.wait(self).await
    }

    /// As [`Inner::set_many`].
    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let options = DeleteOptions::default();
        let mut sent = Vec::with_capacity(keys.len());
        for key in keys {
            sent.push(self.send_delete(key, &options).await);
        }
        self.wait_for(sent).await
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let key = key.clone();
        self.write(None, key.as_str().len(), move |draft| decide::touch(draft, &key, expiry)).await
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        options.check(&self.info.capabilities)?;
        let (key, options, version) = (key.clone(), options.clone(), Version::random());
        let judge = move |draft: &mut Draft<'_>| decide::increment(draft, &key, by, version, &options);
        self.write(Some(version), 64, judge).await
    }

    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        let transaction = transaction.clone();
        let versions: Vec<_> = transaction.mutations.iter().map(|_| Version::random()).collect();
        let bytes = transaction.mutations.iter().map(mutation_bytes).sum();
        let first = versions.first().copied();
        self.write(first, bytes, move |draft| decide::commit(draft, &transaction, &versions)).await
    }

    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let mut range = data_range(prefix_range(prefix));
        let mut removed = 0;
        loop {
            let asked = range.clone();
            let judge = move |draft: &mut Draft<'_>| draft.clear(&asked, CLEAR_LIMIT, CLEAR_BYTES);
            let (went, last) = self.write(None, CLEAR_BYTES, judge).await?;
            removed += went;
            match last {
                Some(last) => range.0 = Bound::Excluded(last.to_vec()),
                None => return Ok(removed),
            }
        }
    }

    pub(crate) async fn sweep(&self) -> Result<u64> {
        let mut removed = 0;
        loop {
            let (seen, went) = self.write(None, CLEAR_BYTES, |draft| draft.sweep(SWEEP_LIMIT)).await?;
            removed += went;
            if seen < SWEEP_LIMIT {
                return Ok(removed);
            }
        }
    }

    pub(crate) fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.info.limits.check_message(message.len())?;
        self.shared.health.check()?;
        self.shared.letters.tell(&Letter { channel: channel.clone(), payload: message });
        Ok(())
    }

    pub(crate) fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.shared.health.check()?;
        Ok(deliver(self.shared.letters.subscribe(channels.clone())))
    }

    pub(crate) async fn flush(&self) -> Result<()> {
        self.shared.health.check_write()?;
        let (reply, answer) = oneshot::channel();
        self.post(Message::Flush(reply)).await?;
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(self.gone())),
            () = self.shared.health.poisoned() => Err(self.gone()),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        if self.shared.health.is_closed() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        // Also a store that was given up gives its files back, as long as its thread is there to do it.
        let closed = async {
            match self.messages.send(Message::Close(reply)).await {
                Ok(()) => answer.await.unwrap_or(Ok(())),
                Err(_) => Ok(()),
            }
        };
        tokio::select! {
            biased;
            closed = closed => closed,
            () = self.shared.health.hung() => {
                self.shared.health.close();
                Err(Error::unavailable("sled does not come back: the files stay locked until this process ends"))
            }
        }
    }

    async fn send_set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<Waiting<SetOutcome>> {
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())?;
        let (key, options, version) = (key.clone(), options.clone(), Version::random());
        let bytes = key.as_str().len() + value.len();
        self.send(Some(version), bytes, move |draft| decide::set(draft, &key, &value, version, &options)).await
    }

    async fn send_delete(&self, key: &Key, options: &DeleteOptions) -> Result<Waiting<DeleteOutcome>> {
        options.check(&self.info.capabilities)?;
        let (key, options) = (key.clone(), options.clone());
        self.send(None, key.as_str().len(), move |draft| decide::delete(draft, &key, &options)).await
    }

    /// Gives a write to the worker and waits for its answer.
    async fn write<T: Send + 'static>(
        &self,
        version: Option<Version>,
        bytes: usize,
        judge: impl FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.send(version, bytes, judge).await?.wait(self).await
    }

    /// Gives a write to the worker.
    async fn send<T: Send + 'static>(
        &self,
        version: Option<Version>,
        bytes: usize,
        judge: impl FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
    ) -> Result<Waiting<T>> {
        self.shared.health.check_write()?;
        let (job, waiting) = request(version, bytes, judge);
        self.post(Message::Write(job)).await?;
        Ok(waiting)
    }

    async fn wait_for<T: Send>(&self, sent: Vec<Result<Waiting<T>>>) -> Vec<Result<T>> {
        let mut outcomes = Vec::with_capacity(sent.len());
        for waiting in sent {
            outcomes.push(match waiting {
                Ok(waiting) => waiting.wait(self).await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    async fn post(&self, message: Message) -> Result<()> {
        // Mostly there is room, and nothing to wait for.
        let message = match self.messages.try_send(message) {
            Ok(()) => return Ok(()),
            Err(tokio::sync::mpsc::error::TrySendError::Full(message)) => message,
            Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => return Err(self.gone()),
        };
        tokio::select! {
            biased;
            sent = self.messages.send(message) => sent.map_err(|_| self.gone()),
            () = self.shared.health.poisoned() => Err(self.gone()),
        }
    }

    /// Why the worker does not answer.
    fn gone(&self) -> Error {
        match self.shared.health.check_write() {
            Err(error) => error,
            Ok(()) => Error::unavailable("the store's thread has ended"),
        }
    }
}

impl<T> Waiting<T> {
    async fn wait(mut self, store: &Inner) -> Result<T> {
        let answer = tokio::select! {
            biased;
            answer = &mut self.answer => answer.ok(),
            () = store.shared.health.poisoned() => None,
        };
        answer.unwrap_or_else(|| Err(self.lost(store.gone())))
    }
}

fn mutation_bytes(mutation: &kv_core::Mutation) -> usize {
    match mutation {
        kv_core::Mutation::Set { key, value, .. } => key.as_str().len() + value.len(),
        other => other.key().as_str().len(),
    }
}

/// What a prefix covers, as the texts of keys.
fn prefix_range(prefix: &KeyPrefix) -> (Bound<String>, Bound<String>) {
    let (start, end) = prefix.range();
    (Bound::Included(start.to_owned()), end.map_or(Bound::Unbounded, Bound::Excluded))
}
