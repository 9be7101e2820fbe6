//! The listener: one task that keeps the connection for notifications, and reconnects when the connection is lost.
//!
//! The task connects for the first watcher or subscriber, and disconnects about half a minute after the last watcher or
//! subscriber has ended. While it is connected, the task reads every notification at once, so that no notifications
//! pile up on the server. The task passes the notifications to the hubs, whose queues are bounded. After a reconnect,
//! all watchers and subscribers get a gap. The gap is sent after the new connection listens, so an entry that is read
//! after the gap misses no later change.

use std::sync::Arc;
use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Capability, Clock, Error, ErrorKind, GapReason, Result, SystemClock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::address::Address;
use crate::delivery::{self, Delivery, MAX_PENDING_MESSAGES, SharedVerifier};
use crate::error::{Failure, read_error};
use crate::listen_connection::{self, round_trip};
use crate::listener_place::Place;
use crate::runtime::until_stopped;
use crate::seal::{self, Snapshot, Verifier};
use crate::state::{State, column};
use crate::{message, watch};

/// The interval at which the listener pings the server and looks for subscribers.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// The number of heartbeats without any subscriber after which the listener disconnects. After the same number of
/// heartbeats without a watcher, the listener releases the watchers' lock.
const MAX_IDLE_HEARTBEATS: u32 = 6;
/// The delay before the first attempt to reconnect.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
/// The maximum delay before an attempt to reconnect. The delay doubles after each failure.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// A request to the listener task.
#[derive(Debug)]
struct Request {
    /// True for notifications of changes and messages, false for notifications of messages alone.
    needs_changes: bool,
    responder: oneshot::Sender<Result<()>>,
}

/// The sender of requests to the listener task.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    requests: mpsc::Sender<Request>,
}

/// The receiver of requests in the listener task.
#[derive(Debug)]
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Listener {
    pub(crate) fn new() -> (Self, Requests) {
        let (sender, receiver) = mpsc::channel(64);
        (Self { requests: sender }, Requests(receiver))
    }

    async fn listen(&self, needs_changes: bool, timeout: Duration) -> Result<()> {
        let (responder, response) = oneshot::channel();
        let request = async {
            self.requests.send(Request { needs_changes, responder }).await.ok()?;
            response.await.ok()
        };
        match tokio::time::timeout(timeout, request).await {
            Ok(Some(listening)) => listening,
            Ok(None) => Err(Error::closed()),
            Err(_) => Err(Error::unavailable("the server did not answer within the timeout")),
        }
    }
}

/// Waits until the listener receives notifications of messages and, if `needs_changes`, of changes.
///
/// # Errors
/// `Unsupported` if the store receives no notifications, `Closed`, and the errors of the connection.
pub(crate) async fn listen(state: &State, needs_changes: bool) -> Result<()> {
    let capability = if needs_changes { Capability::Watch } else { Capability::Messages };
    let listener = state.listener.clone().ok_or_else(|| Error::unsupported(capability))?;
    // Connecting and the request to listen may take a timeout each.
    let timeout = state.connections.timeout.saturating_mul(2);
    state.runtime.run(Effect::Read, async move { listener.listen(needs_changes, timeout).await }).await
}

/// A connection that listens, and the tasks that process its notifications.
#[derive(Debug)]
struct Session {
    client: Client,
    /// Reads the connection. The task ends when the connection ends.
    connection_task: JoinHandle<()>,
    delivery_task: JoinHandle<()>,
    deliveries: mpsc::Sender<Delivery>,
    verifier: SharedVerifier,
    /// The connection of the pool whose place at the server this connection took.
    _place: Option<Place>,
    /// True while the triggers are enabled and this session holds the watchers' lock.
    reports_changes: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection_task.abort();
        self.delivery_task.abort();
    }
}

/// Runs the listener until the store is closed or dropped.
pub(crate) async fn run_listener(state: Arc<State>, address: Address, requests: Requests) {
    let stopped = until_stopped(state.runtime.stopped());
    let task = ListenerTask {
        state: Arc::clone(&state),
        address,
        session: None,
        is_lost: false,
        idle_heartbeats: 0,
        unwatched_heartbeats: 0,
    };
    tokio::select! {
        () = stopped => {}
        () = task.run(requests) => {}
    }
}

