//! The settings of a server that a store depends on: eviction, durability and version.

use std::collections::HashMap;
use std::time::Duration;

use kv_core::{Durability, Error, Result, Survives};
use redis::Value;

use crate::error::{Failure, read_error};
use crate::server::node::Node;
use crate::server::router::Router;

/// The keys that a server may evict when its memory is full. The order is from the best to the worst for a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Eviction {
    None,
    /// Keys with a deadline. An index has no deadline, so it is not evicted.
    Expiring,
    /// The server does not report its policy.
    Unknown,
    /// Any key.
    AnyKey,
}

/// The eviction policy of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) eviction: Eviction,
    /// The value of `maxmemory-policy`, if it is a known one.
    pub(crate) name: &'static str,
}

impl Policy {
    const UNKNOWN: Self = Self { eviction: Eviction::Unknown, name: "unknown" };

    fn from_info(text: Option<&str>) -> Self {
        const KNOWN: [&str; 8] = [
            "noeviction",
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
        ];
        let Some(text) = text else { return Self::UNKNOWN };
        let eviction = match text {
            "noeviction" => Eviction::None,
            text if text.starts_with("volatile-") => Eviction::Expiring,
            _ => Eviction::AnyKey,
        };
        let name = KNOWN.into_iter().find(|known| *known == text).unwrap_or("another policy");
        Self { eviction, name }
    }

    /// Returns the worse of two policies.
    fn worse(self, other: Self) -> Self {
        if other.eviction > self.eviction { other } else { self }
    }
}

/// The settings of a server, or the worst settings of all masters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerInfo {
    pub(crate) policy: Policy,
    pub(crate) durability: Durability,
    /// The major version of the server; 0 if it is unknown.
    pub(crate) major_version: u32,
}

/// Reads the settings of every master. The result has the worst value of each setting, so it is true of all masters.
pub(crate) async fn read_all(router: &Router) -> Result<ServerInfo> {
    let mut worst: Option<ServerInfo> = None;
    for node in router.masters() {
        let info = read(router, &node).await?;
        worst = Some(match worst {
            None => info,
            Some(before) => ServerInfo {
                policy: before.policy.worse(info.policy),
                durability: if info.durability.survives < before.durability.survives {
                    info.durability
                } else {
                    before.durability
                },
                major_version: before.major_version.min(info.major_version),
            },
        });
    }
    worst.ok_or_else(|| Error::unavailable("the cluster has no master"))
}

/// Reads the eviction policy of every master. The result is the worst of them.
pub(crate) async fn read_policy(router: &Router) -> Result<Policy> {
    let mut worst = Policy { eviction: Eviction::None, name: "noeviction" };
    for node in router.masters() {
        let text = info_text(router, &node, redis::cmd("INFO").arg("memory")).await?;
        worst = worst.worse(Policy::from_info(field(&text, "maxmemory_policy")));
    }
    Ok(worst)
}

/// Returns the reply to an `INFO` command; empty if the user lacks the right to this command.
async fn info_text(router: &Router, node: &Node, cmd: &redis::Cmd) -> Result<String> {
    match router.call_node(node, cmd).await {
        Ok(Value::BulkString(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(Value::VerbatimString { text, .. }) => Ok(text),
        Ok(_) => Ok(String::new()),
        Err(failure) if failure.code() == Some("NOPERM") => Ok(String::new()),
        Err(failure) => Err(read_error(failure)),
    }
}

/// Returns the value of a field in the reply to `INFO`.
fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

async fn read(router: &Router, node: &Node) -> Result<ServerInfo> {
    let info = info_text(router, node, &redis::cmd("INFO")).await?;
    let field = |name: &str| field(&info, name);
    let policy = Policy::from_info(field("maxmemory_policy"));
    let mut durability = match field("aof_enabled") {
        Some("0") => Durability::surviving(Survives::Process),
        Some("1") => append_only_durability(router, node).await?,
        _ => Durability::VOLATILE,
    };
    if field("connected_slaves").is_some_and(|count| count != "0") {
        durability = through_failover(durability);
    }
    let major_version = field("redis_version").and_then(|version| version.split('.').next()?.parse().ok()).unwrap_or(0);
    Ok(ServerInfo { policy, durability, major_version })
}

/// Returns the durability of a server with replicas. If a replica takes over, it may lack the last writes, even if the
/// master has them on its disk. So the durability is at most `Process`.
pub(crate) fn through_failover(durability: Durability) -> Durability {
    if durability.survives > Survives::Process { Durability::surviving(Survives::Process) } else { durability }
}

/// Returns the durability of a server with an append-only file, by its flush policy.
async fn append_only_durability(router: &Router, node: &Node) -> Result<Durability> {
    let reply = router.call_node(node, redis::cmd("CONFIG").arg("GET").arg("appendfsync")).await;
    let policy = match reply {
        Ok(value) => redis::from_redis_value::<HashMap<String, String>>(value)
            .ok()
            .and_then(|settings| settings.get("appendfsync").cloned())
            .unwrap_or_default(),
        // A policy that the user may not read counts as the weakest policy.
        Err(Failure::Refused(_)) => String::new(),
        Err(failure) => return Err(read_error(failure)),
    };
    Ok(match policy.as_str() {
        "always" => Durability::surviving(Survives::Power),
        // Redis delays a flush by up to two seconds if the flush before is slow.
        "everysec" => Durability::surviving(Survives::Power).with_interval(Duration::from_secs(2)),
        _ => Durability::surviving(Survives::Process),
    })
}
