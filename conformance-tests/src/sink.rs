//! Sinks that record their calls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kv_core::{ChangeSink, Clock, GapReason, Key, KvStore, Moment, Registration, SystemClock, WatchTarget};

use crate::context::Context;
use crate::failure::{Failure, Verdict, ensure};

/// The time beyond the declared bound that a call may take on a busy machine.
pub(crate) const TOLERANCE: Duration = Duration::from_secs(5);

/// A sink that records its calls.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Mutex<Calls>);

/// The calls of a sink.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) changed: Vec<Key>,
    /// The last moment of `current`, or `None` after a loss.
    pub(crate) as_of: Option<Moment>,
    /// The latest moment of all calls of `current`.
    pub(crate) latest_as_of: Option<Moment>,
    pub(crate) lost: Vec<GapReason>,
    /// The age that the latest `as_of` had at the first call of `lost`.
    pub(crate) age_at_loss: Option<Duration>,
}

impl Recorded {
    /// Reads or changes the record of the calls.
    pub(crate) fn calls<T>(&self, read: impl FnOnce(&mut Calls) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers a new sink.
    pub(crate) async fn register(
        cx: &Context,
        target: impl Into<WatchTarget>,
    ) -> Result<(Arc<Self>, Registration), Failure> {
        let sink = Arc::new(Self::default());
        let registration = cx.store().watch_into(&target.into(), Arc::clone(&sink) as Arc<dyn ChangeSink>).await?;
        Ok((sink, registration))
    }

    /// Waits until a condition on the calls holds. With a bound of zero, it must hold at once.
    pub(crate) async fn wait(&self, cx: &Context, expected: &str, holds: impl Fn(&Calls) -> bool) -> Verdict {
        let bound = cx.store().info().watch_loss_bound;
        let limit = if bound.is_zero() { bound } else { bound.saturating_add(TOLERANCE) };
        self.wait_for(limit, expected, holds).await
    }

    /// Waits until a condition on the calls holds, and fails after the limit.
    pub(crate) async fn wait_for(&self, limit: Duration, expected: &str, holds: impl Fn(&Calls) -> bool) -> Verdict {
        let started = Moment::now();
        while !self.calls(|calls| holds(calls)) {
            let calls = self.calls(|calls| format!("{calls:?}"));
            ensure!(!limit.is_zero(), "with a bound of zero, expected at once {expected}; the calls so far: {calls}");
            ensure!(started.elapsed() < limit, "expected {expected} within {limit:?}; the calls so far: {calls}");
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until the key was passed on, and forgets all changes.
    pub(crate) async fn expect_changed(&self, cx: &Context, write: &str, key: &Key) -> Verdict {
        let expected = format!("a call for {key} after {write}");
        self.wait(cx, &expected, |calls| calls.changed.contains(key)).await?;
        self.calls(|calls| calls.changed.clear());
        Ok(())
    }
}

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.calls(|calls| calls.changed.push(key.clone()));
    }

    fn current(&self, as_of: Moment) {
        self.calls(|calls| {
            calls.as_of = Some(as_of);
            calls.latest_as_of = calls.latest_as_of.max(Some(as_of));
        });
    }

    fn lost(&self, reason: GapReason) {
        self.calls(|calls| {
            calls.as_of = None;
            let latest = calls.latest_as_of;
            calls.age_at_loss.get_or_insert_with(|| latest.map_or(Duration::ZERO, Moment::elapsed));
            calls.lost.push(reason);
        });
    }
}
