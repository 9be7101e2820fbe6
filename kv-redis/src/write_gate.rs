//! Refuses writes that would be weaker than the capabilities of the handle.
//!
//! The capabilities of a handle are constant, but an administrator may change the settings of the server. While a
//! setting is weaker than declared, writes fail with an error that names the setting. Reads continue.

use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Capabilities, Durability, Error, Result};
use parking_lot::Mutex;

use crate::server::info::{Eviction, Policy, ServerInfo, Weakness, is_weaker};

/// The kind of a write. The kind decides on which capabilities the write relies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// Stores entries or changes their deadlines. The server must not evict the entries.
    Store,
    /// Only removes entries.
    Remove,
}

/// The reasons to refuse writes.
#[derive(Debug, Default)]
pub(crate) struct WriteGate {
    /// True if there is a reason to refuse writes. If there is none, a write reads only this field.
    is_shut: AtomicBool,
    reasons: Mutex<Reasons>,
}

#[derive(Debug, Default)]
struct Reasons {
    /// True if the handle does not maintain the indexes of its namespace.
    is_read_only: bool,
    /// The setting that makes the durability weaker than declared, and the declared durability.
    durability: Option<(Weakness, Durability)>,
    /// The policy that may evict entries, although the handle declares that entries are not evicted.
    policy: Option<Policy>,
}

impl WriteGate {
    /// Makes all writes fail, because they would not maintain the indexes of the namespace.
    pub(crate) fn set_read_only(&self) {
        self.reasons.lock().is_read_only = true;
        self.is_shut.store(true, Ordering::Release);
    }

    /// Compares the current settings of the servers with the declared capabilities. A setting that the servers do not
    /// report changes nothing, because it does not prove that the setting was changed.
    pub(crate) fn observe(&self, declared: &Capabilities, current: &ServerInfo) {
        let mut reasons = self.reasons.lock();
        if let Some(weakness) = current.weakness {
            // A new append-only file does not have the older entries until its first rewrite has ended.
            let had_no_file = matches!(
                reasons.durability,
                Some((Weakness::NoAppendOnlyFile | Weakness::FirstRewrite, _)) if current.is_rewriting
            );
            let weakness = if had_no_file && weakness != Weakness::NoAppendOnlyFile {
                Some(Weakness::FirstRewrite)
            } else {
                is_weaker(current.durability, declared.durability).then_some(weakness)
            };
            reasons.durability = weakness.map(|weakness| (weakness, declared.durability));
        }
        match current.policy.eviction {
            Eviction::Unknown => {}
            Eviction::None => reasons.policy = None,
            Eviction::Expiring | Eviction::AnyKey => {
                reasons.policy = (!declared.may_evict).then_some(current.policy);
            }
        }
        let is_shut = reasons.is_read_only || reasons.durability.is_some() || reasons.policy.is_some();
        self.is_shut.store(is_shut, Ordering::Release);
    }

    /// Checks that a write is allowed.
    ///
    /// # Errors
    /// `Invalid` if the handle may not write, or a write would be weaker than the handle declares.
    pub(crate) fn check(&self, write: Write) -> Result<()> {
        if !self.is_shut.load(Ordering::Acquire) {
            return Ok(());
        }
        let reasons = self.reasons.lock();
        if reasons.is_read_only {
            return Err(Error::invalid(
                "the namespace has an index, and the handle was opened without it, for reading and copying: set the \
                 server's `maxmemory-policy` to `noeviction` and open with `index=ordered` to write",
            ));
        }
        match (reasons.policy, write) {
            (Some(policy), Write::Store) => Err(Error::invalid(format!(
                "the server's `maxmemory-policy` was changed to `{}`, so it may evict entries, which this handle \
                 declares not to happen: set it to `noeviction`, or open the store again",
                policy.name
            ))),
            _ => reasons.check_durability(),
        }
    }

    /// Checks that acknowledged writes are as durable as declared.
    ///
    /// # Errors
    /// `Invalid` if acknowledged writes are less durable than the handle declares.
    pub(crate) fn check_durability(&self) -> Result<()> {
        if self.is_shut.load(Ordering::Acquire) { self.reasons.lock().check_durability() } else { Ok(()) }
    }
}

impl Reasons {
    fn check_durability(&self) -> Result<()> {
        let Some((weakness, declared)) = self.durability else { return Ok(()) };
        let (finding, remedy) = match weakness {
            Weakness::NoAppendOnlyFile => ("the server's `appendonly` was changed to `no`", "set it to `yes`"),
            Weakness::FlushEverySecond => {
                ("the server's `appendfsync` was changed to `everysec`", "set it to `always`")
            }
            Weakness::NoFlush => ("the server's `appendfsync` was changed to `no`", "set it to the former value"),
            Weakness::FirstRewrite => {
                ("the server has not finished its new append-only file", "wait until the rewrite has ended")
            }
            Weakness::Replica => {
                ("a replica has connected to the server, and a failover to it may lose writes", "disconnect it")
            }
            Weakness::None => ("the server's settings were changed", "restore them"),
        };
        Err(Error::invalid(format!(
            "{finding}, so a write would not have the durability that this handle declares ({declared}): {remedy}, or \
             open the store again"
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kv_core::Survives;

    use super::*;

    fn info(policy: Option<&str>, durability: Durability, weakness: Option<Weakness>) -> ServerInfo {
        ServerInfo { policy: Policy::from_info(policy), durability, weakness, ..ServerInfo::BEST }
    }

    #[test]
    fn a_setting_below_the_declared_level_shuts_the_gate_until_it_is_restored() {
        let power = Durability::surviving(Survives::Power);
        let second = power.with_interval(Duration::from_secs(2));
        let declared = Capabilities::CORE.with_durability(power);
        let gate = WriteGate::default();
        let observe = |policy, durability, weakness| gate.observe(&declared, &info(policy, durability, weakness));
        assert!(gate.check(Write::Store).is_ok());
        observe(Some("noeviction"), second, Some(Weakness::FlushEverySecond));
        assert!(gate.check(Write::Remove).unwrap_err().message().contains("`everysec`"));
        // The user has lost the right to read the settings. This does not prove that a setting was changed.
        observe(None, Durability::VOLATILE, None);
        assert!(gate.check_durability().is_err());
        observe(Some("volatile-lru"), power, Some(Weakness::None));
        assert!(gate.check(Write::Store).unwrap_err().message().contains("`volatile-lru`"));
        assert!(gate.check(Write::Remove).is_ok() && gate.check_durability().is_ok());
        observe(Some("noeviction"), power, Some(Weakness::None));
        assert!(gate.check(Write::Store).is_ok());
        gate.set_read_only();
        observe(Some("noeviction"), power, Some(Weakness::None));
        assert!(gate.check(Write::Remove).is_err());
    }
}
