//! Opening: what the servers are like, and how the namespace is laid out.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Capabilities, Clock, Durability, Error, Result, StoreInfo, Survives};
use redis::Value;

use crate::address::Address;
use crate::capabilities::{Found, capabilities};
use crate::cluster::Cluster;
use crate::codec::Format;
use crate::config::{Index, RedisConfig};
use crate::error::{Failure, read};
use crate::layout::{Layout, Shape};
use crate::link::{Link, Servers};
use crate::node::{Node, Timing};
use crate::request::Request;
use crate::script::Scripts;
use crate::store::{RedisStore, Shared};

/// Into how many buckets the keys of a cluster are spread unless said.
const CLUSTER_BUCKETS: u16 = 64;

pub(crate) async fn open(address: &Address, config: &RedisConfig, clock: Arc<dyn Clock>) -> Result<RedisStore> {
    let limits = config.limits()?;
    let is_cluster = address.is_cluster();
    let buckets = config.buckets.unwrap_or(if is_cluster { CLUSTER_BUCKETS } else { 1 });
    let layout = |shape| Layout::new(&config.namespace, shape, buckets, config.group_segments, is_cluster);
    // What is wrong with the settings is told before anything is asked of a server.
    layout(if config.format == Format::Plain { Shape::Plain } else { Shape::Ordered })?;
    let clients = address.clients(config)?;
    let timing =
        Timing { connect: config.connect_timeout, operation: config.operation_timeout, heartbeat: config.heartbeat };
    let scripts = Arc::new(Scripts::new(config.format));
    let servers = if is_cluster {
        Servers::Cluster(Box::new(Cluster::new(clients, timing, clock)))
    } else {
        let client = clients.into_iter().next().ok_or_else(|| Error::invalid("there is no address"))?;
        Servers::One(Node::new(client, timing, clock))
    };
    let link = Link::new(servers, timing, Arc::clone(&scripts));
    link.refresh().await.map_err(read)?;
    let seen = look(&link).await?;
    let shape = shape(config, seen)?;
    let layout = layout(shape)?;
    if shape == Shape::Plain {
        if seen.major < 7 {
            return Err(Error::invalid("the plain format needs Redis 7, whose commands tell a deadline"));
        }
    } else {
        record(&link, &layout).await?;
    }
    let durability = if is_cluster { seen.durability.min_of_failover() } else { seen.durability.0 };
    let found = Found { may_evict: seen.evicts != Evicts::Nothing, durability };
    let can: Capabilities = capabilities(shape, is_cluster, buckets, config.group_segments, found);
    let info = StoreInfo::new(RedisStore::NAME, can).with_limits(limits);
    let channels = layout.channels(address.db(config));
    Ok(RedisStore::from_shared(Shared::new(info, link, layout, config, scripts, channels)))
}

/// What a server drops for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evicts {
    Nothing,
    /// Entries with a deadline: an index, which has none, stays.
    Expiring,
    /// Everything, or what is not known.
    Everything,
}

/// What an acknowledged write survives on one server.
#[derive(Debug, Clone, Copy)]
struct Kept(Durability);

