//! The JSON form of a store's name, capabilities and limits.

use std::time::Duration;

use kv_core::{Capabilities, Durability, Limits, List, Reach, Reads, StoreInfo, Survives, Transactions};
use serde::{Deserialize, Serialize};

/// The name, capabilities and limits of a store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Info {
    name: String,
    capabilities: CapabilityNames,
    limits: LimitNumbers,
    /// The bound of [`Reads::Bounded`], in milliseconds rounded up; `None` for linearizable reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reads_bounded_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "as many as `Capabilities` has")]
struct CapabilityNames {
    versions: bool,
    deadlines: bool,
    conditions: bool,
    previous: bool,
    list: ListName,
    touch: bool,
    counters: bool,
    transactions: TransactionsName,
    watch: ReachName,
    watch_expiry: bool,
    messages: ReachName,
    shared: bool,
    durability: DurabilityNames,
    may_evict: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct LimitNumbers {
    max_value_bytes: usize,
    max_message_bytes: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ListName {
    None,
    Emulated,
    Native,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TransactionsName {
    None,
    Any,
    WithinFirst(u8),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReachName {
    None,
    Process,
    Shared,
}

#[derive(Debug, Serialize, Deserialize)]
struct DurabilityNames {
    survives: SurvivesName,
    interval_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SurvivesName {
    Volatile,
    Process,
    Server,
    Power,
}

impl From<&StoreInfo> for Info {
    fn from(info: &StoreInfo) -> Self {
        let Limits { max_value_bytes, max_message_bytes, .. } = info.limits;
        let can = &info.capabilities;
        Self {
            name: info.name.clone().into_owned(),
            capabilities: CapabilityNames {
                versions: can.versions,
                deadlines: can.deadlines,
                conditions: can.conditions,
                previous: can.previous,
                list: match can.list {
                    List::Native => ListName::Native,
                    List::Emulated => ListName::Emulated,
                    _ => ListName::None,
                },
                touch: can.touch,
                counters: can.counters,
                transactions: match can.transactions {
                    Transactions::Any => TransactionsName::Any,
                    Transactions::WithinFirst(segments) => TransactionsName::WithinFirst(segments),
                    _ => TransactionsName::None,
                },
                watch: can.watch.into(),
                watch_expiry: can.watch_expiry,
                messages: can.messages.into(),
                shared: can.shared,
                durability: DurabilityNames {
                    survives: match can.durability.survives {
                        Survives::Power => SurvivesName::Power,
                        Survives::Server => SurvivesName::Server,
                        Survives::Process => SurvivesName::Process,
                        _ => SurvivesName::Volatile,
                    },
                    interval_ms: u64::try_from(can.durability.interval.as_millis()).unwrap_or(u64::MAX),
                },
                may_evict: can.may_evict,
            },
            limits: LimitNumbers { max_value_bytes, max_message_bytes },
            reads_bounded_ms: match info.reads {
                Reads::Linearizable => None,
                Reads::Bounded(bound) => {
                    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
                    Some(millis.saturating_add(u64::from(bound.subsec_nanos() % 1_000_000 > 0)))
                }
                _ => Some(u64::MAX),
            },
        }
    }
}

/// The protocol has no sinks, so the information of the client has none.
impl From<Info> for StoreInfo {
    fn from(info: Info) -> Self {
        let Info { name, capabilities, limits, reads_bounded_ms } = info;
        let LimitNumbers { max_value_bytes, max_message_bytes } = limits;
        let limits = Limits::DEFAULT.with_max_value_bytes(max_value_bytes).with_max_message_bytes(max_message_bytes);
        let reads = reads_bounded_ms.map_or(Reads::Linearizable, |bound| Reads::Bounded(Duration::from_millis(bound)));
        let mut capabilities = Capabilities::from(capabilities);
        capabilities.bounded_reads = reads != Reads::Linearizable;
        Self::new(name, capabilities).with_limits(limits).with_reads(reads)
    }
}

impl From<CapabilityNames> for Capabilities {
    fn from(names: CapabilityNames) -> Self {
        let mut can = Self::CORE;
        can.versions = names.versions;
        can.deadlines = names.deadlines;
        can.conditions = names.conditions;
        can.previous = names.previous;
        can.list = match names.list {
            ListName::None => List::None,
            ListName::Emulated => List::Emulated,
            ListName::Native => List::Native,
        };
        can.touch = names.touch;
        can.counters = names.counters;
        can.transactions = match names.transactions {
            TransactionsName::None => Transactions::None,
            TransactionsName::Any => Transactions::Any,
            TransactionsName::WithinFirst(segments) => Transactions::WithinFirst(segments),
        };
        can.watch = names.watch.into();
        can.watch_expiry = names.watch_expiry;
        can.messages = names.messages.into();
        can.shared = names.shared;
        let survives = match names.durability.survives {
            SurvivesName::Volatile => Survives::Volatile,
            SurvivesName::Process => Survives::Process,
            SurvivesName::Server => Survives::Server,
            SurvivesName::Power => Survives::Power,
        };
        let interval = Duration::from_millis(names.durability.interval_ms);
        can.durability = Durability::surviving(survives).with_interval(interval);
        can.may_evict = names.may_evict;
        can
    }
}

impl From<Reach> for ReachName {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Shared => Self::Shared,
            Reach::Process => Self::Process,
            _ => Self::None,
        }
    }
}

impl From<ReachName> for Reach {
    fn from(name: ReachName) -> Self {
        match name {
            ReachName::None => Self::None,
            ReachName::Process => Self::Process,
            ReachName::Shared => Self::Shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_info_round_trips() {
        let full = Capabilities::CORE
            .with_versions()
            .with_deadlines()
            .with_conditions()
            .with_previous()
            .with_list(List::Emulated)
            .with_touch()
            .with_counters()
            .with_transactions(Transactions::WithinFirst(2))
            .with_watch(Reach::Shared)
            .with_watch_expiry()
            .with_messages(Reach::Process)
            .with_shared()
            .with_durability(Durability::surviving(Survives::Power).with_interval(Duration::from_millis(5)))
            .with_may_evict();
        for capabilities in [Capabilities::CORE, full, full.with_transactions(Transactions::Any)] {
            let info = StoreInfo::new("some", capabilities).with_limits(Limits::DEFAULT.with_max_value_bytes(9 << 20));
            let line = serde_json::to_string(&Info::from(&info)).unwrap();
            assert_eq!(StoreInfo::from(serde_json::from_str::<Info>(&line).unwrap()), info, "{line}");
        }
        let bounded = StoreInfo::new("some", full.with_sinks().with_bounded_reads())
            .with_reads(Reads::Bounded(Duration::from_micros(1_500)))
            .with_watch_loss_bound(Duration::ZERO);
        let line = serde_json::to_string(&Info::from(&bounded)).unwrap();
        let read = StoreInfo::from(serde_json::from_str::<Info>(&line).unwrap());
        let expected = StoreInfo::new("some", full.with_bounded_reads());
        assert_eq!(read, expected.with_reads(Reads::Bounded(Duration::from_millis(2))), "{line}");
    }
}
