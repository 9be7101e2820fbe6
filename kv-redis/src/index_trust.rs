//! The completeness of the indexes, as far as the server's eviction policy shows it.
//!
//! An index is an ordinary key. A server that may evict any key may evict an index with all its members, and lists of
//! it would be short. So such lists fail until the policy is changed and a sweep has added the missing members.

use kv_core::{Error, Result};
use parking_lot::Mutex;

use crate::server::info::{Eviction, Policy};

#[derive(Debug, Default)]
pub(crate) struct IndexTrust(Mutex<State>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// The policy that may evict indexes now.
    evicting: Option<Policy>,
    /// The policy that may have evicted indexes since the last complete sweep.
    doubtful: Option<Policy>,
    /// The number of times that an evicting policy was observed.
    observed: u64,
}

impl IndexTrust {
    /// Records the current policy of the servers. An unknown policy changes nothing.
    pub(crate) fn observe(&self, policy: Policy) {
        let mut state = self.0.lock();
        match policy.eviction {
            Eviction::AnyKey => {
                (state.evicting, state.doubtful) = (Some(policy), Some(policy));
                state.observed += 1;
            }
            Eviction::None | Eviction::Expiring => state.evicting = None,
            Eviction::Unknown => {}
        }
    }

    /// True if every live entry is in its index.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.lock().doubtful.is_none()
    }

    /// True if a sweep would make the indexes complete again.
    pub(crate) fn wants_sweep(&self) -> bool {
        let state = self.0.lock();
        state.doubtful.is_some() && state.evicting.is_none()
    }

    /// Fails if an index may lack members.
    pub(crate) fn check(&self) -> Result<()> {
        let state = *self.0.lock();
        match (state.evicting, state.doubtful) {
            (Some(policy), _) => Err(Error::invalid(format!(
                "the server's `maxmemory-policy` is `{}`, which may evict indexes, so a list could lack entries: set it \
                 to `noeviction`, or open the namespace with `index=none` to read and copy it",
                policy.name
            ))),
            (None, Some(policy)) => Err(Error::unavailable(format!(
                "the server's `maxmemory-policy` was `{}`, which may have evicted indexes: lists work again when \
                 the background task has added the lost members, or after a sweep",
                policy.name
            ))),
            (None, None) => Ok(()),
        }
    }

    /// The mark of a sweep that begins now.
    pub(crate) fn begin_sweep(&self) -> u64 {
        self.0.lock().observed
    }

    /// Records the end of a complete sweep. It counts if no policy since its begin could evict indexes.
    pub(crate) fn end_sweep(&self, mark: u64) {
        let mut state = self.0.lock();
        if state.evicting.is_none() && state.observed == mark {
            state.doubtful = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPS: Policy = Policy { eviction: Eviction::None, name: "noeviction" };
    const EVICTS: Policy = Policy { eviction: Eviction::AnyKey, name: "allkeys-lru" };

    #[test]
    fn a_list_fails_until_a_sweep_that_began_after_the_last_evicting_policy() {
        let trust = IndexTrust::default();
        assert!(trust.check().is_ok() && trust.is_complete());
        trust.observe(EVICTS);
        assert!(trust.check().unwrap_err().message().contains("`allkeys-lru`"));
        assert!(!trust.wants_sweep());
        let early = trust.begin_sweep();
        trust.observe(EVICTS);
        trust.observe(KEEPS);
        trust.end_sweep(early);
        assert!(trust.check().is_err() && trust.wants_sweep());
        let late = trust.begin_sweep();
        trust.end_sweep(late);
        assert!(trust.check().is_ok());
    }
}
