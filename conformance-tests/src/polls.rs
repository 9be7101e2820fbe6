//! Polls a future a limited number of times.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::poll;

/// Polls a future at most `polls` times and drops it. Returns true if the future finished.
pub(crate) async fn poll_and_drop(polls: usize, future: impl Future<Output: Sized> + Send) -> bool {
    poll_times(polls, pin!(future)).await
}

/// Polls a future at most `polls` times, with pauses between the polls. Returns true if the future finished.
pub(crate) async fn poll_times(
    polls: usize,
    mut future: Pin<&mut (impl Future<Output: Sized> + Send + ?Sized)>,
) -> bool {
    for at in 0..polls {
        if poll!(future.as_mut()).is_ready() {
            return true;
        }
        // Some futures continue after a yield. Others wait for another thread or process, so every second pause is
        // longer.
        if at % 2 == 0 {
            tokio::task::yield_now().await;
        } else {
            let _ = tokio::time::timeout(Duration::from_micros(300), std::future::pending::<()>()).await;
        }
    }
    false
}
