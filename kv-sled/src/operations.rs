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
use sled::{IVec, Tree};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::behind::Found;
use crate::codec::{data_key, data_range, entry};
use crate::decide;
use crate::draft::Draft;
use crate::error::{from_sled, is_fatal};
use crate::gate;
use crate::handle::{Inner, Shared};
use crate::health::Trouble;
use crate::request::{About, Message, Order, Sent, request};
use crate::worker::SWEEP_LIMIT;

/// How long a call waits for another on the caller's own thread.
pub(crate) const BRIEF: Duration = Duration::from_millis(2);

/// How many records, and about how many bytes of them, `clear` removes in one batch.
const CLEAR_LIMIT: usize = 1_000;
const CLEAR_BYTES: usize = 8 << 20;

impl Shared {
    /// Reads the tree on the caller's thread. While a batch takes long, a thread that may block waits for its end.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.patiently(move |shared, patience| shared.try_read(patience, &read)).await
    }

    /// Reads what is stored under a key, or will be when what waits to be written is.
    async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        key: &Key,
        read: impl Fn(&Self, &Key, Option<IVec>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let key = key.clone();
        self.patiently(move |shared, patience| {
            if let Some(behind) = &shared.behind
                && let Found::Stored(stored) = behind.look(&key, patience)?
            {
                return Some(shared.health.check().and_then(|()| read(shared, &key, stored)));
            }
            shared.try_read(patience, &|tree| read(shared, &key, tree.get(data_key(&key)).map_err(from_sled)?))
        })
        .await
    }

    /// Tries on the caller's thread, and where that takes long on one that may block.
    pub(crate) async fn patiently<T: Send + 'static>(
        self: &Arc<Self>,
        attempt: impl Fn(&Self, Duration) -> Option<Result<T>> + Send + 'static,
    ) -> Result<T> {
        if let Some(answer) = attempt(self, BRIEF) {
            return answer;
        }
        let shared = Arc::clone(self);
        let patient = move || {
            let stuck = || Err(Error::unavailable("a write stands still, and reads wait behind it"));
            attempt(&shared, shared.operation_timeout).unwrap_or_else(stuck)
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
        self.shared
            .look(key, |shared, key, stored| {
                let Some(stored) = stored else { return Ok(None) };
                let (entry, deadline) = entry(key, stored)?;
                // What never expires asks no clock.
                let is_live = deadline.as_millis().is_none() || !deadline.has_passed(shared.clock.now());
                Ok(is_live.then_some(entry))
            })
            .await
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        self.shared
            .look(key, |shared, key, stored| {
                let Some(stored) = stored else { return Ok(false) };
                Ok(!stored::deadline(key, &stored)?.has_passed(shared.clock.now()))
            })
            .await
    }

    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        self.shared.list(query).await
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.send_set(key, value, options, Order::Any).await?.wait(self).await
    }

    /// Several writes at once: they wait in the same batch.
    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut sent = Vec::with_capacity(items.len());
        for item in items {
            let order = Order::behind(&sent);
            sent.push(self.send_set(&item.key, item.value.clone(), &item.options, order).await);
        }
        self.wait_for(sent).await
    }

    pub(crate) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.send_delete(key, options, Order::Any).await?.wait(self).await
    }

    /// As [`Inner::set_many`].
    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let options = DeleteOptions::default();
        let mut sent = Vec::with_capacity(keys.len());
        for key in keys {
            let order = Order::behind(&sent);
            sent.push(self.send_delete(key, &options, order).await);
        }
        self.wait_for(sent).await
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let own = key.clone();
        self.write(About::key(key, None, 0), move |draft| decide::touch(draft, &own, expiry)).await
    }

    pub(crate) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        options.check(&self.info.capabilities)?;
        let (own, options, version) = (key.clone(), options.clone(), Version::random());
        let judge = move |draft: &mut Draft<'_>| decide::increment(draft, &own, by, version, &options);
        self.write(About::key(key, Some(version), 64), judge).await
    }

    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        let transaction = transaction.clone();
        let versions: Vec<_> = transaction.mutations.iter().map(|_| Version::random()).collect();
        let bytes = transaction.mutations.iter().map(mutation_bytes).sum();
        let about = About { key: None, version: versions.first().copied(), bytes };
        self.write(about, move |draft| decide::commit(draft, &transaction, &versions)).await
    }

    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let mut range = data_range(prefix_range(prefix));
        let mut removed = 0;
        loop {
            let asked = range.clone();
            let judge = move |draft: &mut Draft<'_>| draft.clear(&asked, CLEAR_LIMIT, CLEAR_BYTES);
            let (went, last) = self.write(About::long(CLEAR_BYTES), judge).await?;
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
            let (seen, went) = self.write(About::long(CLEAR_BYTES), |draft| draft.sweep(SWEEP_LIMIT)).await?;
            removed += went;
            if seen < SWEEP_LIMIT {
                return Ok(removed);
            }
        }
    }

    pub(crate) fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.info.limits.check_message(message.len())?;
        self.shared.health.check()?;
        self.shared.letters.notify(&Letter { channel: channel.clone(), payload: message });
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

    async fn send_set(&self, key: &Key, value: Bytes, options: &SetOptions, order: Order) -> Result<Sent<SetOutcome>> {
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())?;
        let (own, options, version) = (key.clone(), options.clone(), Version::random());
        let about = About::key(key, Some(version), value.len());
        self.send(about, order, move |draft| decide::set(draft, &own, &value, version, &options)).await
    }

    async fn send_delete(&self, key: &Key, options: &DeleteOptions, order: Order) -> Result<Sent<DeleteOutcome>> {
        options.check(&self.info.capabilities)?;
        let (own, options) = (key.clone(), options.clone());
        self.send(About::key(key, None, 0), order, move |draft| decide::delete(draft, &own, &options)).await
    }

    /// Gives a write away and waits for its answer.
    async fn write<T: Send + 'static>(
        &self,
        about: About<'_>,
        judge: impl FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.send(about, Order::Any, judge).await?.wait(self).await
    }

    /// Judges a write at once where it may be written behind, and gives it to the worker otherwise.
    async fn send<T: Send + 'static>(
        &self,
        about: About<'_>,
        order: Order,
        judge: impl FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
    ) -> Result<Sent<T>> {
        self.shared.health.check_write()?;
        let judge = match order {
            Order::Any => match self.shared.judge_here(&about, judge) {
                Ok(answer) => return Ok(Sent::Answered(answer)),
                Err(judge) => judge,
            },
            Order::Behind => judge,
        };
        let (job, waiting) = request(about.version, about.bytes, judge);
        self.post(Message::Write(job)).await?;
        Ok(Sent::Waiting(waiting))
    }

    async fn wait_for<T: Send>(&self, sent: Vec<Result<Sent<T>>>) -> Vec<Result<T>> {
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

impl<T> Sent<T> {
    async fn wait(self, store: &Inner) -> Result<T> {
        let mut waiting = match self {
            Self::Answered(answer) => return answer,
            Self::Waiting(waiting) => waiting,
        };
        let answer = tokio::select! {
            biased;
            answer = &mut waiting.answer => answer.ok(),
            () = store.shared.health.poisoned() => None,
        };
        answer.unwrap_or_else(|| Err(waiting.lost(store.gone())))
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
