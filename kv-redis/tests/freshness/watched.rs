//! A store with a sink, a watcher and a subscriber, which checks that faults are announced.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, Clock, GapReason, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, Moment, Registration,
    SystemClock, WatchEvent, WatchQuery, WatchStream, WatchTarget,
};
use kv_redis::RedisStore;
use tokio::time::timeout;

use crate::support::{at, key, set, value};

pub(crate) const BOUND: Duration = Duration::from_millis(500);
/// The tolerance for a busy machine.
const SLACK: Duration = Duration::from_secs(1);
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A sink that records its calls with their moments.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Mutex<Vec<(Moment, Call)>>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Changed(Key),
    Current(Moment),
    Lost(GapReason),
}

impl Recorded {
    fn push(&self, call: Call) {
        self.0.lock().unwrap().push((Moment::now(), call));
    }

    pub(crate) fn calls(&self) -> Vec<(Moment, Call)> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for a call at or after `since`, and returns its moment.
    pub(crate) async fn wait(&self, since: Moment, expected: &str, is_expected: impl Fn(&Call) -> bool) -> Moment {
        let started = Moment::now();
        loop {
            let calls = self.calls();
            let found = calls.iter().find(|(at, call)| *at >= since && is_expected(call));
            if let Some((at, _)) = found {
                return *at;
            }
            assert!(started.elapsed() < LIMIT, "expected {expected}, got {:?}", calls.iter().rev().take(9));
            SystemClock.sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits for a call of `current` with a moment after now.
    pub(crate) async fn expect_current(&self) {
        let now = Moment::now();
        self.wait(now, "a call of `current`", |call| matches!(call, Call::Current(as_of) if *as_of >= now)).await;
    }
}

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.push(Call::Changed(key.clone()));
    }

    fn current(&self, as_of: Moment) {
        self.push(Call::Current(as_of));
    }

    fn lost(&self, reason: GapReason) {
        self.push(Call::Lost(reason));
    }
}

/// A store with a sink, a watcher and a subscriber, and another handle on the same entries.
pub(crate) struct Watched {
    pub(crate) store: RedisStore,
    pub(crate) other: RedisStore,
    pub(crate) sink: Arc<Recorded>,
    pub(crate) watch: WatchStream,
    messages: MessageStream,
    _registration: Registration,
}

impl Watched {
    /// Opens the watched store at `url`, and the other handle at `other`.
    pub(crate) async fn open(url: &str, other: &str) -> Self {
        let second = Duration::from_secs(1);
        // No settings reader helps to notice a fault.
        let builder = at(url).watch_loss_bound(BOUND).heartbeat(3_600 * second).sweep_interval(3_600 * second);
        let store = builder.connect_timeout(3 * second).operation_timeout(second).open().await.unwrap();
        assert_eq!(store.info().watch_loss_bound, BOUND);
        let other = at(other).open().await.unwrap();
        let sink = Arc::new(Recorded::default());
        let target = WatchTarget::from(KeyPrefix::ALL);
        let registration = store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();
        assert!(matches!(sink.calls().last(), Some((_, Call::Current(_)))), "{:?}", sink.calls());
        let watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
        sink.expect_current().await;
        Self { store, other, sink, watch, messages, _registration: registration }
    }

    pub(crate) async fn next_event(&mut self) -> WatchEvent {
        timeout(LIMIT, self.watch.next()).await.unwrap().unwrap().unwrap()
    }

    /// Waits until a fault from the moment `since` is announced to all. Panics if that takes longer than the bound.
    pub(crate) async fn expect_announced(&mut self, fault: &str, since: Moment, reason: GapReason) {
        let (watch, messages, sink) = (&mut self.watch, &mut self.messages, &self.sink);
        let watcher = async {
            loop {
                match timeout(LIMIT, watch.next()).await.unwrap().unwrap().unwrap() {
                    WatchEvent::Suspended { reason: found } => {
                        assert_eq!(found, reason, "{fault}");
                        return since.elapsed();
                    }
                    // A new replica removes its entries before it copies the entries of its master.
                    WatchEvent::Set { .. }
                    | WatchEvent::Removed { .. }
                    | WatchEvent::Gap { reason: GapReason::Flushed } => {}
                    event => panic!("{fault}: {event:?} before the suspension"),
                }
            }
        };
        let subscriber = async {
            let event = timeout(LIMIT, messages.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(event, MessageEvent::Suspended { reason }, "{fault}");
            since.elapsed()
        };
        let lost = sink.wait(since, "a call of `lost`", |call| *call == Call::Lost(reason));
        let (watcher, subscriber, lost) = tokio::join!(watcher, subscriber, lost);
        self.check_times(fault, since, lost, &[watcher, subscriber]);
    }

    pub(crate) fn check_times(&self, fault: &str, since: Moment, lost: Moment, others: &[Duration]) {
        let before = self.sink.calls().into_iter().filter(|(at, _)| *at <= lost);
        let as_of = before.filter_map(|(_, call)| if let Call::Current(as_of) = call { Some(as_of) } else { None });
        let age = lost.since(as_of.last().unwrap());
        let sink = lost.since(since);
        let times = format!("sink {sink:?}, watcher and subscriber {others:?}, age of `as_of` {age:?}");
        println!("{fault}: {times}");
        for time in [&[sink, age], others].concat() {
            assert!(time <= BOUND + SLACK, "{fault}: {times}");
        }
    }

    /// Waits for the gap after a fault that has ended, and checks that changes and messages arrive again.
    pub(crate) async fn expect_recovered(&mut self, fault: &str) {
        loop {
            match self.next_event().await {
                WatchEvent::Gap { .. } => break,
                // A loss may be announced again before the gap, and changes from before the loss may be queued.
                WatchEvent::Suspended { .. } | WatchEvent::Set { .. } | WatchEvent::Removed { .. } => {}
                event => panic!("{fault}: {event:?} before the gap"),
            }
        }
        loop {
            let event = timeout(LIMIT, self.messages.next()).await.unwrap().unwrap().unwrap();
            match event {
                MessageEvent::Gap { .. } => break,
                MessageEvent::Suspended { .. } => {}
                event => panic!("{fault}: {event:?} before the gap"),
            }
        }
        self.expect_changes(fault).await;
        self.other.publish(&key("channel"), fault.to_owned().into()).await.unwrap();
        loop {
            let event = timeout(LIMIT, self.messages.next()).await.unwrap().unwrap().unwrap();
            match event {
                MessageEvent::Message(message) if message.payload == fault => break,
                MessageEvent::Suspended { .. } | MessageEvent::Gap { .. } => {}
                event => panic!("{fault}: {event:?}"),
            }
        }
    }

    /// Checks that changes arrive.
    pub(crate) async fn expect_changes(&mut self, fault: &str) {
        self.sink.expect_current().await;
        let now = Moment::now();
        let _ = set(&self.other, "after", fault).await.unwrap();
        self.sink.wait(now, "the change after the fault", |call| *call == Call::Changed(key("after"))).await;
        self.sink.expect_current().await;
        loop {
            match self.next_event().await {
                WatchEvent::Set { key: changed, .. } if changed == key("after") => break,
                WatchEvent::Suspended { .. } | WatchEvent::Gap { .. } | WatchEvent::Set { .. } => {}
                event => panic!("{fault}: {event:?}"),
            }
        }
        assert_eq!(value(&self.store, "after").await.as_deref(), Some(fault));
    }
}
