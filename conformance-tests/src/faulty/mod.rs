//! Stores that violate the contract on purpose, each in one way. They show that the suite detects the violation.
//!
//! | file | defects in |
//! |---|---|
//! | `expiry`, `touch` | deadlines of writes; `touch` and the sweeper |
//! | `expired` | operations that see expired entries |
//! | `keys` | the encoding of keys |
//! | `openers` | handles that disturb other handles when they open the store |
//! | `list`, `pages` | prefixes and `clear`; order, bounds and pages |
//! | `namespaces`, `namespace_keys` | the key with the same segments as a namespace; stored keys that exceed a caller's limit because of their namespace |
//! | `values`, `singles`, `batch` | bytes, operations on one key, batches |
//! | `info` | name, limits, `ping`, `Debug` and error texts |
//! | `conditions`, `versions` | conditions and their outcomes; versions that repeat or differ |
//! | `counters`, `transactions` | arithmetic; atomicity, checks and order |
//! | `watch`, `watch_reports`, `messages` | missing, repeated or incorrect reports; reports without a change, and watchers that block writers; messages |
//! | `together`, `watch_combined` | calls beside other calls; reports that are lost only in a combination of calls |
//! | `concurrency`, `caches` | races and dropped calls; outdated copies |
//! | `restart`, `close` | entries after a reopen; `close` itself |
//! | `damage` | damaged entries |
//! | `full_disk` | writes that find no room, and calls beside them |
//! | `outage` | calls during and after an outage of the backend |
//! | `refuses` | options and operations that are not declared |
//! | `moments` | deadlines at some moments or by some paths; no sweeper |
//! | `deep_pages` | lists and `clear` after many expired entries, beyond U+FFFF, and with long equal beginnings of keys |
//! | `chunks` | batches and transactions that are processed in chunks |
//! | `neighbours` | calls that disturb concurrent calls; outcomes with half an entry |
//! | `script_reports` | reports that only random scripts show to be missing or false |
//! | `lost_reports`, `watch_moments` | changes that a watch loses by their path, or by another event at the time |
//! | `watch_changes`, `sinks` | watches of changes; losses without a gap; sinks that are called late, or not at all |
//! | `outage_sinks` | sinks, watchers and subscribers during an outage; the good store has a loss bound above zero |
//! | `reads` | reads with options, the time of the store, reads that go back |
//! | `near` | copies of entries in the handle, with a declared age; [`near_tier`] is the good store |
//!
//! `encoded_keys`, `hidden` and `scan` are helpers: a store with another encoding of keys, state that `Debug` does not
//! show, and lists that read everything.

mod batch;
mod caches;
mod chunks;
mod close;
mod concurrency;
mod conditions;
mod counters;
mod damage;
mod deep_pages;
mod encoded_keys;
mod expired;
mod expiry;
mod full_disk;
mod hidden;
mod info;
mod keys;
mod list;
mod lost_reports;
mod messages;
mod moments;
mod namespace_keys;
mod namespaces;
mod near;
mod neighbours;
mod openers;
mod outage;
mod outage_sinks;
mod pages;
mod reads;
mod refuses;
mod restart;
mod scan;
mod script_reports;
mod singles;
mod sinks;
mod together;
mod touch;
mod transactions;
mod values;
mod versions;
mod watch;
mod watch_changes;
mod watch_combined;
mod watch_moments;
mod watch_reports;

use std::fmt;
use std::sync::Arc;

use kv_core::{Clock, KvStore};

pub use self::near::near_tier;

/// Wraps a good store, whose clock is the second argument, in a broken one.
type Wrap = fn(Arc<dyn KvStore>, Arc<dyn Clock>) -> Arc<dyn KvStore>;

/// A store that is broken in one way.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Fault {
    /// The name, such as `expiry/ttl_is_ignored`.
    pub id: &'static str,
    /// The id of the clause that the store violates, such as `T-1`.
    pub clause: &'static str,
    /// The defect in one sentence. The sentence names a real system that has or had the defect, if one is known.
    pub defect: &'static str,
    /// The ids of cases that must fail on the store. The first one tests [`Fault::clause`].
    pub caught_by: &'static [&'static str],
    wrap: Wrap,
}

impl Fault {
    /// Returns every broken store, in the order of the files.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ALL.iter().copied().flatten()
    }

    /// Wraps a good store in the broken one. `clock` must be the clock of the good store.
    pub fn wrap(&self, good: Arc<dyn KvStore>, clock: Arc<dyn Clock>) -> Arc<dyn KvStore> {
        (self.wrap)(good, clock)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({}: {})", self.id, self.defect)
    }
}

const ALL: &[&[Fault]] = &[
    expiry::FAULTS,
    touch::FAULTS,
    expired::FAULTS,
    keys::FAULTS,
    list::FAULTS,
    pages::FAULTS,
    namespaces::FAULTS,
    namespace_keys::FAULTS,
    info::FAULTS,
    values::FAULTS,
    singles::FAULTS,
    batch::FAULTS,
    conditions::FAULTS,
    versions::FAULTS,
    counters::FAULTS,
    transactions::FAULTS,
    watch::FAULTS,
    watch_reports::FAULTS,
    watch_combined::FAULTS,
    together::FAULTS,
    messages::FAULTS,
    concurrency::FAULTS,
    caches::FAULTS,
    restart::FAULTS,
    damage::FAULTS,
    full_disk::FAULTS,
    close::FAULTS,
    outage::FAULTS,
    openers::FAULTS,
    refuses::FAULTS,
    moments::FAULTS,
    deep_pages::FAULTS,
    chunks::FAULTS,
    neighbours::FAULTS,
    lost_reports::FAULTS,
    watch_moments::FAULTS,
    script_reports::FAULTS,
    watch_changes::FAULTS,
    sinks::FAULTS,
    outage_sinks::FAULTS,
    reads::FAULTS,
    near::FAULTS,
];

/// Declares the broken stores of a file: the defect as a doc comment, the name, the clause, the cases that fail on the
/// store, and the expression that wraps the good store.
macro_rules! faults {
    ($folder:ident: $(
        $(#[doc = $defect:literal])+
        $name:ident: $clause:literal [$($case:literal),*] |$inner:ident, $clock:ident| $wrapped:expr;
    )+) => {
        pub(super) const FAULTS: &[$crate::faulty::Fault] = &[$(
            $crate::faulty::Fault {
                id: concat!(stringify!($folder), "/", stringify!($name)),
                clause: $clause,
                defect: concat!($($defect),+).trim_ascii(),
                caught_by: &[$($case),*],
                wrap: |$inner, $clock| ::std::sync::Arc::new($wrapped),
            }
        ),+];
    };
}

use faults;
