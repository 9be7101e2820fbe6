//! The store over an engine.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::coop::consume_budget;

use super::super::context::ErrorContext;
use super::super::page::PageFiller;
use super::super::writer::{Writer, WriterOptions};
use super::committer::EngineCommitter;
use super::layout::{OwnedRange, data_key, data_range, decode_data};
use super::visible::Visible;
use super::write::responses;
use super::{CAPABILITIES, Engine, Reads};
use crate::capabilities::Capabilities;
use crate::capability::Capability;
use crate::change_sink::{ChangeSink, Registration};
use crate::clock::{Clock, SystemClock};
use crate::durability::Durability;
use crate::entry::Entry;
use crate::error::{Error, Operation, Result};
use crate::expiry::NewExpiry;
use crate::hub::{Changes, Hub, Messages};
use crate::info::StoreInfo;
use crate::key::{Key, KeyPrefix};
use crate::limits::Limits;
use crate::list::{ListPage, ListQuery};
use crate::message::{Message, MessageStream};
use crate::message_stream::deliver;
use crate::moment::Moment;
use crate::options::{
    DeleteOptions, DeleteOutcome, GetOptions, GetOutcome, IncrementOptions, SetItem, SetOptions, SetOutcome,
};
use crate::store::KvStore;
use crate::stored;
use crate::transaction::{CommitOutcome, Transaction};
use crate::watch::{WatchQuery, WatchStream, WatchTarget};
use crate::watch_stream::follow;

/// The maximum number of records that a list reads from one snapshot. Commits wait for this read.
const CHUNK_RECORDS: usize = 256;

/// The settings of an [`EngineStore`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineOptions {
    /// The name of the backend, such as `redb`.
    pub name: &'static str,
    /// The capabilities: [`CAPABILITIES`] with the durability of the engine.
    pub capabilities: Capabilities,
    /// The size limits.
    pub limits: Limits,
    /// The clock by which deadlines are judged.
    pub clock: Arc<dyn Clock>,
    /// The settings of the writer.
    pub writer: WriterOptions,
}

impl EngineOptions {
    /// Creates the settings of a backend with this name and this durability, the system clock and default limits.
    pub fn new(name: &'static str, durability: Durability) -> Self {
        let writer = WriterOptions { thread: format!("kv-{name}"), ..WriterOptions::default() };
        let capabilities = CAPABILITIES.with_durability(durability);
        Self { name, capabilities, limits: Limits::DEFAULT, clock: Arc::new(SystemClock), writer }
    }

    /// Sets the clock, for tests that move the time.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the size limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the longest time that one call of the engine may take.
    #[must_use]
    pub fn with_operation_timeout(mut self, timeout: Duration) -> Self {
        self.writer.operation_timeout = timeout;
        self
    }

    /// Sets the interval of the background sweeper.
    #[must_use]
    pub fn with_sweep_interval(mut self, interval: Duration) -> Self {
        self.writer.sweep_interval = interval;
        self
    }
}

/// A store over an [`Engine`]: every capability of a store in one process.
///
/// Reads run on the thread of the caller, and writes on one thread of the store (group commit). Clones share one store.
/// `close` on any clone closes the store for all clones. Dropping the last clone closes the store, too.
pub struct EngineStore<E> {
    shared: Arc<Shared<E>>,
}

pub(super) struct Shared<E> {
    pub(super) info: StoreInfo,
    pub(super) context: ErrorContext,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) visible: Arc<Visible<E>>,
    pub(super) changes: Hub<Changes>,
    pub(super) messages: Hub<Messages>,
    pub(super) writer: Writer,
}