struct ListenerTask {
    state: Arc<State>,
    address: Address,
    session: Option<Session>,
    /// True if the connection was lost, and its watchers and subscribers have not got a gap yet.
    is_lost: bool,
    /// The number of consecutive heartbeats without a watcher and without a subscriber.
    idle_heartbeats: u32,
    /// The number of consecutive heartbeats without a watcher.
    unwatched_heartbeats: u32,
}

impl ListenerTask {
    async fn run(mut self, mut requests: Requests) {
        let mut delay = MIN_RECONNECT_DELAY;
        loop {
            let wait = if self.is_lost { delay } else { HEARTBEAT_INTERVAL };
            tokio::select! {
                request = requests.0.recv() => match request {
                    Some(request) => self.serve(request).await,
                    None => return,
                },
                () = ended(self.session.as_mut()) => self.lose(),
                () = SystemClock.sleep(wait) => {
                    if self.is_lost {
                        delay = match self.reconnect().await {
                            Ok(()) => MIN_RECONNECT_DELAY,
                            Err(_) => (delay * 2).min(MAX_RECONNECT_DELAY),
                        };
                    } else {
                        self.heartbeat().await;
                    }
                }
            }
        }
    }

    /// Processes a request and sends the response. If the caller no longer waits, the response is dropped.
    async fn serve(&mut self, Request { needs_changes, responder }: Request) {
        self.idle_heartbeats = 0;
        self.unwatched_heartbeats = 0;
        let listening = async {
            self.connect().await?;
            if needs_changes {
                return self.enable_changes().await;
            }
            self.enable_messages().await?;
            self.ping().await
        };
        match (listening.await, &self.session) {
            (Ok(()), Some(session)) if !needs_changes => {
                // The response is sent after the delivery of all earlier messages, so that the subscriber gets none of
                // these messages.
                let sent = session.deliveries.send(Delivery::Barrier(responder)).await;
                if let Err(mpsc::error::SendError(Delivery::Barrier(responder))) = sent {
                    let _ = responder.send(Err(connection_lost()));
                }
            }
            (done, _) => drop(responder.send(done)),
        }
    }

    /// Waits for a round trip. When the response arrives, all earlier notifications have arrived.
    async fn ping(&mut self) -> Result<()> {
        let Some(session) = &self.session else { return Err(connection_lost()) };
        round_trip(self.state.connections.timeout, session.client.batch_execute("")).await
    }

    /// Connects if there is no connection.
    async fn connect(&mut self) -> Result<()> {
        if self.session.is_some() {
            return Ok(());
        }
        let session = connect(Arc::clone(&self.state), &self.address).await?;
        self.session = Some(session);
        if self.is_lost {
            // The watchers and subscribers of the lost connection still need changes and messages, even if this request
            // needs only messages.
            let enabled = self.enable_again().await;
            if enabled.is_err() {
                // This session would silently miss changes or messages, so drop it.
                self.lose();
            }
            enabled?;
            self.is_lost = false;
            self.state.changes.gap(GapReason::Reconnected);
            self.state.messages.gap(GapReason::Reconnected);
        }
        Ok(())
    }

    async fn enable_again(&mut self) -> Result<()> {
        if self.state.changes.has_subscribers() {
            self.enable_changes().await?;
        }
        if self.state.messages.has_subscribers() {
            self.enable_messages().await?;
        }
        Ok(())
    }

    /// Reads the secret of the messages, unless this session already verifies messages.
    async fn enable_messages(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else { return Err(connection_lost()) };
        if session.verifier.is_some() {
            return Ok(());
        }
        let sql = seal::secret_sql(&self.state.table);
        let row = round_trip(self.state.connections.timeout, session.client.query_typed_opt(&sql, &[])).await?;
        let row = row.ok_or_else(message::missing_secret)?;
        let ended = Snapshot::parse(column(&row, 1)?).ok_or_else(|| read_error(Failure::UnexpectedShape))?;
        session.verifier.set(Some(Verifier::new(column(&row, 0)?, ended)));
        Ok(())
    }

