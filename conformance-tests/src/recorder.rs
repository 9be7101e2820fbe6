//! Records the last operations of a case for its failure text.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Display, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Expiry, GetOptions, GetOutcome, IncrementOptions,
    Key, KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, NewExpiry, Registration, Result, SetItem, SetOptions,
    SetOutcome, StoreInfo, Transaction, WatchQuery, WatchStream, WatchTarget, When,
};

use crate::activity::Activity;

/// A store that records its last operations with their results. Clones share one record.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    inner: Arc<dyn KvStore>,
    label: &'static str,
    log: Arc<Mutex<VecDeque<String>>>,
    activity: Activity,
    /// True after a call of `close`, even if the call failed.
    is_closed: Arc<AtomicBool>,
}

impl Recorder {
    /// The maximum number of recorded operations.
    const MAX_OPERATIONS: usize = 12;

    pub(crate) fn new(inner: Arc<dyn KvStore>) -> Self {
        Self { inner, label: "", log: Arc::default(), activity: Activity::new(), is_closed: Arc::default() }
    }

    /// A recorder of another store that writes into the same record, with a label in front of each operation.
    pub(crate) fn sibling(&self, inner: Arc<dyn KvStore>, label: &'static str) -> Self {
        let (log, activity) = (Arc::clone(&self.log), self.activity.clone());
        Self { inner, label, log, activity, is_closed: Arc::default() }
    }

    /// The store without the recorder.
    pub(crate) fn inner(&self) -> &Arc<dyn KvStore> {
        &self.inner
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The running and finished operations of the case.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(crate) fn last_operations(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note<T: Debug>(&self, call: impl Display, result: &T) {
        let line = match self.label {
            "" => shortened(format_args!("{call} -> {result:?}")),
            label => shortened(format_args!("[{label}] {call} -> {result:?}")),
        };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == Self::MAX_OPERATIONS {
            log.pop_front();
        }
        log.push_back(line);
    }
}

/// Returns the start of a text. The rest, which may be megabytes of a value, is not formatted.
fn shortened(text: impl Display) -> String {
    struct Start(String);

    impl Start {
        const BYTES: usize = 240;
    }

    impl Write for Start {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for char in text.chars() {
                if self.0.len() >= Self::BYTES {
                    self.0.push('…');
                    return Err(fmt::Error);
                }
                self.0.push(char);
            }
            Ok(())
        }
    }

    let mut start = Start(String::new());
    // The error only says that the limit was reached.
    let _ = write!(start, "{text}");
    start.0
}

/// The options of a set that differ from the defaults.
struct NonDefault<'o>(&'o SetOptions);

impl Display for NonDefault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SetOptions { expiry, when, return_previous, .. } = self.0;
        match expiry {
            Expiry::Never => {}
            Expiry::After(ttl) => write!(f, " for {ttl:?}")?,
            other => write!(f, " {other:?}")?,
        }
        write!(f, "{}", Conditional { when, return_previous: *return_previous })
    }
}

/// A condition other than `Always`, and the request for the previous entry.
struct Conditional<'o> {
    when: &'o When,
    return_previous: bool,
}

impl Display for Conditional<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self.when != When::Always {
            write!(f, " when {:?}", self.when)?;
        }
        f.write_str(if self.return_previous { " with the previous entry" } else { "" })
    }
}

