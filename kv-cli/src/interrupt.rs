//! Interruption by Ctrl-C or SIGTERM, for commands that clean up or report afterwards.

use crate::exit::Failure;

/// Runs the work until it completes or the program gets SIGINT (Ctrl-C) or SIGTERM. A signal drops the work.
///
/// The signals are polled first, so that the signal handlers are installed before the work starts. A call on a memory
/// store is always ready, so work on such a store must yield regularly. Otherwise the signals are never polled again.
pub(crate) async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = interrupted() => Err(Failure::Interrupted),
        () = terminated() => Err(Failure::Interrupted),
        result = work => result,
    }
}

/// Waits for SIGINT. Without a signal handler the signal ends the program, so this function waits forever.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for SIGTERM. Without a signal handler the signal ends the program, so this function waits forever.
#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};

    match signal(SignalKind::terminate()) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}