impl<E: Engine> EngineStore<E> {
    /// Opens a store. `open` returns the engine. It runs on the store's own thread, so it may block.
    ///
    /// # Errors
    /// The errors of `open`; `Corrupt` if `open` panics; `Invalid` for an interval or a timeout of zero.
    pub async fn open(options: EngineOptions, open: impl FnOnce() -> Result<E> + Send + 'static) -> Result<Self> {
        let EngineOptions { name, capabilities, limits, clock, writer } = options;
        let context = ErrorContext::new(name);
        if writer.sweep_interval.is_zero() || writer.operation_timeout.is_zero() {
            let error = Error::invalid("the sweep interval or the operation timeout is zero");
            return context.operation(Operation::Open, Err(error));
        }
        // The hub is notified of every change inside the section that makes the change visible.
        let info = StoreInfo::new(name, capabilities).with_limits(limits).with_watch_loss_bound(Duration::ZERO);
        let (visible, changes, messages) = (Arc::new(Visible::new()), Hub::new(), Hub::new());
        let committer = {
            let (visible, clock) = (Arc::clone(&visible), Arc::clone(&clock));
            let (changes, messages) = (changes.clone(), messages.clone());
            move || {
                let engine = Arc::new(open()?);
                visible.open(Arc::clone(&engine));
                Ok(EngineCommitter { engine, visible, clock, changes, messages })
            }
        };
        let writer = context.operation(Operation::Open, Writer::start(Arc::clone(&clock), writer, committer).await)?;
        Ok(Self { shared: Arc::new(Shared { info, context, clock, visible, changes, messages, writer }) })
    }

    #[cfg(test)]
    pub(super) fn changes(&self) -> &Hub<Changes> {
        &self.shared.changes
    }
}

impl<E: Engine> Shared<E> {
    /// Reads stored bytes of a key and decodes the live entry.
    fn read<T>(&self, key: &Key, decode: impl FnOnce(Bytes) -> Result<T>) -> Result<Option<T>> {
        self.visible.read(|snapshot| {
            let Some(stored) = snapshot.get(&data_key(key))? else { return Ok(None) };
            if stored::deadline(key, &stored)?.has_passed(self.clock.now()) {
                return Ok(None);
            }
            decode(stored).map(Some)
        })
    }

    fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.read(key, |stored| Ok(stored::decode(key, stored)?.0))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.visible.check_open()?;
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        let mut rest = data_range(&range);
        let mut page = PageFiller::new(query, self.info.name.clone());
        loop {
            match self
                .visible
                .read(|snapshot| read_chunk(snapshot, &rest, query.reverse, self.clock.now(), &mut page))?
            {
                Some(last) => rest.resume(last, query.reverse),
                None => return Ok(page.finish()),
            }
            // Between two chunks, the runtime checks the timeout of the caller, and commits have their turn.
            tokio::task::yield_now().await;
        }
    }

    fn watch(&self, store: impl KvStore, query: &WatchQuery) -> Result<WatchStream> {
        self.visible.check_open()?;
        query.check(&self.info.capabilities)?;
        Ok(follow(store, query.clone(), self.changes.subscribe(query.target.clone())))
    }

    fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        self.visible.check_open()?;
        self.info.capabilities.require(Capability::Sinks)?;
        Ok(self.changes.attach(target.clone(), sink, Some(Moment::now())))
    }

    fn publish(&self, channel: &Key, payload: Bytes) -> Result<()> {
        self.visible.check_open()?;
        self.info.limits.check_message(payload.len())?;
        self.messages.notify(&Message { channel: channel.clone(), payload });
        Ok(())
    }

    fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.visible.check_open()?;
        Ok(deliver(self.messages.subscribe(channels.clone())))
    }
}