/// The value, or its length if it is long.
fn brief(value: &Bytes) -> String {
    if value.len() <= 40 { format!("{value:?}") } else { format!("<{} bytes>", value.len()) }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for Recorder {
    fn info(&self) -> &StoreInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let _running = self.activity.begin("get");
        let result = self.inner.get(key).await;
        self.note(
            format_args!("get {key}"),
            &result.as_ref().map(|entry| entry.as_ref().map(|entry| brief(&entry.value))),
        );
        result
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        let _running = self.activity.begin("get_with");
        let result = self.inner.get_with(key, options).await;
        self.note(format_args!("get_with {key} {options:?}"), &result);
        result
    }

    async fn time(&self) -> Result<SystemTime> {
        let _running = self.activity.begin("time");
        let result = self.inner.time().await;
        self.note("time", &result);
        result
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let _running = self.activity.begin("set");
        let call = shortened(format_args!("set {key} {}{}", brief(&value), NonDefault(options)));
        let result = self.inner.set(key, value, options).await;
        self.note(call, &result);
        result
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let _running = self.activity.begin("delete");
        let result = self.inner.delete(key, options).await;
        let DeleteOptions { when, return_previous, .. } = options;
        let options_text = Conditional { when, return_previous: *return_previous };
        self.note(format_args!("delete {key}{options_text}"), &result);
        result
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let _running = self.activity.begin("contains");
        let result = self.inner.contains(key).await;
        self.note(format_args!("contains {key}"), &result);
        result
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let _running = self.activity.begin("get_many");
        let results = self.inner.get_many(keys).await;
        self.note(format_args!("get_many of {} keys", keys.len()), &results.len());
        results
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let _running = self.activity.begin("set_many");
        let results = self.inner.set_many(items).await;
        self.note(format_args!("set_many of {} keys", items.len()), &results.len());
        results
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let _running = self.activity.begin("delete_many");
        let results = self.inner.delete_many(keys).await;
        self.note(format_args!("delete_many of {} keys", keys.len()), &results.len());
        results
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let _running = self.activity.begin("list");
        let result = self.inner.list(query).await;
        let summary = result.as_ref().map(|page| {
            let keys: Vec<_> = page.items.iter().map(|item| item.key.as_str()).collect();
            format!("{} keys {keys:?}, next {:?}", keys.len(), page.next)
        });
        self.note(format_args!("list {query:?}"), &summary);
        result
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let _running = self.activity.begin("clear");
        let result = self.inner.clear(prefix).await;
        self.note(format_args!("clear {prefix}"), &result);
        result
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let _running = self.activity.begin("touch");
        let result = self.inner.touch(key, expiry).await;
        self.note(format_args!("touch {key} {expiry:?}"), &result);
        result
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let _running = self.activity.begin("increment");
        let result = self.inner.increment(key, by, options).await;
        self.note(format_args!("increment {key} by {by} {options:?}"), &result);
        result
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let _running = self.activity.begin("commit");
        let result = self.inner.commit(transaction).await;
        self.note(format_args!("commit {transaction:?}"), &result);
        result
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let _running = self.activity.begin("watch");
        let result = self.inner.watch(query).await;
        self.note(format_args!("watch {query:?}"), &result.as_ref().map(|_| "a stream"));
        result
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let _running = self.activity.begin("watch_into");
        let result = self.inner.watch_into(target, sink).await;
        self.note(format_args!("watch_into {target:?}"), &result.as_ref().map(|_| "a registration"));
        result
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let _running = self.activity.begin("publish");
        let call = shortened(format_args!("publish {channel} {}", brief(&message)));
        let result = self.inner.publish(channel, message).await;
        self.note(call, &result);
        result
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let _running = self.activity.begin("subscribe");
        let result = self.inner.subscribe(channels).await;
        self.note(format_args!("subscribe {channels}"), &result.as_ref().map(|_| "a stream"));
        result
    }

    async fn ping(&self) -> Result<()> {
        let _running = self.activity.begin("ping");
        let result = self.inner.ping().await;
        self.note("ping", &result);
        result
    }

    async fn flush(&self) -> Result<()> {
        let _running = self.activity.begin("flush");
        let result = self.inner.flush().await;
        self.note("flush", &result);
        result
    }

    async fn sweep(&self) -> Result<u64> {
        let _running = self.activity.begin("sweep");
        let result = self.inner.sweep().await;
        self.note("sweep", &result);
        result
    }

    async fn close(&self) -> Result<()> {
        let _running = self.activity.begin("close");
        let result = self.inner.close().await;
        self.is_closed.store(true, Ordering::Release);
        self.note("close", &result);
        result
    }
}
