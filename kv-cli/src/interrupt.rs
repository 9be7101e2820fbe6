//! Interruption by Ctrl-C, for commands that clean up or report afterwards.

use crate::exit::Failure;

/// Runs the work until it completes or the user presses Ctrl-C. Ctrl-C drops the work.
///
/// The signal is polled first, so that the signal handler is installed before the work starts. A call on a memory store
/// is always ready, so work on such a store must yield regularly. Otherwise the signal is never polled again.
pub(crate) async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        result = work => result,
    }
}
