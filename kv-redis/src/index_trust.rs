//! Tracks whether the indexes may lack members because the server may have evicted them.
//!
//! An index is an ordinary key of the database. A server that may evict any key may evict an index with all its
//! members. Then lists would lack entries. Therefore lists fail until the eviction policy is changed and a sweep has
//! added the missing members.

use kv_core::{Error, Result};
use parking_lot::Mutex;

use crate::server::info::{Eviction, Policy};

/// The eviction policies that the store has observed, and the state of the sweep that follows an evicting policy.
#[derive(Debug, Default)]
pub(crate) struct IndexTrust(Mutex<State>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// The current policy, if it may evict indexes.
    evicting: Option<Policy>,
    /// The latest policy that may have evicted indexes since the last complete sweep.
    evicted: Option<Policy>,
    /// The number of times that a policy which may evict indexes was observed.
    observations: u64,
    /// The last observed policy, and the number of keys that the servers had evicted.
    policy: Option<Policy>,
    evicted_keys: Option<u64>,
}

impl IndexTrust {
    /// Records the current policy of the servers. An unknown policy changes nothing, because it does not prove that the
    /// policy was changed.
    pub(crate) fn observe(&self, policy: Policy) {
        let mut state = self.0.lock();
        match policy.eviction {
            Eviction::AnyKey => {
                (state.evicting, state.evicted) = (Some(policy), Some(policy));
                state.observations += 1;
            }
            Eviction::None | Eviction::Expiring => state.evicting = None,
            Eviction::Unknown => {}
        }
        let is_steady = policy.eviction == Eviction::None && state.policy == Some(policy);
        state.policy = Some(policy);
        if !is_steady {
            state.evicted_keys = None;
        }
    }

    /// Records the number of keys that the servers have evicted, after the policy was observed. If the policy evicts
    /// nothing, but the number has risen since this policy was first observed, another policy was set in between.
    pub(crate) fn observe_evictions(&self, evicted_keys: u64) {
        let mut state = self.0.lock();
        if state.evicted_keys.is_some_and(|before| evicted_keys > before) {
            state.evicted = Some(Policy { eviction: Eviction::AnyKey, name: "another policy" });
            state.observations += 1;
        }
        state.evicted_keys = Some(evicted_keys);
    }

    /// True if every live entry is in its index.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.lock().evicted.is_none()
    }

    /// True if the indexes may lack members, and the current policy evicts no index, so that a sweep can add the
    /// members.
    pub(crate) fn wants_sweep(&self) -> bool {
        let state = self.0.lock();
        state.evicted.is_some() && state.evicting.is_none()
    }

    /// Checks that lists can trust the indexes.
    ///
    /// # Errors
    /// `Invalid` if the current policy may evict indexes, and `Unavailable` if an earlier policy may have evicted them.
    pub(crate) fn check(&self) -> Result<()> {
        let state = *self.0.lock();
        match (state.evicting, state.evicted) {
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

    /// Returns a mark for a sweep that begins now, to pass to [`IndexTrust::end_sweep`].
    pub(crate) fn begin_sweep(&self) -> u64 {
        self.0.lock().observations
    }

    /// Records the end of a complete sweep. The indexes count as complete if, since the sweep began, no policy that may
    /// evict indexes was observed.
    pub(crate) fn end_sweep(&self, mark: u64) {
        let mut state = self.0.lock();
        if state.evicting.is_none() && state.observations == mark {
            state.evicted = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_EVICTION: Policy = Policy { eviction: Eviction::None, name: "noeviction" };
    const EVICTION: Policy = Policy { eviction: Eviction::AnyKey, name: "allkeys-lru" };

    #[test]
    fn lists_fail_until_a_sweep_that_began_after_the_last_evicting_policy_has_ended() {
        let trust = IndexTrust::default();
        assert!(trust.check().is_ok() && trust.is_complete());
        trust.observe(EVICTION);
        assert!(trust.check().unwrap_err().message().contains("`allkeys-lru`"));
        assert!(!trust.wants_sweep());
        let early = trust.begin_sweep();
        trust.observe(EVICTION);
        trust.observe(NO_EVICTION);
        trust.end_sweep(early);
        assert!(trust.check().is_err() && trust.wants_sweep());
        let late = trust.begin_sweep();
        trust.end_sweep(late);
        assert!(trust.check().is_ok());
    }

    #[test]
    fn evictions_under_a_policy_that_evicts_nothing_prove_another_policy() {
        let trust = IndexTrust::default();
        for evicted_keys in [7, 7, 7] {
            trust.observe(NO_EVICTION);
            trust.observe_evictions(evicted_keys);
        }
        assert!(trust.is_complete());
        trust.observe(NO_EVICTION);
        trust.observe_evictions(8);
        assert!(trust.check().is_err() && trust.wants_sweep());
        trust.end_sweep(trust.begin_sweep());
        // A restarted server has evicted nothing yet.
        for evicted_keys in [0, 0] {
            trust.observe(NO_EVICTION);
            trust.observe_evictions(evicted_keys);
        }
        assert!(trust.check().is_ok());
    }
}
