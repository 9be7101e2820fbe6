//! The settings of a server that a store depends on: eviction, durability and version.

use std::collections::HashMap;
use std::time::Duration;

use kv_core::{Durability, Error, Result, Survives};

use crate::error::{Failure, read_error};
use crate::server::identity;
use crate::server::node::Node;
use crate::server::router::Router;

/// The keys that a server may evict when its memory is full. The variants are ordered from the best to the worst for a
/// store.
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
    /// The value of `maxmemory-policy`, if this crate knows the value.
    pub(crate) name: &'static str,
}

impl Policy {
    const UNKNOWN: Self = Self { eviction: Eviction::Unknown, name: "unknown" };

    pub(crate) fn from_info(text: Option<&str>) -> Self {
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

/// The setting that limits the durability of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// No weakness: each write is flushed to the medium before it is acknowledged.
    None,
    /// `appendfsync everysec`.
    FlushEverySecond,
    /// Another value of `appendfsync`. The flush is left to the operating system.
    NoFlush,
    /// The server has begun its append-only file, and the file does not have all entries yet.
    FirstRewrite,
    /// `appendonly no`.
    NoAppendOnlyFile,
    /// A replica, which may take over and lack the last writes.
    Replica,
}

/// The settings of a server, or the worst settings of all masters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerInfo {
    pub(crate) policy: Policy,
    pub(crate) durability: Durability,
    /// The setting that limits the durability; `None` if the server does not report its settings.
    pub(crate) weakness: Option<Weakness>,
    /// True while the server writes a new append-only file, or has failed to write it.
    pub(crate) is_rewriting: bool,
    /// The number of keys that the server has evicted since it was started.
    pub(crate) evicted_keys: u64,
    /// True if the server reports its run id.
    pub(crate) has_run_id: bool,
    /// The major version of the server; 0 if it is unknown.
    pub(crate) major_version: u32,
}

impl ServerInfo {
    /// The best value of each setting.
    pub(crate) const BEST: Self = Self {
        policy: Policy { eviction: Eviction::None, name: "noeviction" },
        durability: Durability::surviving(Survives::Power),
        weakness: Some(Weakness::None),
        is_rewriting: false,
        evicted_keys: 0,
        has_run_id: true,
        major_version: u32::MAX,
    };

    /// Returns the worse value of each setting.
    fn worse(self, other: Self) -> Self {
        let weaker = if is_weaker(other.durability, self.durability) { other } else { self };
        Self {
            policy: self.policy.worse(other.policy),
            durability: weaker.durability,
            weakness: weaker.weakness,
            is_rewriting: self.is_rewriting || other.is_rewriting,
            evicted_keys: self.evicted_keys.saturating_add(other.evicted_keys),
            has_run_id: self.has_run_id && other.has_run_id,
            major_version: self.major_version.min(other.major_version),
        }
    }
}

/// True if one durability promises less than the other.
pub(crate) fn is_weaker(one: Durability, other: Durability) -> bool {
    one.survives < other.survives || (one.survives == other.survives && one.interval > other.interval)
}

/// Reads the settings of every master. The result has the worst value of each setting, so it holds for all masters.
pub(crate) async fn read_all(router: &Router) -> Result<ServerInfo> {
    let mut worst = ServerInfo::BEST;
    let masters = router.masters();
    if masters.is_empty() {
        return Err(Error::unavailable("the cluster has no master"));
    }
    for node in masters {
        worst = worst.worse(read(router, &node).await?);
    }
    if router.is_cluster() {
        worst.durability = through_failover(worst.durability);
    }
    Ok(worst)
}

/// Returns the reply to an `INFO` command; empty if the user lacks the right to this command.
async fn info_text(router: &Router, node: &Node, cmd: &redis::Cmd) -> Result<String> {
    let text = identity::info_text(router.call_node(node, cmd).await).map_err(read_error)?;
    Ok(text.unwrap_or_default())
}

/// Returns the value of a field in the reply to `INFO`.
fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

