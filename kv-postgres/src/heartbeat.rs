//! Heartbeats, which prove that the listener has received every change.
//!
//! A heartbeat is a statement on the listener's connection. Its answer proves that the connection reaches the server of
//! the pool, and that the triggers that report changes have been enabled without a pause: the table, the triggers and
//! their function have the same catalog rows as when the listener enabled the triggers. Every `ALTER` makes a new row
//! with another `xmin`, so a trigger that was disabled and enabled again between two heartbeats is noticed.
//!
//! While there are sinks, the statement also sends a notification to its own session. A commit becomes visible before
//! other sessions are signalled to read its notifications, so the answer to a query does not prove that they have
//! arrived. But the queue of notifications is in the order of the commits: a commit holds the lock of the queue until
//! it is visible. So when the heartbeat's own notification arrives, the notifications of every change that was visible
//! before the heartbeat was sent have arrived.

use std::sync::{Arc, OnceLock};

use kv_core::{Error, Moment, Result, Version};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Notification};

use crate::listen_connection::round_trip;
use crate::schema::Table;
use crate::server::{START_TIME, ServerId};
use crate::state::{State, column};
use crate::statement::Sql;

/// The notifications of one connection's heartbeats.
///
/// The server tells the process id of the sender with each notification, so no other session can forge them. They have
/// a channel of their own, so that no other listener receives them.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) channel: String,
    /// The process id of the connection's session.
    process_id: OnceLock<i32>,
    /// The number of the last heartbeat that came back.
    received: watch::Sender<u64>,
}

impl Echo {
    pub(crate) fn new(table: &Table) -> Arc<Self> {
        let channel = format!("{}_{}", table.channel(), Version::random());
        Arc::new(Self { channel, process_id: OnceLock::new(), received: watch::Sender::new(0) })
    }

    /// Sets the process id of the session that listens.
    pub(crate) fn set_process_id(&self, process_id: i32) {
        let _ = self.process_id.set(process_id);
    }

    /// Receives a notification. Returns false if it is not on the channel of the heartbeats.
    pub(crate) fn receive(&self, notification: &Notification) -> bool {
        if notification.channel() != self.channel {
            return false;
        }
        if self.process_id.get() == Some(&notification.process_id())
            && let Ok(number) = notification.payload().parse::<u64>()
        {
            self.received.send_modify(|last| *last = number.max(*last));
        }
        true
    }

    async fn wait_for(&self, number: u64) {
        // Waiting cannot fail, because the sender is a field of `self`.
        let _ = self.received.subscribe().wait_for(|received| *received >= number).await;
    }
}

/// The state of the server and of the triggers, as one statement saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) process_id: i32,
    pub(crate) server: ServerId,
    /// The id of the table; `None` if the table is missing.
    pub(crate) table: Option<u32>,
    /// The ids and versions of the catalog rows of the triggers and their function.
    triggers: Option<String>,
    /// True if both triggers fire in every session.
    pub(crate) is_enabled: bool,
}

/// Returns the statement of a heartbeat. `$1` is the name of the table. With `notifies`, the statement sends the
/// notification `$3` on the channel `$2`.
fn sql(notifies: bool) -> String {
    let notify = if notifies { ", pg_catalog.pg_notify($2, $3)" } else { "" };
    format!(
        "SELECT pg_catalog.pg_backend_pid(), {START_TIME}, c.oid, t.versions, coalesce(t.is_enabled, false){notify} \
         FROM (SELECT pg_catalog.to_regclass($1)::oid AS oid OFFSET 0) c, LATERAL (SELECT \
         pg_catalog.string_agg(pg_catalog.concat_ws(',', g.oid, g.xmin, p.oid, p.xmin), ' ' ORDER BY g.oid) AS versions, \
         pg_catalog.count(*) = 2 AND pg_catalog.bool_and(g.tgenabled = 'A') AS is_enabled \
         FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid \
         WHERE g.tgrelid = c.oid AND g.tgname LIKE 'anykv tell%') t"
    )
}

/// Asks for the state of the server and the triggers, and sends a notification if there is a number for it.
pub(crate) async fn prove(client: &Client, state: &State, echo: Option<(&Echo, u64)>) -> Result<Proof> {
    let table = state.table.qualified();
    let number = echo.map(|(_, number)| number.to_string());
    let mut parameters = vec![(&table as &(dyn ToSql + Sync), Type::TEXT)];
    if let (Some((echo, _)), Some(number)) = (echo, &number) {
        parameters.extend([(&echo.channel as &(dyn ToSql + Sync), Type::TEXT), (number, Type::TEXT)]);
    }
    let sql = sql(echo.is_some());
    let row = round_trip(state.connections.timeout, client.query_typed_one(&sql, &parameters)).await?;
    Ok(Proof {
        process_id: column(&row, 0)?,
        server: ServerId(column(&row, 1)?),
        table: column(&row, 2)?,
        triggers: column(&row, 3)?,
        is_enabled: column(&row, 4)?,
    })
}

/// Returns the server of one connection of the pool. Only a pool of the application or of a pooler must be asked,
/// because the store's own pool asks each new connection.
///
/// # Errors
/// The errors of [`State::read`].
async fn ask_pool(state: &State) -> Result<Option<ServerId>> {
    if let Some(server) = &state.connections.server {
        return Ok(server.get());
    }
    let rows = state.read(&Sql::new(format!("SELECT {START_TIME}"), &[]), &[]).await?;
    rows.first().map(|row| column(row, 0).map(ServerId)).transpose()
}

/// The answer of a heartbeat.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) proof: Proof,
    /// The server of the pool, if it was asked.
    pub(crate) pool_server: Result<Option<ServerId>>,
}

/// A heartbeat that was sent. Dropping it ends the wait for its answer.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) sent_at: Moment,
    /// The state that the answer must prove; `None` if the session reports no changes.
    pub(crate) expected: Option<Proof>,
    /// True if the answer comes behind the changes on their path.
    pub(crate) is_behind_changes: bool,
    answer: JoinHandle<Result<Answer>>,
}

impl Heartbeat {
    /// Sends a heartbeat. It fails after the operation timeout.
    pub(crate) fn send(
        state: Arc<State>,
        client: Arc<Client>,
        echo: Arc<Echo>,
        number: u64,
        expected: Option<Proof>,
    ) -> Self {
        let has_sinks = state.watchers.has_sinks();
        let is_behind_changes = has_sinks && expected.is_some();
        let sent_at = Moment::now();
        let answer = tokio::spawn(async move {
            let proof = async {
                if !is_behind_changes {
                    return prove(&client, &state, None).await;
                }
                let proof = prove(&client, &state, Some((&echo, number))).await?;
                tokio::time::timeout(state.connections.timeout, echo.wait_for(number))
                    .await
                    .map_err(|_| Error::unavailable("the notification of the heartbeat did not arrive"))?;
                Ok(proof)
            };
            // A pool that does not know its server is asked only for sinks, because a call may have to wait for it.
            let pool = async {
                if has_sinks || state.connections.server.is_some() { ask_pool(&state).await } else { Ok(None) }
            };
            let (proof, pool_server) = tokio::join!(proof, pool);
            Ok(Answer { proof: proof?, pool_server })
        });
        Self { sent_at, expected, is_behind_changes, answer }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// `Unavailable` if no answer came.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        (&mut self.answer).await.unwrap_or_else(|_| Err(Error::unavailable("the heartbeat was not finished")))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.answer.abort();
    }
}
