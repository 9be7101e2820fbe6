//! The health of a store: open, poisoned or closed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use kv_core::{Error, ErrorKind, Result};
use tokio::sync::watch;

const OPEN: u8 = 0;
const POISONED: u8 = 1;
const CLOSED: u8 = 2;

/// The signal to callers that wait for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Signal {
    Healthy,
    /// The store is poisoned, and its worker still runs.
    Poisoned,
    /// The worker hangs inside sled and sends no responses.
    Hung,
}

/// The reason why a store is poisoned. A poisoned store stays poisoned until it is opened again.
#[derive(Debug, Clone)]
pub(crate) struct Poison {
    /// The kind of the error that has poisoned the store.
    kind: ErrorKind,
    text: String,
}

impl Poison {
    fn hung() -> Self {
        Self { kind: ErrorKind::Unavailable, text: "an operation of sled did not end within its timeout".to_owned() }
    }

    pub(crate) fn panicked(operation: &str) -> Self {
        Self { kind: ErrorKind::Unavailable, text: format!("{operation} panicked inside sled") }
    }

    pub(crate) fn misplaced(problem: &str) -> Self {
        Self { kind: ErrorKind::Unavailable, text: format!("{problem}; acknowledged writes may be lost") }
    }

    pub(crate) fn failed(error: &Error) -> Self {
        Self { kind: error.kind(), text: error.message().to_owned() }
    }
}

/// The health of one store. All clones of the store and its threads share it.
#[derive(Debug)]
pub(crate) struct Health {
    state: AtomicU8,
    poison: OnceLock<Poison>,
    /// The worst signal so far.
    signal: watch::Sender<Signal>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(OPEN), poison: OnceLock::new(), signal: watch::Sender::new(Signal::Healthy) }
    }

    /// Checks that a store is neither closed nor poisoned. On a healthy store this costs one atomic load.
    ///
    /// # Errors
    /// `Closed` after the store was closed, `Unavailable` while the store is poisoned.
    pub(crate) fn check(&self) -> Result<()> {
        match self.state.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            CLOSED => Err(Error::closed()),
            _ => Err(Error::unavailable(self.poison_text())),
        }
    }

    /// Checks as [`Health::check`] does, for a write that was not started. If a full disk has poisoned the store, the
    /// error is `Capacity`.
    pub(crate) fn check_write(&self) -> Result<()> {
        self.check().map_err(|error| match (error.kind(), self.poison.get()) {
            (ErrorKind::Unavailable, Some(Poison { kind: ErrorKind::Capacity, text: _ })) => {
                Error::capacity(self.poison_text())
            }
            _ => error,
        })
    }

    /// Poisons the store and wakes all waiting callers. If the store is already poisoned, the first cause is kept. Returns
    /// true if the store was open.
    pub(crate) fn poison(&self, poison: Poison) -> bool {
        let _ = self.poison.set(poison);
        let was_open = self.state.compare_exchange(OPEN, POISONED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        self.raise(Signal::Poisoned);
        was_open
    }

    /// Poisons the store because its worker hangs. Returns true if the store was open.
    pub(crate) fn mark_hung(&self) -> bool {
        let was_open = self.poison(Poison::hung());
        self.raise(Signal::Hung);
        was_open
    }

    fn raise(&self, signal: Signal) {
        self.signal.send_if_modified(|current| {
            let is_worse = *current < signal;
            *current = (*current).max(signal);
            is_worse
        });
    }

    /// Closes the store. A poisoned store can be closed, too.
    pub(crate) fn close(&self) {
        self.state.store(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CLOSED
    }

    /// Returns the error text of a poisoned store, with the cause.
    pub(crate) fn poison_text(&self) -> String {
        let text = self.poison.get().map_or("", |poison| &poison.text);
        format!("the store is poisoned until it is opened again: {text}")
    }

    /// Waits until the store is poisoned.
    pub(crate) async fn poisoned(&self) {
        self.signalled(Signal::Poisoned).await;
    }

    /// Waits until the watchdog has found that the worker hangs.
    pub(crate) async fn hung(&self) {
        self.signalled(Signal::Hung).await;
    }

    async fn signalled(&self, signal: Signal) {
        let mut current = self.signal.subscribe();
        // Cannot fail: `self` holds the sender.
        let _ = current.wait_for(|current| *current >= signal).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_of_a_poisoned_store_is_kept_until_the_store_is_closed() {
        let health = Health::new();
        health.check().unwrap();
        health.poison(Poison::failed(&Error::capacity("full")));
        health.mark_hung();
        assert_eq!(health.check().unwrap_err().kind(), ErrorKind::Unavailable);
        let error = health.check_write().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Capacity);
        assert!(error.message().ends_with("full"), "{error}");
        health.close();
        assert_eq!(health.check_write().unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn a_hung_store_is_unavailable_for_writes_too() {
        let health = Health::new();
        health.mark_hung();
        assert_eq!(health.check_write().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
