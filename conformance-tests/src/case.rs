//! The table of cases: what each proves and what it needs.

use std::fmt;

use kv_core::{BoxFuture, Capabilities, Capability, Reach, Survives, Transactions};

use crate::context::Context;
use crate::failure::Verdict;
use crate::suite::Hooks;

/// A part of the contract that a store can have as a whole; reports count cases by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the part of the contract of the same name")]
pub enum Level {
    Core,
    List,
    Conditions,
    Transactions,
    Counters,
    Batch,
    Watch,
    Messages,
    Durable,
    Shared,
}

impl Level {
    /// Every level, in the order of reports.
    pub const ALL: &'static [Self] = &[
        Self::Core,
        Self::List,
        Self::Conditions,
        Self::Transactions,
        Self::Counters,
        Self::Batch,
        Self::Watch,
        Self::Messages,
        Self::Durable,
        Self::Shared,
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Core => "Core",
            Self::List => "List",
            Self::Conditions => "Conditions",
            Self::Transactions => "Transactions",
            Self::Counters => "Counters",
            Self::Batch => "Batch",
            Self::Watch => "Watch",
            Self::Messages => "Messages",
            Self::Durable => "Durable",
            Self::Shared => "Shared",
        })
    }
}

/// What a case needs of the store, or of the harness around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The store has the capability.
    Has(Capability),
    /// The store lacks the capability: the case sees it refused. Where the capability is there, the case is not listed.
    Lacks(Capability),
    /// Transactions reach over any keys.
    AnyTransaction,
    /// Watchers hear of expired entries.
    WatchExpiry,
    /// The store keeps live entries, however many there are.
    KeepsAll,
    /// The store declares that other processes see its entries.
    Shared,
    /// What was acknowledged survives at least this.
    Survives(Survives),
    /// Watchers in other processes hear of changes.
    WatchShared,
    /// Subscribers in other processes get messages.
    MessagesShared,
    /// The harness can open the same store again after it was closed.
    Reopen,
    /// The harness can open a second handle on the same store.
    SecondHandle,
    /// The harness can open the same store in another process.
    SecondProcess,
    /// The harness gives the store a clock that is moved by hand.
    Clock,
    /// The harness can cut the link between store and backend, and heal it.
    Outage,
}

/// Whether a case is run against a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applies {
    /// It is.
    Run,
    /// It is not, and the report says why.
    Skip(String),
    /// It is the twin of a case that runs.
    Omit,
}

impl Need {
    fn applies(self, capabilities: &Capabilities, hooks: Hooks) -> Applies {
        let is_met = match self {
            Self::Has(capability) => capabilities.has(capability),
            Self::Lacks(capability) if capabilities.has(capability) => return Applies::Omit,
            Self::Lacks(_) => true,
            Self::AnyTransaction => capabilities.transactions == Transactions::Any,
            Self::WatchExpiry => capabilities.watch_expiry,
            Self::KeepsAll => !capabilities.may_evict,
            Self::Shared => capabilities.shared,
            Self::WatchShared => capabilities.watch == Reach::Shared,
            Self::MessagesShared => capabilities.messages == Reach::Shared,
            Self::Survives(what) => capabilities.durability.survives >= what,
            Self::Reopen => hooks.reopen,
            Self::SecondHandle => hooks.second_handle,
            Self::SecondProcess => hooks.second_process,
            Self::Clock => hooks.clock,
            Self::Outage => hooks.outage,
        };
        if is_met { Applies::Run } else { Applies::Skip(format!("needs {self}")) }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(capability) => write!(f, "the capability `{capability}`"),
            Self::Lacks(capability) => write!(f, "a store without `{capability}`"),
            Self::AnyTransaction => f.write_str("transactions over any keys"),
            Self::WatchExpiry => f.write_str("watch to tell of expiry"),
            Self::KeepsAll => f.write_str("a store that evicts nothing"),
            Self::Shared => f.write_str("a store that processes share"),
            Self::WatchShared => f.write_str("watch that reaches other processes"),
            Self::MessagesShared => f.write_str("messages that reach other processes"),
            Self::Survives(what) => write!(f, "durability {what:?} or better"),
            Self::Reopen => f.write_str("a harness that reopens the store"),
            Self::SecondHandle => f.write_str("a harness that opens a second handle"),
            Self::SecondProcess => f.write_str("a harness that opens the store in a second process"),
            Self::Clock => f.write_str("a harness with a clock that is moved by hand"),
            Self::Outage => f.write_str("a harness that cuts the link to the backend"),
        }
    }
}

/// One small proof of one clause.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, such as `expiry/zero_is_absent`.
    pub id: &'static str,
    /// The part of the contract that it belongs to.
    pub level: Level,
    /// The clause of the contract that it proves.
    pub clause: &'static str,
    /// What must hold, in one sentence.
    pub rule: &'static str,
    /// What it needs to be run.
    pub needs: &'static [Need],
    pub(crate) run: fn(Context) -> BoxFuture<'static, Verdict>,
}

impl Case {
    /// Every case, in the order of reports.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        crate::cases::ALL.iter().copied().flatten()
    }

    pub(crate) fn applies(&self, capabilities: &Capabilities, hooks: Hooks) -> Applies {
        self.needs
            .iter()
            .map(|need| need.applies(capabilities, hooks))
            .reduce(|one, other| match (one, other) {
                (Applies::Omit, _) | (_, Applies::Omit) => Applies::Omit,
                (Applies::Skip(reason), _) | (Applies::Run, Applies::Skip(reason)) => Applies::Skip(reason),
                (Applies::Run, Applies::Run) => Applies::Run,
            })
            .unwrap_or(Applies::Run)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({})", self.id)
    }
}

/// The contents page of a file of cases: a line each, with the clause, the needs and the rule. The body is the function of
/// the same name below.
///
/// Beside the table it exports a macro of the file's name, from which [`tests!`](crate::tests) makes single tests.
macro_rules! cases {
    ($folder:ident, $level:ident: $($name:ident: $clause:literal [$($need:expr),*] $rule:literal;)+) => {
        pub(crate) const CASES: &[$crate::case::Case] = &[$(
            $crate::case::Case {
                id: concat!(stringify!($folder), "/", stringify!($name)),
                level: $crate::case::Level::$level,
                clause: $clause,
                rule: $rule,
                needs: &[$($need),*],
                run: |context| Box::pin($name(context)),
            }
        ),+];

        $crate::case::cases! { @export ($) $folder $($name)+ }
    };
    (@export ($dollar:tt) $folder:ident $($name:ident)+) => {
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $folder {
            ($dollar suite:expr) => {
                mod $folder {
                    #[allow(unused_imports, reason = "what the suite's expression names")]
                    use super::*;
                    $(#[test]
                    fn $name() {
                        $dollar suite.test(concat!(stringify!($folder), "/", stringify!($name)));
                    })+
                }
            };
        }
    };
}

pub(crate) use cases;
