//! A case: the clause that it tests, and its needs.

use std::fmt;

use kv_core::{BoxFuture, Capabilities, Capability, List, Reach, Survives, Transactions};

use crate::context::Context;
use crate::failure::Verdict;
use crate::suite::Hooks;

/// A part of the contract that a store implements or lacks as a whole. Reports count cases by level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each level is the part of the contract of the same name")]
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

/// A requirement that the store or the harness must meet for a case to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The store has the capability.
    Has(Capability),
    /// The store lacks the capability, and the case checks that the store refuses calls that need it. The report of a
    /// store that has the capability does not list the case.
    Lacks(Capability),
    /// The cost of a page of a list depends on the returned entries only.
    NativeList,
    /// Transactions may use any keys.
    AnyTransaction,
    /// Watchers get an event for an entry that expires.
    WatchExpiry,
    /// The store never evicts live entries.
    KeepsAll,
    /// Reads show every acknowledged write of every handle at once.
    Linearizable,
    /// The store declares that processes share its entries.
    Shared,
    /// Acknowledged writes survive at least this failure.
    Survives(Survives),
    /// Watchers in other processes get events for changes.
    WatchShared,
    /// Subscribers in other processes get messages.
    MessagesShared,
    /// The harness can reopen a closed store.
    Reopen,
    /// The harness can open a second handle to the same store.
    SecondHandle,
    /// The harness can open the same store in a second process.
    SecondProcess,
    /// The harness gives the store a clock that the cases set.
    Clock,
    /// The harness can cut the link between the store and its backend, and heal it.
    Outage,
    /// The harness can open the store in a process that the cases kill.
    Crash,
    /// The harness can damage the stored bytes of an entry.
    Damage,
    /// The harness can fill the disk of the store, and make room again.
    FullDisk,
    /// The harness opens the store outside any namespace, so that a namespace may have its longest name.
    LongestNamespace,
}

/// The decision if a case runs against a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applies {
    /// The case runs.
    Run,
    /// The case does not run, and the report gives the reason.
    Skip(String),
    /// The report does not list the case, because the case checks the refusal of a capability that the store has.
    Omit,
}

impl Need {
    fn applies(self, capabilities: &Capabilities, hooks: Hooks) -> Applies {
        let is_met = match self {
            Self::Has(capability) => capabilities.has(capability),
            Self::Lacks(capability) if capabilities.has(capability) => return Applies::Omit,
            Self::Lacks(_) => true,
            Self::NativeList => capabilities.list == List::Native,
            Self::AnyTransaction => capabilities.transactions == Transactions::Any,
            Self::WatchExpiry => capabilities.watch_expiry,
            Self::KeepsAll => !capabilities.may_evict,
            Self::Linearizable => !capabilities.bounded_reads,
            Self::Shared => capabilities.shared,
            Self::WatchShared => capabilities.watch == Reach::Shared,
            Self::MessagesShared => capabilities.messages == Reach::Shared,
            Self::Survives(failure) => capabilities.durability.survives >= failure,
            Self::Reopen => hooks.reopen,
            Self::SecondHandle => hooks.second_handle,
            Self::SecondProcess => hooks.second_process,
            Self::Clock => hooks.clock,
            Self::Outage => hooks.outage,
            Self::Crash => hooks.crash,
            Self::Damage => hooks.damage,
            Self::FullDisk => hooks.full_disk,
            Self::LongestNamespace => !hooks.in_namespaces,
        };
        if is_met { Applies::Run } else { Applies::Skip(format!("needs {self}")) }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(capability) => write!(f, "the capability `{capability}`"),
            Self::Lacks(capability) => write!(f, "a store without `{capability}`"),
            Self::NativeList => f.write_str("a store that declares `List::Native`"),
            Self::AnyTransaction => f.write_str("transactions over any keys"),
            Self::WatchExpiry => f.write_str("a watch that reports expiry"),
            Self::KeepsAll => f.write_str("a store that never evicts live entries"),
            Self::Linearizable => f.write_str("linearizable reads, and the store declares bounded reads"),
            Self::Shared => f.write_str("a store that declares `shared`"),
            Self::WatchShared => f.write_str("a watch that reaches other processes"),
            Self::MessagesShared => f.write_str("messages that reach other processes"),
            Self::Survives(failure) => write!(f, "writes that survive {failure:?} or more"),
            Self::Reopen => f.write_str("a store that can be reopened: declare it with `Suite::with_reopen`"),
            Self::SecondHandle => f.write_str("a second handle: declare it with `Suite::with_second_handle`"),
            Self::SecondProcess => {
                f.write_str("a second process: use `Suite::on_backend`, or set it with `Suite::with_second_process`")
            }
            Self::Clock => {
                f.write_str("a clock: give the store `Fresh::clock` and declare it with `Suite::with_clock`")
            }
            Self::Outage => f.write_str("a link that can be cut: use `Suite::over_links` or `Suite::with_outage`"),
            Self::Crash => f.write_str("a child process: put files in `Fresh::folder` and call `Suite::with_crash`"),
            Self::Damage => f.write_str("damaged entries: set a function with `Suite::with_damage`"),
            Self::FullDisk => f.write_str("a disk that can be full: use `Suite::on_disks` or `Suite::with_full_disk`"),
            Self::LongestNamespace => f.write_str("stores outside any namespace: remove `Suite::in_namespaces`"),
        }
    }
}

/// A small test of one clause.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name, such as `expiry/zero_is_absent`.
    pub id: &'static str,
    /// The level of the clause.
    pub level: Level,
    /// The id of the contract's clause that the case tests, such as `T-3`.
    pub clause: &'static str,
    /// The rule that must hold, in one sentence.
    pub rule: &'static str,
    /// The requirements to run the case.
    pub needs: &'static [Need],
    pub(crate) run: fn(Context) -> BoxFuture<'static, Verdict>,
}

impl Case {
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

/// Declares the cases of a file, each with its name, clause, needs and rule. The function of the same name in the file
/// runs the case.
///
/// Also exports a macro with the name of the file, which declares one `#[test]` per case. [`tests!`](crate::tests)
/// calls the macros of all files.
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
                    #[allow(unused_imports, reason = "the suite expression may use names of the caller")]
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
