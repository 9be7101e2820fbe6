//! Receivers of changes that a store calls directly, for caches.

use std::fmt::{self, Debug};

use crate::key::Key;
use crate::moment::Moment;
use crate::watch::GapReason;

/// A receiver of changes that the store calls on the thread that learns of the change. [`KvStore::watch_into`] registers
/// a sink.
///
/// A stream of events is read by a task, and a task that is not scheduled, or whose process is paused, would let a cache
/// serve entries that have changed. A sink has no such delay, and [`ChangeSink::current`] tells it how far its knowledge
/// reaches.
///
/// The store calls a sink while it holds locks of its own, possibly inside the section that makes a write visible. So a
/// sink must return quickly, must not wait for a lock that is held during a call of the store, and must not call the
/// store or drop its [`Registration`]. If a sink panics, the panic is caught, and the sink gets a call of
/// [`ChangeSink::lost`].
///
/// A sink is not current until the first call of `current`.
///
/// [`KvStore::watch_into`]: crate::KvStore::watch_into
pub trait ChangeSink: Debug + Send + Sync + 'static {
    /// Notes that the entry of the key may have changed: it was written, touched or removed, or it expired.
    ///
    /// Every write that becomes visible is passed on, acknowledged or not. If [`watch_loss_bound`] is zero, the call is
    /// made inside the section that makes the write visible: no read returns the old entry after the call, and no read
    /// returns the new entry before it.
    ///
    /// [`watch_loss_bound`]: crate::StoreInfo::watch_loss_bound
    fn changed(&self, key: &Key);

    /// Notes that every change that was visible before `as_of` has been passed to [`ChangeSink::changed`], except
    /// changes from before the registration and from before the last call of [`ChangeSink::lost`].
    ///
    /// The store calls this method after each heartbeat, with the moment at which the heartbeat was sent. If
    /// [`watch_loss_bound`] is zero, the store calls it only once, and the sink stays current until `lost`.
    ///
    /// [`watch_loss_bound`]: crate::StoreInfo::watch_loss_bound
    fn current(&self, as_of: Moment);

    /// Notes that changes may be missing, from the last `as_of` until the next call of [`ChangeSink::current`]. Until
    /// then the sink is not current.
    fn lost(&self, reason: GapReason);
}

/// A registered [`ChangeSink`]. Dropping the registration ends it, and the store makes no call of the sink afterwards.
#[must_use = "dropping the registration ends it"]
pub struct Registration {
    _guard: Box<dyn Send + Sync>,
}

impl Registration {
    /// Wraps a value that ends the registration when it is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

impl Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
