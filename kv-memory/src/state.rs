//! The state that all clones of a store and its tasks share.

use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::hub::{Hub, Messages};
use kv_core::{Error, Result, StoreInfo};

use crate::engine::Engine;
use crate::yielding::charge;

/// The engine, the subscribers and the closed flag of one store.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) info: StoreInfo,
    pub(crate) engine: Engine,
    pub(crate) messages: Hub<Messages>,
    is_closed: AtomicBool,
}

impl State {
    pub(crate) fn new(info: StoreInfo, engine: Engine) -> Self {
        Self { info, engine, messages: Hub::new(), is_closed: AtomicBool::new(false) }
    }

    /// Charges the budget of the current task for a call over `keys` keys, and then checks that the store is open.
    /// Every operation begins with this call, except `close`, and except `get`, `set`, `set_many` and `publish`, which
    /// do both steps themselves.
    ///
    /// # Errors
    /// `Closed` after the store was closed.
    #[inline]
    pub(crate) async fn admit(&self, keys: usize) -> Result<()> {
        charge(keys.saturating_mul(self.engine.cost())).await;
        self.check_open()
    }

    /// Checks that the store is open.
    ///
    /// # Errors
    /// `Closed` after the store was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    /// Ends all streams, stops the sweeper and removes the entries. A concurrent write that passed
    /// [`State::check_open`] before the close may still insert an entry. No call can read that entry.
    pub(crate) async fn close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let services = self.engine.services();
        services.changes.close();
        services.sweeper.stop();
        self.messages.close();
        self.engine.clear().await;
    }
}
