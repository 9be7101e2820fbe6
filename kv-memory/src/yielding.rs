//! Long loops over entries: work in batches, and yield to other tasks in between.

use std::future::poll_fn;
use std::task::Poll;

/// Entries that a loop handles under one lock and between two yields.
pub(crate) const BATCH: usize = 256;

/// Yields to other tasks. Works on any executor.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
