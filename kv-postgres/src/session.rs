//! The listener's connection, and the tasks that process its notifications.

use std::sync::Arc;

use kv_core::{Clock, ErrorKind, Result, SystemClock};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::address::Address;
use crate::delivery::{self, Delivery, MAX_PENDING_MESSAGES, SharedVerifier};
use crate::heartbeat::{Echo, Proof};
use crate::listen_connection::{self, round_trip};
use crate::listener::MIN_RECONNECT_DELAY;
use crate::listener_place::Place;
use crate::state::State;

/// A connection that listens.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    /// Reads the connection. The task ends when the connection ends.
    connection_task: JoinHandle<()>,
    delivery_task: JoinHandle<()>,
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    pub(crate) verifier: SharedVerifier,
    pub(crate) echo: Arc<Echo>,
    /// The connection of the pool whose place at the server this connection took.
    _place: Option<Place>,
    /// The state that each heartbeat must prove, while the triggers are enabled and this session holds the watchers'
    /// lock. `None` while the session does not report changes.
    pub(crate) reports: Option<Proof>,
}

impl Session {
    /// Connects and listens. If the server accepts no more connections, closes a connection of the pool, and takes its
    /// place.
    pub(crate) async fn connect(state: &Arc<State>, address: &Address) -> Result<Self> {
        let timeout = state.connections.timeout;
        let deadline = Instant::now() + timeout;
        let mut place = None;
        let (verifier, echo, deliveries, delivery_task, (client, connection_task)) = loop {
            let (verifier, (deliveries, pending)) = (SharedVerifier::default(), mpsc::channel(MAX_PENDING_MESSAGES));
            let echo = Echo::new(&state.table);
            let receiver =
                delivery::receiver(Arc::clone(state), verifier.clone(), Arc::clone(&echo), deliveries.clone());
            match listen_connection::open(address, timeout, receiver).await {
                Ok(opened) => {
                    let delivery_task = tokio::spawn(delivery::deliver(Arc::clone(state), pending));
                    break (verifier, echo, deliveries, delivery_task, opened);
                }
                Err(error) if error.kind() != ErrorKind::Capacity || Instant::now() >= deadline => return Err(error),
                Err(error) if place.is_none() => place = Some(Place::take(&state.connections).await?.ok_or(error)?),
                // The server frees the place some time after the connection was closed.
                Err(_) => SystemClock.sleep(MIN_RECONNECT_DELAY).await,
            }
        };
        let client = Arc::new(client);
        let session =
            Self { client, connection_task, delivery_task, deliveries, verifier, echo, _place: place, reports: None };
        // A heartbeat does not wait for the disk. The server ends a statement whose answer the listener no longer
        // awaits, also while the statement waits for a lock at its commit.
        let sql = format!(
            "SET synchronous_commit = off; SET statement_timeout = {0}; SET lock_timeout = {0}; LISTEN {1}; LISTEN {2}",
            timeout.as_millis(),
            state.table.channel(),
            session.echo.channel
        );
        round_trip(timeout, session.client.batch_execute(&sql)).await?;
        Ok(session)
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.connection_task).await;
    }

    /// Ends the session. No notification of the session reaches the hubs afterwards.
    pub(crate) async fn end(mut self) {
        for task in [&mut self.connection_task, &mut self.delivery_task] {
            task.abort();
            if !task.is_finished() {
                let _ = task.await;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection_task.abort();
        self.delivery_task.abort();
    }
}