impl Kept {
    /// A replica that takes over may lack the last writes, whatever the master has on its disk.
    fn min_of_failover(self) -> Durability {
        if self.0.survives > Survives::Process { Durability::surviving(Survives::Process) } else { self.0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    evicts: Evicts,
    durability: Kept,
    major: u32,
}

/// Looks at every server; what the worst of them says holds for the store.
async fn look(link: &Link) -> Result<Seen> {
    let mut worst: Option<Seen> = None;
    for node in link.masters() {
        let seen = look_at(link, &node).await?;
        worst = Some(match worst {
            None => seen,
            Some(before) => Seen {
                evicts: before.evicts.max(seen.evicts),
                durability: if seen.durability.0.survives < before.durability.0.survives {
                    seen.durability
                } else {
                    before.durability
                },
                major: before.major.min(seen.major),
            },
        });
    }
    worst.ok_or_else(|| Error::unavailable("the cluster has no master"))
}

async fn look_at(link: &Link, node: &Node) -> Result<Seen> {
    let info = match link.call_node(node, &redis::cmd("INFO")).await {
        Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(_) => String::new(),
        // Without the right to ask, the worst is taken for true.
        Err(failure) if failure.code() == Some("NOPERM") => String::new(),
        Err(failure) => return Err(read(failure)),
    };
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let evicts = match field("maxmemory_policy") {
        Some("noeviction") => Evicts::Nothing,
        Some(policy) if policy.starts_with("volatile-") => Evicts::Expiring,
        _ => Evicts::Everything,
    };
    let durability = match field("aof_enabled") {
        Some("0") => Durability::surviving(Survives::Process),
        Some("1") => flushes(link, node).await?,
        _ => Durability::VOLATILE,
    };
    let mut durability = Kept(durability);
    // Who has a replica may lose against it.
    if field("connected_slaves").is_some_and(|count| count != "0") {
        durability = Kept(durability.min_of_failover());
    }
    let major = field("redis_version").and_then(|version| version.split('.').next()?.parse().ok()).unwrap_or(0);
    Ok(Seen { evicts, durability, major })
}

/// What a server with an append-only file flushes before it acknowledges.
async fn flushes(link: &Link, node: &Node) -> Result<Durability> {
    let asked = link.call_node(node, redis::cmd("CONFIG").arg("GET").arg("appendfsync")).await;
    let policy = match asked {
        Ok(value) => redis::from_redis_value::<std::collections::HashMap<String, String>>(value)
            .ok()
            .and_then(|settings| settings.get("appendfsync").cloned())
            .unwrap_or_default(),
        // What cannot be read is not promised.
        Err(Failure::Refused(_)) => String::new(),
        Err(failure) => return Err(read(failure)),
    };
    Ok(match policy.as_str() {
        "always" => Durability::surviving(Survives::Power),
        // A flush that takes long puts off the next writes by up to two seconds.
        "everysec" => Durability::surviving(Survives::Power).with_interval(Duration::from_secs(2)),
        _ => Durability::surviving(Survives::Process),
    })
}

fn shape(config: &RedisConfig, seen: Seen) -> Result<Shape> {
    if config.format == Format::Plain {
        return match config.index {
            Index::Ordered => Err(Error::invalid("the plain format has no index, since other programs do not keep it")),
            Index::Auto | Index::None => Ok(Shape::Plain),
        };
    }
    match (config.index, seen.evicts) {
        (Index::None, _) | (Index::Auto, Evicts::Everything) => Ok(Shape::Free),
        (Index::Ordered, Evicts::Everything) => Err(Error::invalid(
            "the server may evict any key, or does not tell, so an index would not stay whole: \
             set its `maxmemory-policy` to `noeviction`, or open with `index=none`",
        )),
        (Index::Auto | Index::Ordered, Evicts::Nothing | Evicts::Expiring) => Ok(Shape::Ordered),
    }
}

/// Records the layout where the namespace is new, and refuses one that was laid out otherwise.
async fn record(link: &Link, layout: &Layout) -> Result<()> {
    let wanted = layout.record();
    let mut found = recorded(link, layout).await.map_err(read)?;
    if found.is_none() {
        // Everybody records the same, so it does not matter whose write it was, or whether a lost one was applied.
        record_anew(link, layout).await.map_err(read)?;
        found = recorded(link, layout).await.map_err(read)?;
    }
    let found =
        found.ok_or_else(|| Error::unavailable("the layout of the namespace was evicted while it was recorded"))?;
    if found == wanted.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found).into_owned();
    let known = found.starts_with("1 ") && found.len() < 100;
    let found = if known { found.as_str() } else { "of another version" };
    Err(Error::invalid(format!(
        "the namespace was laid out as `{found}`, and this is `{wanted}`: version, index, buckets, group segments"
    )))
}

/// How the namespace is laid out, where that is recorded. It is asked before anything is written, since a server whose memory is
/// used up refuses also a write that would change nothing.
pub(crate) async fn recorded(link: &Link, layout: &Layout) -> Result<Option<Vec<u8>>, Failure> {
    let (key, slot) = layout.own("layout");
    let mut get = redis::cmd("GET");
    get.arg(&key);
    match link.call(&Request::new(slot, get)).await? {
        Value::BulkString(found) => Ok(Some(found)),
        Value::Nil => Ok(None),
        _ => Err(Failure::Strange),
    }
}

/// Records the layout where nothing is recorded.
pub(crate) async fn record_anew(link: &Link, layout: &Layout) -> Result<(), Failure> {
    let (key, slot) = layout.own("layout");
    let mut set = redis::cmd("SET");
    set.arg(&key).arg(layout.record()).arg("NX");
    link.call(&Request::new(slot, set)).await.map(drop)
}