async fn read(router: &Router, node: &Node) -> Result<ServerInfo> {
    let info = info_text(router, node, &redis::cmd("INFO")).await?;
    let field = |name: &str| field(&info, name);
    if field("loading") == Some("1") {
        // A server switches its append-only file off while it loads it.
        return Err(Error::unavailable("the server is loading its data"));
    }
    let policy = match field("maxmemory_policy") {
        Some(policy) => Policy::from_info(Some(policy)),
        None => Policy::from_info(setting(router, node, "maxmemory-policy").await?.as_deref()),
    };
    if field("role") == Some("slave") {
        // The server was demoted. A new connection to the same address may lead to the new master, for example through
        // a proxy.
        node.renew_connection();
    }
    let is_busy = ["aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_pending_rewrite"]
        .into_iter()
        .any(|name| field(name).is_some_and(|value| value != "0"));
    let (mut durability, mut weakness) = match field("aof_enabled") {
        Some("0") => (Durability::surviving(Survives::Process), Some(Weakness::NoAppendOnlyFile)),
        // The size of the file after its last rewrite is 0 before the first rewrite.
        Some("1") if is_busy && field("aof_base_size") == Some("0") => {
            (Durability::surviving(Survives::Process), Some(Weakness::FirstRewrite))
        }
        Some("1") => append_only_durability(setting(router, node, "appendfsync").await?.as_deref()),
        _ => (Durability::VOLATILE, None),
    };
    if has_replica(&info) && durability.survives > Survives::Process {
        (durability, weakness) = (through_failover(durability), Some(Weakness::Replica));
    }
    Ok(ServerInfo {
        policy,
        durability,
        weakness,
        is_rewriting: is_busy || field("aof_last_bgrewrite_status").is_some_and(|status| status != "ok"),
        evicted_keys: field("evicted_keys").and_then(|count| count.parse().ok()).unwrap_or(0),
        has_run_id: field("run_id").is_some(),
        major_version: field("redis_version").and_then(|text| text.split('.').next()?.parse().ok()).unwrap_or(0),
    })
}

/// True if a replica is connected. A client that only copies the data, such as `redis-cli --rdb`, is listed as a
/// replica without a port. Such a client cannot take over.
fn has_replica(info: &str) -> bool {
    let is_listed = |line: &str| {
        line.strip_prefix("slave").is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    let mut listed = info.lines().filter(|line| is_listed(line)).peekable();
    if listed.peek().is_none() {
        return field(info, "connected_slaves").is_some_and(|count| count != "0");
    }
    listed.any(|line| !line.contains("port=0,"))
}

/// Returns the durability of a server with replicas. If a replica takes over, it may lack the last writes, even if the
/// master has them on its disk. Therefore the durability is at most `Process`.
pub(crate) fn through_failover(durability: Durability) -> Durability {
    if durability.survives > Survives::Process { Durability::surviving(Survives::Process) } else { durability }
}

/// Returns the durability of a server with an append-only file, by its flush policy.
fn append_only_durability(policy: Option<&str>) -> (Durability, Option<Weakness>) {
    match policy {
        Some("always") => (Durability::surviving(Survives::Power), Some(Weakness::None)),
        // Redis delays a flush by up to two seconds if the flush before is slow.
        Some("everysec") => (
            Durability::surviving(Survives::Power).with_interval(Duration::from_secs(2)),
            Some(Weakness::FlushEverySecond),
        ),
        Some(_) => (Durability::surviving(Survives::Process), Some(Weakness::NoFlush)),
        // A policy that the user may not read counts as the weakest policy.
        None => (Durability::surviving(Survives::Process), None),
    }
}

/// Reads a setting of a server; `None` if the user lacks the right to `CONFIG GET`.
async fn setting(router: &Router, node: &Node, name: &str) -> Result<Option<String>> {
    match router.call_node(node, redis::cmd("CONFIG").arg("GET").arg(name)).await {
        Ok(value) => {
            let settings = redis::from_redis_value::<HashMap<String, String>>(value).unwrap_or_default();
            Ok(settings.get(name).cloned())
        }
        Err(Failure::Refused(_)) => Ok(None),
        Err(failure) => Err(read_error(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_copies_the_data_is_not_a_replica() {
        assert!(!has_replica("role:master\r\nconnected_slaves:0\r\n"));
        assert!(has_replica("connected_slaves:1\r\n"));
        let copying = "connected_slaves:1\r\nslave0:ip=127.0.0.1,port=0,state=online,offset=0,lag=1\r\n";
        assert!(!has_replica(copying));
        assert!(has_replica(&format!("{copying}slave1:ip=127.0.0.1,port=6380,state=online,offset=0,lag=0\r\n")));
    }
}
