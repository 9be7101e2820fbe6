//! Opening a store.
//!
//! Opening creates the pool and the table, checks the server, and starts the store's tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use kv_core::{Error, Result, StoreInfo, Version};

use crate::address::Address;
use crate::capabilities::{CAPABILITIES, POOLED_CAPABILITIES, durability};
use crate::config::PostgresConfig;
use crate::connection::Connections;
use crate::error::{Cause, Failure, NAME, read_error};
use crate::estimate::ValueLength;
use crate::listen_connection::{self, round_trip};
use crate::listen_request::Listener;
use crate::listener::run_listener;
use crate::permits::Permits;
use crate::runtime::StoreRuntime;
use crate::schema::{self, Table};
use crate::server::PoolServer;
use crate::state::State;
use crate::statement::Statements;
use crate::store::PostgresStore;
use crate::watchers::Watchers;
use crate::{message, sweeper};

/// The source of a store's connections.
#[derive(Clone)]
pub(crate) enum Origin {
    Address(Box<Address>),
    /// A pool that the application passed in.
    Pool(Pool),
}

/// Opens a store.
pub(crate) async fn open(origin: Origin, config: PostgresConfig) -> Result<PostgresStore> {
    let table = Table::new(&config.schema, &config.table)?;
    let has_own_sessions = matches!(origin, Origin::Address(_)) && !config.pooled;
    let info = StoreInfo::new(NAME, CAPABILITIES).with_limits(config.limits(has_own_sessions)?);
    let runtime = StoreRuntime::current()?;
    let (connections, own_address) = connections(origin, &config)?;
    let has_message_tables = prepare(&connections, &table, &config).await?;

    let listen_address = match &config.listen_url {
        Some(url) => Some(Address::parse_listen_url(url)?),
        None => None,
    };
    let has_listen_url = listen_address.is_some();
    let address = listen_address.or(own_address).map(|mut address| {
        // The listener's connection runs no statement that depends on session settings, so it needs no session
        // settings.
        address.apply(&PostgresConfig { pooled: true, ..config.clone() });
        address
    });
    let mut state = State {
        info,
        sql: Statements::new(&table),
        table,
        connections: Arc::new(connections),
        runtime,
        value_length: ValueLength::new(),
        watchers: Watchers::new(config.watch_loss_bound),
        has_message_tables,
        listener: None,
        lock_timeout: config.lock_timeout,
        sweep_interval: config.sweep_interval,
    };
    let address = match address {
        Some(address) if notifications_arrive(&state, &address).await? => Some(address),
        Some(_) if has_listen_url || !config.pooled => {
            return Err(Error::invalid(
                "the server's notifications do not arrive, as behind a transaction pooler: set `pooled`, and \
                 `listen_url` to an address of the server itself",
            ));
        }
        _ => None,
    };
    let capabilities = if address.is_some() { CAPABILITIES } else { POOLED_CAPABILITIES };
    if capabilities.sinks {
        state.info.watch_loss_bound = config.watch_loss_bound;
    }
    state.info.capabilities = capabilities.with_durability(durability(&state).await?);
    let (listener, requests) = Listener::new();
    state.listener = address.is_some().then_some(listener);
    let state = Arc::new(state);
    state.runtime.spawn(sweeper::run_sweeper(Arc::clone(&state)));
    if let Some(address) = address {
        state.runtime.spawn(run_listener(Arc::clone(&state), address, requests));
    }
    Ok(PostgresStore::new(state))
}

/// Builds the pool, or takes the application's pool. Also returns the address, unless the pool is the application's.
fn connections(origin: Origin, config: &PostgresConfig) -> Result<(Connections, Option<Address>)> {
    // Behind a pooler, a connection does not stay with one server.
    let server = (matches!(origin, Origin::Address(_)) && !config.pooled).then(Arc::<PoolServer>::default);
    let (pool, canceller, address) = match origin {
        Origin::Pool(pool) => (pool, None, None),
        Origin::Address(address) => {
            let original = (*address).clone();
            let mut address = *address;
            address.apply(config);
            let tls = address.tls.clone();
            // A connection goes back to the pool only after every request was answered, so it needs no reset.
            let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            let manager = Manager::from_config(address.config, address.tls, recycling);
            let mut pool = Pool::builder(manager);
            if let Some(server) = &server {
                pool = pool.post_create(server.hook(config.connect_timeout));
            }
            let pool = pool
                .max_size(config.connections)
                .wait_timeout(Some(config.operation_timeout))
                .create_timeout(Some(config.connect_timeout))
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|error| Error::invalid("the connection pool cannot be built").with_source(error))?;
            (pool, Some(tls), Some(original))
        }
    };
    let permits = Permits::new(pool.status().max_size);
    let connections = Connections {
        pool,
        permits,
        is_read_only: AtomicBool::new(false),
        pooled: config.pooled,
        timeout: config.operation_timeout,
        canceller,
        server,
    };
    Ok((connections, address))
}

/// Prepares the table as [`schema::prepare`] does, with one connection and one timeout for all statements.
async fn prepare(connections: &Connections, table: &Table, config: &PostgresConfig) -> Result<bool> {
    let timeout = config.connect_timeout.saturating_add(config.operation_timeout);
    // The application's pool may have no timeouts.
    let result = tokio::time::timeout(timeout, connections.pool.get()).await;
    let result = result.unwrap_or_else(|_| Err(connections.timeout_error()));
    let object = result.map_err(|error| read_error(Failure::from_pool(error)))?;
    let prepared = async {
        let is_read_only = schema::is_read_only(&object).await?;
        connections.is_read_only.store(is_read_only, Ordering::Relaxed);
        schema::prepare(&object, table, config, is_read_only).await
    };
    if let Ok(prepared) = tokio::time::timeout(timeout, prepared).await {
        return prepared;
    }
    // The connection may be inside a statement or a transaction, so it must not go back to the pool.
    drop(deadpool_postgres::Object::take(object));
    Err(read_error(Failure::NotSent(Cause::Timeout)))
}

/// Returns true if a notification that is sent through the pool arrives on a connection to `address`.
async fn notifications_arrive(state: &State, address: &Address) -> Result<bool> {
    let timeout = state.connections.timeout;
    let (channel, payload) = (state.table.channel(), format!("? {}", Version::random()));
    let (client, mut arrived) = listen_connection::listen_for(&channel, payload.clone(), address, timeout).await?;
    message::notify(state, &channel, &payload).await?;
    // The server sends pending notifications to a session before its next response. Therefore a notification that has
    // not arrived after this round trip never arrives, however slow the server is.
    round_trip(timeout, client.batch_execute("")).await?;
    Ok(arrived.try_recv().is_ok())
}
