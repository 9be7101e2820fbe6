//! The listener: one task that keeps the connection for notifications, and reconnects when it is lost.
//!
//! The task connects for the first watcher or subscriber, and disconnects about half a minute after the last one is
//! gone. While it is connected, it reads every notification at once, so that no notifications pile up on the server,
//! and passes them to the hubs, whose queues are bounded. After a reconnect, all watchers and subscribers get a gap.
//! The gap is sent after the new connection listens, so an entry that is read after the gap misses no later change.

use std::sync::Arc;
use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Capability, Clock, Error, GapReason, Key, Message, Result, SystemClock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::address::Address;
use crate::listen_connection::{self, round_trip};
use crate::message::{self, Published};
use crate::runtime::until_stopped;
use crate::state::State;
use crate::watch;

/// The interval at which the listener pings the server and looks for subscribers.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// The number of heartbeats without any subscriber after which the listener disconnects. After the same number without
/// a watcher, it releases the watchers' lock.
const MAX_IDLE_HEARTBEATS: u32 = 6;
/// The maximum number of messages that are queued while a stored message before them is fetched.
const MAX_PENDING_MESSAGES: usize = 10_000;
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
    /// True while the triggers are enabled and this session holds the watchers' lock.
    reports_changes: bool,
}

/// An item in the queue of the task that delivers messages.
#[derive(Debug)]
enum Delivery {
    Published(Published),
    /// Sends a response once all items before it are delivered.
    Barrier(oneshot::Sender<Result<()>>),
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

    /// Processes a request and sends the response. The caller may no longer wait for the response.
    async fn serve(&mut self, Request { needs_changes, responder }: Request) {
        self.idle_heartbeats = 0;
        self.unwatched_heartbeats = 0;
        let listening = async {
            self.connect().await?;
            if needs_changes { self.enable_changes().await } else { self.ping().await }
        };
        match (listening.await, &self.session) {
            (Ok(()), Some(session)) if !needs_changes => {
                // The response comes after the delivery of all earlier messages, so that the subscriber gets none of
                // them.
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
            // Even if this request is from a subscriber, the watchers of the lost connection still need changes.
            if self.state.changes.has_subscribers() {
                let enabled = self.enable_changes().await;
                if enabled.is_err() {
                    // Without the triggers, this session would silently miss changes, so drop it.
                    self.lose();
                }
                enabled?;
            }
            self.is_lost = false;
            self.state.changes.gap(GapReason::Reconnected);
            self.state.messages.gap(GapReason::Reconnected);
        }
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
        let is_watched = self.state.changes.has_subscribers();
        self.unwatched_heartbeats = if is_watched { 0 } else { self.unwatched_heartbeats + 1 };
        // While a session holds the watchers' lock, the triggers stay enabled and slow down all writers. The unlock
        // below releases only this lock, because the session holds no other one.
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

/// Connects and listens.
async fn connect(state: Arc<State>, address: &Address) -> Result<Session> {
    let timeout = state.connections.timeout;
    let (deliveries, pending) = mpsc::channel(MAX_PENDING_MESSAGES);
    let channel = state.table.channel();
    let delivery_task = tokio::spawn(deliver(Arc::clone(&state), pending));
    let sender = deliveries.clone();
    let opened = listen_connection::open(address, timeout, move |payload| dispatch(&state, payload, &sender)).await;
    let (client, connection_task) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            delivery_task.abort();
            return Err(error);
        }
    };
    let session = Session { client, connection_task, delivery_task, deliveries, reports_changes: false };
    round_trip(timeout, session.client.batch_execute(&format!("LISTEN {channel}"))).await?;
    Ok(session)
}

/// Passes a notification to the hubs. Never waits, so that the connection is read without a pause.
fn dispatch(state: &State, payload: &str, deliveries: &mpsc::Sender<Delivery>) {
    let (kind, rest) = payload.split_once(' ').unwrap_or((payload, ""));
    match kind.as_bytes() {
        // A set or a removal.
        [b's', ..] | b"d" => {
            if let Ok(key) = Key::parse_stored(rest) {
                state.changes.notify(&key);
            }
        }
        // The table was truncated.
        b"f" => state.changes.gap(GapReason::Flushed),
        _ => {
            let Some(published) = Published::parse(kind, rest) else { return };
            let has_subscribers = state.messages.has_subscribers();
            if has_subscribers && deliveries.try_send(Delivery::Published(published)).is_err() {
                state.messages.gap(GapReason::Lagged);
            }
        }
    }
}

/// Delivers messages in their order, and fetches the payloads of stored ones.
async fn deliver(state: Arc<State>, mut pending: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = pending.recv().await {
        let published = match delivery {
            Delivery::Published(published) => published,
            Delivery::Barrier(responder) => {
                let _ = responder.send(Ok(()));
                continue;
            }
        };
        match published {
            Published::Inline(message) => state.messages.notify(&message),
            Published::Stored { channel, id } => match message::fetch(&state, &id).await {
                Ok(Some(payload)) => state.messages.notify(&Message { channel, payload }),
                Ok(None) => state.messages.gap(GapReason::Lagged),
                Err(_) => state.messages.gap(GapReason::Reconnected),
            },
        }
    }
}
