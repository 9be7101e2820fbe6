//! The listener: one task that keeps the connection for notifications, and reconnects when it is lost.
//!
//! It connects for the first watcher or subscriber, and disconnects a while after the last one has gone. While it is
//! connected, it always reads notifications, so that the server queues none; they go to bounded hubs. After a
//! reconnect, all watchers and subscribers get a gap. The gap comes when the new connection already listens, so a read
//! after it misses no later change.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Error, GapReason, Key, Message, Result, SystemClock};
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
/// Heartbeats without a subscriber until the listener disconnects.
const MAX_IDLE_HEARTBEATS: u32 = 6;
/// Messages that may wait while a stored message before them is fetched.
const MAX_PENDING_MESSAGES: usize = 10_000;
/// The delay before a reconnect: at first, and at most.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// A request to the listener task.
#[derive(Debug)]
struct Request {
    /// True for notifications of changes and messages, false for messages alone.
    changes: bool,
    reply: oneshot::Sender<Result<()>>,
}

/// A handle of the listener task.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    requests: mpsc::Sender<Request>,
}

/// The requests that the listener task receives.
#[derive(Debug)]
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Listener {
    pub(crate) fn new() -> (Self, Requests) {
        let (sender, receiver) = mpsc::channel(64);
        (Self { requests: sender }, Requests(receiver))
    }

    /// Waits until notifications are received: of messages, and of changes if `changes`.
    pub(crate) async fn listen(&self, changes: bool, timeout: Duration) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let request = async {
            self.requests.send(Request { changes, reply }).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(timeout, request).await {
            Ok(Some(listening)) => listening,
            Ok(None) => Err(Error::closed()),
            Err(_) => Err(Error::unavailable("the server did not answer within the timeout")),
        }
    }
}

/// A connection that listens.
#[derive(Debug)]
struct Session {
    client: Client,
    /// Ends with the connection.
    connection_task: JoinHandle<()>,
    delivery_task: JoinHandle<()>,
    deliveries: mpsc::Sender<Delivery>,
    /// True while the triggers are enabled and this session holds the watchers' lock.
    reports_changes: bool,
}

/// An item for the task that delivers messages in order.
#[derive(Debug)]
enum Delivery {
    Published(Published),
    /// Answers when everything before it is delivered.
    Barrier(oneshot::Sender<Result<()>>),
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection_task.abort();
        self.delivery_task.abort();
    }
}

/// Runs the listener until the store is closed or dropped.
pub(crate) async fn keep_listening(state: Arc<State>, address: Address, requests: Requests) {
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
    /// True if a connection was lost and its subscribers have not got a gap yet.
    is_lost: bool,
    /// Consecutive heartbeats without a subscriber of any kind.
    idle_heartbeats: u32,
    /// Consecutive heartbeats without a watcher.
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

    /// Answers a request. The requester may have given up meanwhile.
    async fn serve(&mut self, Request { changes, reply }: Request) {
        self.idle_heartbeats = 0;
        self.unwatched_heartbeats = 0;
        let listening = async {
            self.connect().await?;
            if changes { self.enable_changes().await } else { self.ping().await }
        };
        match (listening.await, &self.session) {
            (Ok(()), Some(session)) if !changes => {
                // The barrier lets the subscriber begin after all messages that were published before.
                let sent = session.deliveries.send(Delivery::Barrier(reply)).await;
                if let Err(mpsc::error::SendError(Delivery::Barrier(reply))) = sent {
                    let _ = reply.send(Err(connection_lost()));
                }
            }
            (done, _) => drop(reply.send(done)),
        }
    }

    /// Waits for a round trip. The server sends all earlier notifications before its answer.
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
            // The request may be a subscriber's, but watchers of the lost connection still need changes.
            if self.state.changes.has_subscribers() {
                let enabled = self.enable_changes().await;
                if enabled.is_err() {
                    // A session without changes must not pass for a complete one.
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

    /// Pings the server, and releases what no subscriber needs any more.
    async fn heartbeat(&mut self) {
        let Some(session) = &self.session else { return };
        self.idle_heartbeats = if self.has_subscribers() { 0 } else { self.idle_heartbeats + 1 };
        if self.idle_heartbeats >= MAX_IDLE_HEARTBEATS {
            // The end of the session releases the watchers' lock as well.
            self.session = None;
            return;
        }
        let is_watched = self.state.changes.has_subscribers();
        self.unwatched_heartbeats = if is_watched { 0 } else { self.unwatched_heartbeats + 1 };
        // Writers pay for the triggers while the watchers' lock is held. It is the only lock of this session.
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

/// Waits for the end of the connection. Waits forever without one.
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

/// Passes a notification to the hubs. Never waits, so that the connection is always read.
fn dispatch(state: &State, payload: &str, deliveries: &mpsc::Sender<Delivery>) {
    let (kind, rest) = payload.split_once(' ').unwrap_or((payload, ""));
    match kind.as_bytes() {
        [b's', ..] | b"d" => {
            if let Ok(key) = Key::parse_stored(rest) {
                state.changes.notify(&key);
            }
        }
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

/// Delivers messages in their order, and fetches the stored ones.
async fn deliver(state: Arc<State>, mut pending: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = pending.recv().await {
        let published = match delivery {
            Delivery::Published(published) => published,
            Delivery::Barrier(reply) => {
                let _ = reply.send(Ok(()));
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
