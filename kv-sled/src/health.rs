//! Whether the store can still be used.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use kv_core::{Error, ErrorKind, Result};
use tokio::sync::watch;

const OPEN: u8 = 0;
const POISONED: u8 = 1;
const CLOSED: u8 = 2;

/// What whoever waits for the store's thread wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Signal {
    Fine,
    /// The store is given up, and its thread is there to say so.
    Poisoned,
    /// The store's thread does not come back.
    Hung,
}

/// Why a store gave itself up. It stays so until it is opened again.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    /// What it means for a caller that has nothing in flight.
    kind: ErrorKind,
    text: String,
}

impl Trouble {
    fn hung() -> Self {
        Self { kind: ErrorKind::Unavailable, text: "an operation of sled did not end in time".to_owned() }
    }

    pub(crate) fn panicked(what: &str) -> Self {
        Self { kind: ErrorKind::Unavailable, text: format!("{what} panicked inside sled") }
    }

    pub(crate) fn failed(error: &Error) -> Self {
        Self { kind: error.kind(), text: error.message().to_owned() }
    }
}

/// The state of one store, shared by its handles and threads.
#[derive(Debug)]
pub(crate) struct Health {
    state: AtomicU8,
    trouble: OnceLock<Trouble>,
    /// How bad it is; it only grows.
    signal: watch::Sender<Signal>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(OPEN), trouble: OnceLock::new(), signal: watch::Sender::new(Signal::Fine) }
    }

    /// Refuses a read of a store that is not in order. One load where it is.
    pub(crate) fn check(&self) -> Result<()> {
        match self.state.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            CLOSED => Err(Error::closed()),
            _ => Err(Error::unavailable(self.story())),
        }
    }

    /// The same for a write that was not begun: a disk that was full is told as such.
    pub(crate) fn check_write(&self) -> Result<()> {
        self.check().map_err(|error| match (error.kind(), self.trouble.get()) {
            (ErrorKind::Unavailable, Some(Trouble { kind: ErrorKind::Capacity, text: _ })) => {
                Error::capacity(self.story())
            }
            _ => error,
        })
    }

    /// Gives the store up and wakes whoever waits. The first reason stays.
    pub(crate) fn poison(&self, trouble: Trouble) {
        let _ = self.trouble.set(trouble);
        let _ = self.state.compare_exchange(OPEN, POISONED, Ordering::SeqCst, Ordering::SeqCst);
        self.raise(Signal::Poisoned);
    }

    /// Gives the store up because its thread does not come back.
    pub(crate) fn hang(&self) {
        self.poison(Trouble::hung());
        self.raise(Signal::Hung);
    }

    fn raise(&self, signal: Signal) {
        self.signal.send_if_modified(|current| {
            let is_worse = *current < signal;
            *current = (*current).max(signal);
            is_worse
        });
    }

    /// Closes the store; what is poisoned is closed, too.
    pub(crate) fn close(&self) {
        self.state.store(CLOSED, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CLOSED
    }

    /// Why the store was given up, as a text.
    pub(crate) fn story(&self) -> String {
        let text = self.trouble.get().map_or("", |trouble| &trouble.text);
        format!("the store is poisoned until it is opened again: {text}")
    }

    /// Waits until the store is given up.
    pub(crate) async fn poisoned(&self) {
        self.reached(Signal::Poisoned).await;
    }

    /// Waits until the store's thread is known not to come back.
    pub(crate) async fn hung(&self) {
        self.reached(Signal::Hung).await;
    }

    async fn reached(&self, signal: Signal) {
        let mut current = self.signal.subscribe();
        // The sender lives as long as `self`, so waiting does not fail.
        let _ = current.wait_for(|current| *current >= signal).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_closing_ends_it() {
        let health = Health::new();
        health.check().unwrap();
        health.poison(Trouble::failed(&Error::capacity("full")));
        health.hang();
        assert_eq!(health.check().unwrap_err().kind(), ErrorKind::Unavailable);
        let error = health.check_write().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Capacity);
        assert!(error.message().ends_with("full"), "{error}");
        health.close();
        assert_eq!(health.check_write().unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn what_hung_is_unavailable_for_writes_too() {
        let health = Health::new();
        health.hang();
        assert_eq!(health.check_write().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
