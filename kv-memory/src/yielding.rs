//! Yielding to other tasks: in loops of calls that are always ready, and in long loops over entries.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// Entries that a loop handles under one lock and between two yields.
pub(crate) const BATCH: usize = 256;

/// Keys that cost one unit of tokio's cooperative budget. A task gets 128 units each time it is polled, so it yields
/// about every 2,048 keys, which take some tenths of a millisecond.
const KEYS_PER_UNIT: usize = 16;

thread_local! {
    /// Keys that calls on this thread have used since the last unit. Spending a unit costs more than a tenth of a `get`,
    /// counting here costs a few instructions. The tasks of a thread share the number: each call counts for the task
    /// that reaches a whole unit, and a task in a tight loop reaches most of them.
    static KEYS: Cell<usize> = const { Cell::new(0) };
}

/// Charges the current tokio task for a call over `keys` keys, or as costly as one. Returns `Pending`, and wakes the task, if its budget is
/// spent. Always ready outside of tokio.
///
/// A caller that polls again after `Pending` is charged again. The task has a new budget by then.
#[inline]
pub(crate) fn poll_charge(keys: usize, context: &mut Context<'_>) -> Poll<()> {
    let keys = KEYS.get().saturating_add(keys);
    if keys < KEYS_PER_UNIT {
        KEYS.set(keys);
        return Poll::Ready(());
    }
    poll_spend(keys, context)
}

#[cold]
#[inline(never)]
fn poll_spend(keys: usize, context: &mut Context<'_>) -> Poll<()> {
    KEYS.set(keys % KEYS_PER_UNIT);
    for _ in 0..keys / KEYS_PER_UNIT {
        ready!(coop::poll_proceed(context)).made_progress();
    }
    Poll::Ready(())
}

/// Charges the current tokio task for a call over `keys` keys, and yields at most once if its budget is spent.
#[inline]
pub(crate) async fn charge(keys: usize) {
    let mut has_yielded = false;
    poll_fn(|context| {
        if !has_yielded {
            has_yielded = true;
            ready!(poll_charge(keys, context));
        }
        Poll::Ready(())
    })
    .await;
}

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
