//! Stores that break the contract on purpose, each in one way, so that the suite can show that it catches them.
//!
//! | file | what is broken |
//! |---|---|
//! | `expiry`, `touch` | deadlines on the way in; `touch` and the sweeper |
//! | `ghosts` | one operation still sees expired entries |
//! | `keys` over `recoded` | the encoding of keys |
//! | `list`, `pages` | prefixes and `clear`; order, bounds and pages |
//! | `values`, `singles`, `batch` | bytes, single keys, batches |
//! | `info` | what a store says of itself |
//! | `conditions` | what is judged, when, and what is answered |
//! | `versions` | versions that repeat |
//! | `counters`, `transactions` | arithmetic, atomicity |
//! | `watch`, `gossip`, `messages` | what is told, when, and to whom |
//! | `concurrency`, `caches` | races and cancelled calls; copies that are out of date |
//! | `restart` | what close and reopen do |
//! | `outage` | what happens while the backend is away, and afterwards |
//! | `refuses` | options and operations that are not declared |
//! | `scan`, `kept` | what the others need: listing by reading everything, and remembering |

mod batch;
mod caches;
mod concurrency;
mod conditions;
mod counters;
mod expiry;
mod ghosts;
mod gossip;
mod info;
mod kept;
mod keys;
mod list;
mod messages;
mod outage;
mod pages;
mod recoded;
mod refuses;
mod restart;
mod scan;
mod singles;
mod touch;
mod transactions;
mod values;
mod versions;
mod watch;

use std::fmt;
use std::sync::Arc;

use kv_core::{Clock, KvStore};

/// Makes a good store faulty; the clock is the good store's.
type Wrap = fn(Arc<dyn KvStore>, Arc<dyn Clock>) -> Arc<dyn KvStore>;

/// A store that is broken in one way.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Fault {
    /// Its name, such as `expiry/ttl_is_ignored`.
    pub id: &'static str,
    /// The clause of the contract that it breaks.
    pub clause: &'static str,
    /// What it does wrong, and who is known to do so.
    pub story: &'static str,
    /// The cases that must fail over it. The first of them names [`Fault::clause`].
    pub caught_by: &'static [&'static str],
    wrap: Wrap,
}

impl Fault {
    /// Every fault, in the order of the files.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ALL.iter().copied().flatten()
    }

    /// A good store, made faulty. The clock is the one that the good store takes its time from.
    pub fn wrap(&self, good: Arc<dyn KvStore>, clock: Arc<dyn Clock>) -> Arc<dyn KvStore> {
        (self.wrap)(good, clock)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({}: {})", self.id, self.story)
    }
}

const ALL: &[&[Fault]] = &[
    expiry::FAULTS,
    touch::FAULTS,
    ghosts::FAULTS,
    keys::FAULTS,
    list::FAULTS,
    pages::FAULTS,
    info::FAULTS,
    values::FAULTS,
    singles::FAULTS,
    batch::FAULTS,
    conditions::FAULTS,
    versions::FAULTS,
    counters::FAULTS,
    transactions::FAULTS,
    watch::FAULTS,
    gossip::FAULTS,
    messages::FAULTS,
    concurrency::FAULTS,
    caches::FAULTS,
    restart::FAULTS,
    outage::FAULTS,
    refuses::FAULTS,
];

/// The contents page of a file of faults: name, clause, story, the cases that catch it, and how a good store is wrapped.
macro_rules! faults {
    ($folder:ident: $($name:ident: $clause:literal $story:literal [$($case:literal),*] |$inner:ident, $clock:ident| $wrapped:expr;)+) => {
        pub(super) const FAULTS: &[$crate::faulty::Fault] = &[$(
            $crate::faulty::Fault {
                id: concat!(stringify!($folder), "/", stringify!($name)),
                clause: $clause,
                story: $story,
                caught_by: &[$($case),*],
                wrap: |$inner, $clock| ::std::sync::Arc::new($wrapped),
            }
        ),+];
    };
}

use faults;
