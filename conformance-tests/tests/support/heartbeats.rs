//! Sinks that are called over a simulated connection, with heartbeats.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::{ChangeSink, Clock, GapReason, Key, Moment, SystemClock};
use tokio::task::AbortHandle;

use super::link::Link;

/// Passes calls on while the connection is not cut.
#[derive(Debug)]
pub(super) struct HeartbeatSink {
    sink: Arc<dyn ChangeSink>,
    link: Link,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The number of cuts and heals at the last heartbeat.
    switches: u64,
    as_of: Moment,
    is_lost: bool,
    is_closed: bool,
}

/// Ends the heartbeats on drop.
pub(super) struct Heartbeats(AbortHandle);

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HeartbeatSink {
    pub(super) fn new(sink: Arc<dyn ChangeSink>, link: Link) -> Self {
        let state = State { switches: link.switches(), as_of: Moment::now(), is_lost: false, is_closed: false };
        Self { sink, link, state: Mutex::new(state) }
    }

    /// Starts the heartbeats, which are sent four times within the bound.
    pub(super) fn run(self: Arc<Self>, bound: Duration) -> Heartbeats {
        let task = tokio::spawn(async move {
            loop {
                self.beat(bound);
                SystemClock.sleep(bound / 4).await;
            }
        });
        Heartbeats(task.abort_handle())
    }

    fn beat(&self, bound: Duration) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let sent = Moment::now();
        let (switches, is_cut) = (self.link.switches(), self.link.is_cut());
        if is_cut {
            if !state.is_lost && sent.since(state.as_of) >= bound / 2 {
                state.is_lost = true;
                self.sink.lost(GapReason::Unanswered);
            }
            return;
        }
        if switches != state.switches && !state.is_lost {
            self.sink.lost(GapReason::Reconnected);
        }
        // The store is in this process, so every change that was visible before this moment has been passed on.
        *state = State { switches, as_of: sent, is_lost: false, is_closed: false };
        self.sink.current(sent);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeSink for HeartbeatSink {
    fn changed(&self, key: &Key) {
        if !self.link.is_cut() {
            self.sink.changed(key);
        }
    }

    /// The store in this process is always current, and the connection is not.
    fn current(&self, _as_of: Moment) {}

    fn lost(&self, reason: GapReason) {
        self.state().is_closed = true;
        self.sink.lost(reason);
    }
}
