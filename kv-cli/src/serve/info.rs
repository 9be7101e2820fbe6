//! What a store says of itself, as JSON.

use anykv::{Capabilities, Limits, List, Reach, StoreInfo, Survives, Transactions};
use serde_json::{Value, json};

pub(super) fn shown(info: &StoreInfo) -> Value {
    let Limits { max_value_bytes, max_message_bytes, .. } = info.limits;
    json!({
        "name": info.name,
        "capabilities": capabilities(&info.capabilities),
        "limits": {"max_value_bytes": max_value_bytes, "max_message_bytes": max_message_bytes},
    })
}

fn capabilities(capabilities: &Capabilities) -> Value {
    let durability = capabilities.durability;
    json!({
        "versions": capabilities.versions,
        "deadlines": capabilities.deadlines,
        "conditions": capabilities.conditions,
        "previous": capabilities.previous,
        "list": match capabilities.list {
            List::None => "none",
            List::Emulated => "emulated",
            List::Native => "native",
            _ => "unknown",
        },
        "touch": capabilities.touch,
        "counters": capabilities.counters,
        "transactions": match capabilities.transactions {
            Transactions::None => json!("none"),
            Transactions::Any => json!("any"),
            Transactions::WithinFirst(segments) => json!({"within_first": segments}),
            _ => json!("unknown"),
        },
        "watch": reach(capabilities.watch),
        "watch_expiry": capabilities.watch_expiry,
        "messages": reach(capabilities.messages),
        "shared": capabilities.shared,
        "durability": {
            "survives": match durability.survives {
                Survives::Volatile => "volatile",
                Survives::Process => "process",
                Survives::Server => "server",
                Survives::Power => "power",
                _ => "unknown",
            },
            "interval_ms": u64::try_from(durability.interval.as_millis()).unwrap_or(u64::MAX),
        },
        "may_evict": capabilities.may_evict,
    })
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::None => "none",
        Reach::Process => "process",
        Reach::Shared => "shared",
        _ => "unknown",
    }
}
