//! Opening a store.
//!
//! Opening connects to the servers, reads their settings, creates or checks the namespace, and starts the background
//! tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

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
use crate::server::connections::Connections;
use crate::server::info::{self, Eviction};
use crate::server::node::{Node, Timing};
use crate::server::probe;
use crate::server::router::{Router, Servers};
use crate::settings::run_settings_reader;
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
    // This call only reports invalid settings before anything is sent to a server. Its result is not needed yet.
    layout(if config.format == Format::Plain { Shape::Plain } else { Shape::Indexed })?;
    let endpoints = address.endpoints(config)?;
    let first = endpoints.first().map(|endpoint| endpoint.info().addr().clone());
    let timing = Timing {
        connect: config.connect_timeout,
        operation: config.operation_timeout,
        heartbeat: config.heartbeat,
        max_value: config.format.max_reply_bytes(),
    };
    let scripts = Arc::new(Scripts::new(config.format));
    let connections = Arc::<Connections>::default();
    let servers = if is_cluster {
        Servers::Cluster(Box::new(Cluster::new(endpoints, timing, clock, Arc::clone(&connections))))
    } else {
        let endpoint = endpoints.into_iter().next().ok_or_else(|| Error::invalid("there is no address"))?;
        Servers::Single(Node::new(endpoint, timing, clock, Arc::clone(&connections)))
    };
    let router = Router::new(servers, connections, timing, Arc::clone(&scripts));
    if let Err(failure) = router.connect().await {
        return Err(read_error(match first {
            Some(first) => Box::pin(probe::explained(&first, failure)).await,
            None => failure,
        }));
    }
    let connections_before = router.connections().count();
    let server_info = info::read_all(&router).await?;
    // The key of the record is the same for every layout of the namespace.
    let record = match config.format {
        Format::Plain => None,
        Format::Entry => layout_record::read(&router, &layout(Shape::Indexed)?).await.map_err(read_error)?,
    };
    if record.is_none() && config.format == Format::Entry && !config.create {
        return Err(Error::invalid(format!("there is no store: the namespace `{}` does not exist", config.namespace)));
    }
    let recorded_shape = record.as_deref().and_then(Shape::of_record);
    let shape = shape(config, recorded_shape, server_info.policy.eviction)?;
    // The server may have evicted members of the indexes. Then `index=none` opens the namespace for reading and copying
    // with scans. A write is refused, because it would not maintain the indexes.
    let is_read_only = recorded_shape == Some(Shape::Indexed)
        && shape == Shape::IndexFree
        && server_info.policy.eviction == Eviction::AnyKey;
    let layout = layout(shape)?;
    if shape == Shape::Plain {
        if server_info.major_version < 7 {
            return Err(Error::invalid("the plain format needs Redis 7, for the command PEXPIRETIME"));
        }
    } else {
        let expected = layout.record_as(if is_read_only { Shape::Indexed } else { shape });
        layout_record::create_or_check(&router, &layout, record, &expected).await?;
    }
    let observed = Observed {
        may_evict: server_info.policy.eviction != Eviction::None,
        durability: server_info.durability,
        has_run_id: server_info.has_run_id,
    };
    let capabilities = capabilities(shape, is_cluster, buckets, config.group_segments, observed);
    let info = StoreInfo::new(NAME, capabilities).with_limits(limits).with_watch_loss_bound(config.watch_loss_bound);
    let channel_prefix = layout.channel_prefix(address.db(config));
    let state = State::new(info, router, layout, config.format, scripts, channel_prefix);
    if is_read_only {
        state.write_gate.set_read_only();
    }
    state.index_trust.observe(server_info.policy);
    state.index_trust.observe_evictions(server_info.evicted_keys);
    state.settings_connections.store(connections_before, Ordering::Release);
    let reader = tokio::spawn(run_settings_reader(Arc::downgrade(&state), config.heartbeat));
    let mut tasks = vec![reader.abort_handle()];
    if shape == Shape::Indexed {
        tasks.push(tokio::spawn(sweep::run_sweeper(Arc::downgrade(&state), config.sweep_interval)).abort_handle());
    }
    state.set_tasks(tasks);
    Ok(RedisStore::from_state(state))
}

/// Returns the shape with which the namespace is opened or created. If the record of the namespace has another shape,
/// `layout_record::create_or_check` refuses the namespace later.
fn shape(config: &RedisConfig, recorded: Option<Shape>, eviction: Eviction) -> Result<Shape> {
    if config.format == Format::Plain {
        return match config.index {
            Index::Ordered => {
                Err(Error::invalid("the plain format has no index, because other programs would not maintain it"))
            }
            Index::Auto | Index::None => Ok(Shape::Plain),
        };
    }
    let may_lose_index = matches!(eviction, Eviction::AnyKey | Eviction::Unknown);
    match (config.index, recorded) {
        // The namespace exists. If the server may evict its indexes, the namespace is opened nevertheless, and only
        // lists fail.
        (Index::Auto | Index::Ordered, Some(Shape::Indexed)) => Ok(Shape::Indexed),
        (Index::None, _) | (Index::Auto, Some(Shape::IndexFree)) => Ok(Shape::IndexFree),
        (Index::Auto, _) if may_lose_index => Ok(Shape::IndexFree),
        (Index::Ordered, None) if may_lose_index => Err(Error::invalid(
            "the server may evict any key, or does not report its policy, so an index could lose members: \
             set its `maxmemory-policy` to `noeviction`, or open with `index=none`",
        )),
        (Index::Auto | Index::Ordered, _) => Ok(Shape::Indexed),
    }
}