    /// Enables the triggers, unless this session already reports changes.
    async fn enable_changes(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else { return Err(connection_lost()) };
        if session.reports_changes {
            return Ok(());
        }
        let enabled = watch::enable(&session.client, &self.state).await;
        match &enabled {
            Ok(()) => session.reports_changes = true,
            Err(_) if session.client.is_closed() => self.lose(),
            Err(_) => {}
        }
        enabled
    }

    async fn reconnect(&mut self) -> Result<()> {
        if !self.has_subscribers() {
            self.is_lost = false;
            return Ok(());
        }
        self.connect().await
    }

    /// Pings the server. Disconnects if there are no subscribers, and releases the watchers' lock if there are no
    /// watchers.
    async fn heartbeat(&mut self) {
        let Some(session) = &self.session else { return };
        self.idle_heartbeats = if self.has_subscribers() { 0 } else { self.idle_heartbeats + 1 };
        if self.idle_heartbeats >= MAX_IDLE_HEARTBEATS {
            // The end of the connection also releases the watchers' lock.
            self.session = None;
            return;
        }
        if !self.state.messages.has_subscribers() {
            // The next subscriber gets a new verifier, which refuses copies of the messages that this session ignores.
            session.verifier.set(None);
        }
        let is_watched = self.state.changes.has_subscribers();
        self.unwatched_heartbeats = if is_watched { 0 } else { self.unwatched_heartbeats + 1 };
        // While a session holds the watchers' lock, the triggers stay enabled and slow down all writers. The unlock
        // below releases only this lock, because the session holds no other lock.
        let is_unused = session.reports_changes && self.unwatched_heartbeats >= MAX_IDLE_HEARTBEATS;
        let sql = if is_unused { "SELECT pg_advisory_unlock_all()" } else { "" };
        if round_trip(self.state.connections.timeout, session.client.batch_execute(sql)).await.is_err() {
            self.lose();
        } else if let (true, Some(session)) = (is_unused, &mut self.session) {
            session.reports_changes = false;
        }
    }

    fn lose(&mut self) {
        self.session = None;
        self.is_lost = true;
    }

    fn has_subscribers(&self) -> bool {
        self.state.changes.has_subscribers() || self.state.messages.has_subscribers()
    }
}

fn connection_lost() -> Error {
    Error::unavailable("the connection for notifications was lost")
}

/// Waits for the end of the connection. Waits forever if there is no session.
async fn ended(session: Option<&mut Session>) {
    match session {
        Some(session) => drop((&mut session.connection_task).await),
        None => std::future::pending().await,
    }
}

/// Connects and listens. If the server accepts no more connections, closes a connection of the pool, and takes its
/// place.
async fn connect(state: Arc<State>, address: &Address) -> Result<Session> {
    let timeout = state.connections.timeout;
    let deadline = Instant::now() + timeout;
    let mut place = None;
    let (verifier, deliveries, delivery_task, (client, connection_task)) = loop {
        let (verifier, (deliveries, pending)) = (SharedVerifier::default(), mpsc::channel(MAX_PENDING_MESSAGES));
        let receiver = delivery::receiver(Arc::clone(&state), verifier.clone(), deliveries.clone());
        match listen_connection::open(address, timeout, receiver).await {
            Ok(opened) => {
                let delivery_task = tokio::spawn(delivery::deliver(Arc::clone(&state), pending));
                break (verifier, deliveries, delivery_task, opened);
            }
            Err(error) if error.kind() != ErrorKind::Capacity || Instant::now() >= deadline => return Err(error),
            Err(error) if place.is_none() => place = Some(Place::take(&state.connections).await?.ok_or(error)?),
            // The server frees the place some time after the connection was closed.
            Err(_) => SystemClock.sleep(MIN_RECONNECT_DELAY).await,
        }
    };
    let session =
        Session { client, connection_task, delivery_task, deliveries, verifier, _place: place, reports_changes: false };
    let listen = format!("LISTEN {}", state.table.channel());
    round_trip(timeout, session.client.batch_execute(&listen)).await?;
    Ok(session)
}
