//! Sinks as subscribers of a hub of changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::places::Subscriber;
use super::{Changes, Shared};
use crate::change_sink::ChangeSink;
use crate::watch::GapReason;

/// Calls a sink. If it panics, tells it that changes may be missing: a panic must not end the writer that calls.
pub(super) fn call(sink: &dyn ChangeSink, call: impl FnOnce(&dyn ChangeSink)) {
    if catch_unwind(AssertUnwindSafe(|| call(sink))).is_err() {
        let _ = catch_unwind(AssertUnwindSafe(|| sink.lost(GapReason::Lagged)));
    }
}

/// Ends the registration of a sink on drop.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) subscriber: Arc<Subscriber<Changes>>,
    pub(super) shared: Arc<Shared<Changes>>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.shared.remove(&self.subscriber);
    }
}
