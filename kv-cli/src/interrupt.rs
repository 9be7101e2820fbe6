//! Work that the user can interrupt and that still has something to clean up or to tell.

use crate::exit::Failure;

/// Runs the work until it ends or the user interrupts it; then it is dropped.
///
/// The signal is asked first, so that it is listened to before the work starts. A store in memory is always ready: work
/// over it must yield now and then, or nothing else is ever asked.
pub(crate) async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        result = work => result,
    }
}
