//! Opening a store.
//!
//! Each opening creates a new, empty store.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kv_core::hub::Hub;
use kv_core::{Clock, Error, Result, StoreInfo};

use crate::bounded::Bounded;
use crate::bounds::Bounds;
use crate::capabilities::{BOUNDED_CAPABILITIES, CAPABILITIES};
use crate::config::MemoryConfig;
use crate::engine::Engine;
use crate::error::NAME;
use crate::services::Services;
use crate::state::State;
use crate::store::MemoryStore;
use crate::sweeper::Sweeper;
use crate::unbounded::Unbounded;

/// Checks the configuration and creates a store. The store is bounded if the configuration has a bound.
pub(crate) fn open(config: &MemoryConfig, clock: Arc<dyn Clock>) -> Result<MemoryStore> {
    let MemoryConfig { max_bytes, max_entries, eviction_policy, sweep_interval } = config;
    if sweep_interval.is_zero() {
        return Err(Error::invalid("the sweep interval is zero"));
    }
    if config.is_bounded() {
        let bounds = Bounds::new(*max_bytes, *max_entries)?;
        let policy = eviction_policy.unwrap_or_default();
        let info = StoreInfo::new(NAME, BOUNDED_CAPABILITIES).with_limits(bounds.limits);
        return Ok(assemble(info, *sweep_interval, clock, |services| {
            Engine::Bounded(Bounded::new(services, bounds, policy))
        }));
    }
    if eviction_policy.is_some() {
        return Err(Error::invalid("an eviction policy needs a bound: `max_bytes` or `max_entries`"));
    }
    Ok(open_unbounded(*sweep_interval, clock))
}

pub(crate) fn open_unbounded(sweep_interval: Duration, clock: Arc<dyn Clock>) -> MemoryStore {
    let info = StoreInfo::new(NAME, CAPABILITIES);
    assemble(info, sweep_interval, clock, |services| Engine::Unbounded(Unbounded::new(services)))
}

fn assemble(
    info: StoreInfo,
    sweep_interval: Duration,
    clock: Arc<dyn Clock>,
    engine: impl FnOnce(Arc<Services>) -> Engine,
) -> MemoryStore {
    // Every change is passed to the sinks inside the section that makes it visible.
    let info = info.with_watch_loss_bound(Duration::ZERO);
    let state = Arc::new_cyclic(|state: &Weak<State>| {
        let sweeper = Sweeper::new(Weak::<State>::clone(state), sweep_interval);
        State::new(info, engine(Arc::new(Services { clock, changes: Hub::new(), sweeper })))
    });
    MemoryStore { state }
}
