//! Opening a store: reads the servers' settings, creates or checks the namespace, and starts the sweeper.

use std::sync::Arc;

use kv_core::{Clock, Error, Result, StoreInfo};

use crate::address::Address;
use crate::capabilities::{Observed, capabilities};
use crate::codec::Format;
use crate::config::{Index, RedisConfig};
use crate::error::{NAME, read_error};
use crate::layout::{Layout, Shape};
use crate::layout_record;
use crate::script::Scripts;
use crate::server::cluster::Cluster;
use crate::server::info::{self, Eviction, ServerInfo};
use crate::server::node::{Node, Timing};
use crate::server::router::{Router, Servers};
use crate::state::State;
use crate::store::RedisStore;
use crate::sweep;

/// The default number of buckets on a cluster.
const CLUSTER_BUCKETS: u16 = 64;

pub(crate) async fn open(address: &Address, config: &RedisConfig, clock: Arc<dyn Clock>) -> Result<RedisStore> {
    let limits = config.limits()?;
    let is_cluster = address.is_cluster();
    let buckets = config.buckets.unwrap_or(if is_cluster { CLUSTER_BUCKETS } else { 1 });
    let layout = |shape| Layout::new(&config.namespace, shape, buckets, config.group_segments, is_cluster);
    // Reports invalid settings before anything is sent to a server.
    layout(if config.format == Format::Plain { Shape::Plain } else { Shape::Indexed })?;
    let clients = address.clients(config)?;
    let timing =
        Timing { connect: config.connect_timeout, operation: config.operation_timeout, heartbeat: config.heartbeat };
    let scripts = Arc::new(Scripts::new(config.format));
    let servers = if is_cluster {
        Servers::Cluster(Box::new(Cluster::new(clients, timing, clock)))
    } else {
        let client = clients.into_iter().next().ok_or_else(|| Error::invalid("there is no address"))?;
        Servers::Single(Node::new(client, timing, clock))
    };
    let router = Router::new(servers, timing, Arc::clone(&scripts));
    router.refresh().await.map_err(read_error)?;
    let server_info = info::read_all(&router).await?;
    let shape = shape(config, server_info)?;
    let layout = layout(shape)?;
    if shape == Shape::Plain {
        if server_info.major_version < 7 {
            return Err(Error::invalid("the plain format needs Redis 7, for the command PEXPIRETIME"));
        }
    } else {
        layout_record::create_or_check(&router, &layout).await?;
    }
    let durability = if is_cluster { info::through_failover(server_info.durability) } else { server_info.durability };
    let observed = Observed { may_evict: server_info.eviction != Eviction::None, durability };
    let capabilities = capabilities(shape, is_cluster, buckets, config.group_segments, observed);
    let info = StoreInfo::new(NAME, capabilities).with_limits(limits);
    let channel_prefix = layout.channel_prefix(address.db(config));
    let state = State::new(info, router, layout, config.format, scripts, channel_prefix);
    if shape == Shape::Indexed {
        let sweeper = tokio::spawn(sweep::keep_sweeping(Arc::downgrade(&state), config.sweep_interval));
        state.set_sweeper(sweeper.abort_handle());
    }
    Ok(RedisStore::from_state(state))
}

fn shape(config: &RedisConfig, server_info: ServerInfo) -> Result<Shape> {
    if config.format == Format::Plain {
        return match config.index {
            Index::Ordered => {
                Err(Error::invalid("the plain format has no index, because other programs would not maintain it"))
            }
            Index::Auto | Index::None => Ok(Shape::Plain),
        };
    }
    match (config.index, server_info.eviction) {
        (Index::None, _) | (Index::Auto, Eviction::AnyKey) => Ok(Shape::IndexFree),
        (Index::Ordered, Eviction::AnyKey) => Err(Error::invalid(
            "the server may evict any key, or does not report its policy, so an index could lose members: \
             set its `maxmemory-policy` to `noeviction`, or open with `index=none`",
        )),
        (Index::Auto | Index::Ordered, Eviction::None | Eviction::Expiring) => Ok(Shape::Indexed),
    }
}
