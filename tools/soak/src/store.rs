//! Opening the store under test.

use anykv::{Capability, Kv, Survives};

use crate::args::Target;
use crate::error::Result;

/// The capabilities that the calls of the tasks need.
const NEEDED: [Capability; 8] = [
    Capability::Versions,
    Capability::Deadlines,
    Capability::Conditions,
    Capability::Previous,
    Capability::List,
    Capability::Touch,
    Capability::Counters,
    Capability::Transactions,
];

/// Opens a namespace of the store.
pub(crate) async fn open(url: &str, namespace: &str) -> Result<Kv> {
    Ok(anykv::open(url).await?.namespace([namespace])?)
}

/// Fails unless the store declares that acknowledged writes survive the kill, and supports all calls.
pub(crate) fn check(kv: &Kv, target: Target) -> Result<()> {
    let capabilities = &kv.info().capabilities;
    for capability in NEEDED {
        capabilities.require(capability)?;
    }
    let needed = match target {
        Target::Client => Survives::Process,
        Target::Server => Survives::Server,
    };
    let durability = capabilities.durability;
    if durability.survives < needed || !durability.interval.is_zero() {
        return Err(
            format!("the store declares the durability `{durability}`, so acknowledged writes may be lost").into()
        );
    }
    if capabilities.may_evict {
        return Err("the store may evict live entries".into());
    }
    Ok(())
}

/// The moment of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The process that had the files open was killed. A write that it began may be incomplete in the files.
    Killed,
    /// The store was opened after the kill, and closed.
    Closed,
}

/// Verifies the files of a store that no process has open. Returns the problem if entries are damaged, or if the files
/// of a closed store have any other problem.
pub(crate) async fn verify(url: &str, moment: Moment) -> Option<String> {
    let registry = anykv::registry();
    let scheme = url.split(':').next().unwrap_or_default();
    if !registry.schemes().iter().any(|known| known.name == scheme && known.verify.is_some()) {
        return None;
    }
    match registry.verify(url, Box::new(|_, _| Ok(()))).await {
        Ok(found) if found.is_sound() || moment == Moment::Killed && found.damaged_entries == 0 => None,
        Ok(found) => Some(format!("the files are not sound ({moment:?}): {found:?}")),
        Err(error) => Some(format!("the files cannot be verified ({moment:?}): {error}")),
    }
}