/// Adds one chunk of a range to a page. Returns the physical key after which to continue; `None` if the page has ended.
fn read_chunk(
    snapshot: &impl Reads,
    range: &OwnedRange,
    reverse: bool,
    now: SystemTime,
    page: &mut PageFiller,
) -> Result<Option<Vec<u8>>> {
    let (mut records, mut bytes, mut last) = (0, 0, None);
    snapshot.scan(range.borrowed(), reverse, &mut |physical, value| {
        if let Some(key) = decode_data(physical) {
            let deadline = stored::deadline(&key, value);
            let value_bytes = value.len().saturating_sub(stored::HEADER_BYTES);
            let decode = |key: &Key| Ok(stored::decode(key, Bytes::copy_from_slice(value))?.0);
            if page.push(key, deadline, value_bytes, now, decode).is_break() {
                last = None;
                return ControlFlow::Break(());
            }
        }
        records += 1;
        bytes += value.len();
        if records >= CHUNK_RECORDS || bytes >= ListQuery::DEFAULT_PAGE_BYTES {
            last = Some(physical.to_vec());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(last)
}

impl<E> Clone for EngineStore<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Shows no keys and no values (clause E-3).
impl<E> fmt::Debug for EngineStore<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineStore").field("name", &self.shared.info.name).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<E: Engine> KvStore for EngineStore<E> {
    fn info(&self) -> &StoreInfo {
        &self.shared.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        consume_budget().await;
        self.shared.context.key(Operation::Get, key, self.shared.get(key))
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        self.shared.context.key(Operation::Get, key, options.check(&self.shared.info.capabilities))?;
        Ok(GetOutcome::of(self.get(key).await?, options))
    }

    async fn time(&self) -> Result<SystemTime> {
        let open = self.shared.visible.check_open();
        self.shared.context.operation(Operation::Time, open.map(|()| self.shared.clock.now()))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = match self.shared.set(key, value, options).await {
            Ok(sent) => sent.response().await,
            Err(error) => Err(error),
        };
        self.shared.context.key(Operation::Set, key, outcome)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = match self.shared.delete(key, options).await {
            Ok(sent) => sent.response().await,
            Err(error) => Err(error),
        };
        self.shared.context.key(Operation::Delete, key, outcome)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        consume_budget().await;
        let found = self.shared.read(key, |_| Ok(()));
        self.shared.context.key(Operation::Contains, key, found.map(|found| found.is_some()))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            consume_budget().await;
            found.push(self.shared.get(key));
        }
        self.shared.context.keys(Operation::GetMany, keys, found)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut sent = Vec::with_capacity(items.len());
        for SetItem { key, value, options } in items {
            sent.push(self.shared.set(key, value.clone(), options).await);
        }
        let keys = items.iter().map(|item| &item.key);
        self.shared.context.keys(Operation::SetMany, keys, responses(sent).await)
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let (mut sent, options) = (Vec::with_capacity(keys.len()), DeleteOptions::default());
        for key in keys {
            sent.push(self.shared.delete(key, &options).await);
        }
        self.shared.context.keys(Operation::DeleteMany, keys, responses(sent).await)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        consume_budget().await;
        self.shared.context.operation(Operation::List, self.shared.list(query).await)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.shared.context.operation(Operation::Clear, self.shared.clear(prefix).await)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.shared.context.key(Operation::Touch, key, self.shared.touch(key, expiry).await)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.shared.context.key(Operation::Increment, key, self.shared.increment(key, by, options).await)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.shared.context.operation(Operation::Commit, self.shared.commit(transaction).await)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        self.shared.context.operation(Operation::Watch, self.shared.watch(self.clone(), query))
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        self.shared.context.operation(Operation::Watch, self.shared.watch_into(target, sink))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.shared.context.key(Operation::Publish, channel, self.shared.publish(channel, message))
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.shared.context.operation(Operation::Subscribe, self.shared.subscribe(channels))
    }

    async fn ping(&self) -> Result<()> {
        self.shared.context.operation(Operation::Ping, self.shared.visible.check_open())
    }

    async fn flush(&self) -> Result<()> {
        self.shared.context.operation(Operation::Flush, self.shared.writer.flush().await)
    }

    async fn sweep(&self) -> Result<u64> {
        self.shared.context.operation(Operation::Sweep, self.shared.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        if self.shared.visible.check_open().is_err() {
            return Ok(());
        }
        let closed = self.shared.writer.close().await;
        // If the engine hangs, the writer's thread has not closed anything.
        self.shared.visible.mark_closed();
        self.shared.changes.close();
        self.shared.messages.close();
        self.shared.context.operation(Operation::Close, closed)
    }
}
