//! Who tells of changes: a trigger that is disabled while nobody watches, so that writers pay nothing then.
//!
//! A watcher holds a shared advisory lock for as long as its connection lives, and enables the trigger. Enabling waits for the
//! writes under way, so every write that is acknowledged later is told. Whoever finds the trigger enabled and the lock free
//! disables it, holding the lock for itself meanwhile.

use kv_core::{Result, Version};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::address::Address;
use crate::error::Effect;
use crate::listen::{self, within};
use crate::schema::{Table, WATCH_LOCK};
use crate::state::{Core, column};
use crate::statement::Sql;

/// How often to try where others hold the table.
const TRIES: usize = 5;

/// Makes every later write told.
pub(crate) async fn enable(client: &Client, core: &Core) -> Result<()> {
    let limit = core.links.limit;
    let lock = format!("SELECT pg_advisory_lock_shared({WATCH_LOCK}, {})", core.table.number());
    within(limit, client.batch_execute(&lock)).await?;
    let parameters = [(&core.table.qualified() as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT)];
    let mut tries = 0;
    loop {
        let is_enabled = within(limit, client.query_typed_one(ENABLED, &parameters)).await?;
        if column(&is_enabled, 0)? {
            return Ok(());
        }
        let enabling = format!("SET LOCAL lock_timeout = '2s'; {}", switch(&core.table, "ENABLE"));
        match within(limit, client.batch_execute(&enabling)).await {
            Err(error) if error.is_retryable() && tries < TRIES && !client.is_closed() => tries += 1,
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
}

const ENABLED: &str = "SELECT coalesce(bool_and(tgenabled <> 'D'), false) FROM pg_catalog.pg_trigger \
                       WHERE tgrelid = to_regclass($1) AND tgname LIKE 'anykv tell%'";

fn switch(table: &Table, how: &str) -> String {
    let t = table.qualified();
    Table::TRIGGERS.map(|trigger| format!("ALTER TABLE {t} {how} TRIGGER {trigger}")).join("; ")
}

/// Disables the trigger where nobody watches any more.
pub(crate) async fn quieten(core: &Core) -> Result<()> {
    let sql = Sql::new(ENABLED, &[Type::TEXT]);
    let rows = core.read(&sql, &[&core.table.qualified()]).await?;
    let is_enabled = rows.first().map_or(Ok(false), |row| column(row, 0))?;
    if !is_enabled {
        return Ok(());
    }
    let number = core.table.number();
    let quietening = format!(
        "SET LOCAL lock_timeout = '100ms'; DO $quieten$ BEGIN \
         IF pg_try_advisory_xact_lock({WATCH_LOCK}, {number}) THEN {}; END IF; END $quieten$",
        switch(&core.table, "DISABLE")
    );
    let mut link = core.links.get().await.map_err(|fault| fault.into_error(Effect::None))?;
    link.batch(&quietening).await.map_err(|fault| fault.into_error(Effect::None))
}

/// Whether notifications of this database arrive at the address.
pub(crate) async fn is_heard(core: &Core, address: &Address) -> Result<bool> {
    let (channel, payload) = (core.table.channel(), format!("? {}", Version::random()));
    let (client, mut heard) = listen::expect(&channel, payload.clone(), address, core.links.limit).await?;
    crate::message::notify(core, &channel, &payload).await?;
    // The server sends a session what it has heard before it answers it again: however slow it is, what has not come now never
    // will.
    within(core.links.limit, client.batch_execute("")).await?;
    Ok(heard.try_recv().is_ok())
}
