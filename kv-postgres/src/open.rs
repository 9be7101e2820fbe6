//! Opening: the pool, the table, what the server promises, and the tasks.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use kv_core::hub::Hub;
use kv_core::{Capabilities, Durability, Error, Reach, Result, StoreInfo, Survives};
use tokio_postgres::types::Type;

use crate::address::Address;
use crate::builder::Origin;
use crate::config::PostgresConfig;
use crate::error::{Cause, Effect, Fault};
use crate::home::Home;
use crate::lane::Lane;
use crate::link::Links;
use crate::listen::{Listener, keep_listening};
use crate::schema::{self, Table};
use crate::state::{Answers, Core, column};
use crate::statement::{Sql, Statements};
use crate::store::{CAPABILITIES, PostgresStore};
use crate::{sweep, watch};

/// Opens the store.
pub(crate) async fn open(origin: Origin, config: PostgresConfig) -> Result<PostgresStore> {
    let table = Table::new(&config.schema, &config.table)?;
    let info = StoreInfo::new(PostgresStore::NAME, CAPABILITIES).with_limits(config.limits()?);
    let home = Home::here()?;
    let (links, own) = links(origin, &config)?;
    prepare(&links, &table, &config).await?;

    let other = match &config.listen_url {
        Some(url) => Some(Address::parse(&url.parse()?)?.0),
        None => None,
    };
    let is_told_where = other.is_some();
    let address = other.or(own).map(|mut address| {
        // It runs none of the statements for which sessions have settings.
        address.settle(&PostgresConfig { pooled: true, ..config.clone() });
        address
    });
    let (listener, requests) = Listener::new();
    let mut core = Core {
        info,
        sql: Statements::new(&table),
        table,
        links,
        home,
        gets: Lane::new(),
        answers: Answers::new(),
        sets: Lane::new(),
        deletes: Lane::new(),
        changes: Hub::new(),
        letters: Hub::new(),
        listener: None,
        sweep_interval: config.sweep_interval,
    };
    let address = match address {
        Some(address) if watch::is_heard(&core, &address).await? => Some(address),
        Some(_) if is_told_where || !config.pooled => {
            return Err(Error::invalid(
                "notifications of the server are not heard, as behind a pooler of transactions: set `pooled`, and \
                 `listen_url` to an address of the server itself",
            ));
        }
        _ => None,
    };
    let durability = durability(&core).await?;
    core.info.capabilities = capabilities(address.is_some()).with_durability(durability);
    core.listener = address.is_some().then_some(listener);
    let core = Arc::new(core);
    core.home.spawn(sweep::keep_sweeping(Arc::clone(&core)));
    if let Some(address) = address {
        core.home.spawn(keep_listening(Arc::clone(&core), address, requests));
    }
    Ok(PostgresStore::from_core(core))
}

const fn capabilities(hears: bool) -> Capabilities {
    if hears { CAPABILITIES } else { crate::store::POOLED_CAPABILITIES }
}

/// The pool, and the address where it is our own.
fn links(origin: Origin, config: &PostgresConfig) -> Result<(Links, Option<Address>)> {
    let (pool, canceller, address) = match origin {
        Origin::Pool(pool) => (pool, None, None),
        Origin::Address(address) => {
            let own = (*address).clone();
            let mut address = *address;
            address.settle(config);
            let tls = address.tls.clone();
            // Connections come back only when everything was answered, so there is nothing to clean.
            let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            let manager = Manager::from_config(address.config, address.tls, recycling);
            let pool = Pool::builder(manager)
                .max_size(config.connections)
                .wait_timeout(Some(config.operation_timeout))
                .create_timeout(Some(config.connect_timeout))
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|error| Error::invalid("the pool cannot be built").with_source(error))?;
            (pool, Some(tls), Some(own))
        }
    };
    Ok((Links { pool, pooled: config.pooled, limit: config.operation_timeout, canceller }, address))
}

/// Makes sure of the table, on one connection and within one deadline.
async fn prepare(links: &Links, table: &Table, config: &PostgresConfig) -> Result<()> {
    let limit = config.connect_timeout.saturating_add(config.operation_timeout);
    // A pool that was given may have no deadlines of its own.
    let got = tokio::time::timeout(limit, links.pool.get()).await;
    let got = got.unwrap_or_else(|_| Err(links.out_of_time()));
    let object = got.map_err(|error| Fault::pool(error).into_error(Effect::None))?;
    if let Ok(prepared) = tokio::time::timeout(limit, schema::prepare(&object, table, config.sync)).await {
        return prepared;
    }
    // It may be in the middle of something.
    drop(deadpool_postgres::Object::take(object));
    Err(Fault::Before(Cause::Timeout).into_error(Effect::None))
}

/// What an acknowledged write survives, by the settings that hold for our sessions and the kind of the table.
async fn durability(core: &Core) -> Result<Durability> {
    let sql = Sql::new(
        "SELECT current_setting('fsync')::bool AND current_setting('full_page_writes')::bool, \
         current_setting('synchronous_commit') <> 'off', \
         (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay'), \
         (SELECT relpersistence = 'p' FROM pg_catalog.pg_class WHERE oid = to_regclass($1))",
        &[Type::TEXT],
    );
    let rows = core.read(&sql, &[&core.table.qualified()]).await?;
    let Some(row) = rows.first() else { return Ok(Durability::VOLATILE) };
    let (is_flushed, is_waited_for): (bool, bool) = (column(row, 0)?, column(row, 1)?);
    let (delay, is_logged): (Option<i64>, Option<bool>) = (column(row, 2)?, column(row, 3)?);
    if is_logged != Some(true) {
        return Ok(Durability::surviving(Survives::Process));
    }
    let survives = if is_flushed { Survives::Power } else { Survives::Server };
    if is_waited_for {
        return Ok(Durability::surviving(survives));
    }
    // The server's own words: at most three times the delay of its writer.
    let delay = Duration::from_millis(delay.unwrap_or(200).unsigned_abs());
    Ok(Durability::surviving(survives).with_interval(delay * 3))
}

/// What the store can do where it hears the server.
pub(crate) const fn hearing(capabilities: Capabilities) -> Capabilities {
    capabilities.with_watch(Reach::Shared).with_watch_expiry().with_messages(Reach::Shared)
}
