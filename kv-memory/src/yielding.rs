//! Yielding to other tasks. Calls of this store are nearly always ready, so a loop of calls, or a long loop over
//! entries, would otherwise block the other tasks of its thread.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// The maximum number of entries that a loop processes under one lock, and between two yields.
pub(crate) const BATCH: usize = 256;

/// The number of keys that cost one unit of tokio's cooperative budget. A task gets 128 units each time it is polled,
/// so it yields about every 2,048 keys, which take some tenths of a millisecond.
const KEYS_PER_UNIT: usize = 16;

thread_local! {
    /// The number of keys on this thread since a unit was last spent. Spending a unit takes more than a tenth of the
    /// time of a `get`, and counting here takes a few instructions. All tasks of a thread share the number: the task
    /// whose call completes a unit pays for the whole unit. A task in a tight loop completes most units.
    static KEYS: Cell<usize> = const { Cell::new(0) };
}

/// Charges the current tokio task for a call that costs as much as `keys` calls of `get`. If the budget of the task is
/// spent, wakes the task and returns `Pending`. Outside of tokio, always returns `Ready`.
///
/// A future that is polled again after `Pending` is charged again. By then, its task has a new budget.
#[inline]
pub(crate) fn poll_charge(keys: usize, context: &mut Context<'_>) -> Poll<()> {
    let keys = KEYS.get().saturating_add(keys);
    if keys < KEYS_PER_UNIT {
        KEYS.set(keys);
        return Poll::Ready(());
    }
    poll_spend(keys, context)
}

/// Spends the whole units in a number of keys, and keeps the rest in `KEYS`.
#[cold]
#[inline(never)]
fn poll_spend(keys: usize, context: &mut Context<'_>) -> Poll<()> {
    KEYS.set(keys % KEYS_PER_UNIT);
    for _ in 0..keys / KEYS_PER_UNIT {
        ready!(coop::poll_proceed(context)).made_progress();
    }
    Poll::Ready(())
}

/// Charges the current tokio task as [`poll_charge`] does. Yields at most once, if the budget of the task is spent.
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

/// Yields once to other tasks. Works on every executor.
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
