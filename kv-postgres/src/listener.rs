//! The listener: one task that keeps the connection for notifications, and reconnects when the connection is lost.
//!
//! The task connects for the first watcher or subscriber, and disconnects about half a minute after the last watcher or
//! subscriber has ended. While it is connected, the task reads every notification at once, so that no notifications
//! pile up on the server. The task passes the notifications to the hubs, whose queues are bounded.
//!
//! While there are watchers or subscribers, the task sends heartbeats, one at a time. A lost connection, a heartbeat
//! that proves another state, and a missing answer are announced at once as a suspension. After a reconnect, all
//! watchers and subscribers get a gap. The gap is sent after the new connection listens, so an entry that is read after
//! the gap misses no later change. A connection whose answer is late is kept, because the server may only be slow; the
//! suspension ends in a gap when an answer comes in time.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Error, GapReason, Result, SystemClock};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::address::Address;
use crate::delivery::Delivery;
use crate::error::{Failure, read_error};
use crate::heartbeat::{Answer, Heartbeat};
use crate::listen_connection::round_trip;
use crate::listen_request::{Need, Request, Requests};
use crate::runtime::until_stopped;
use crate::seal::{self, Snapshot, Verifier};
use crate::server::ServerId;
use crate::session::Session;
use crate::state::{State, column};
use crate::{message, watch};

/// The interval at which the listener pings the server while there are no subscribers.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// The time without any subscriber after which the listener disconnects. After the same time without a watcher, the
/// listener releases the watchers' lock.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// The delay before the first attempt to reconnect.
pub(crate) const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
/// The maximum delay before an attempt to reconnect. The delay doubles after each attempt, until a heartbeat is
/// answered.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Runs the listener until the store is closed or dropped.
pub(crate) async fn run_listener(state: Arc<State>, address: Address, requests: Requests) {
    let stopped = until_stopped(state.runtime.stopped());
    let now = Instant::now();
    let task = ListenerTask {
        state: Arc::clone(&state),
        address,
        session: None,
        heartbeat: None,
        number: 0,
        due: now,
        is_lost: false,
        delay: MIN_RECONNECT_DELAY,
        subscribed_at: now,
        watched_at: now,
    };
    tokio::select! {
        () = stopped => {}
        // The age is watched beside the task, because the task may wait for an answer of the server.
        () = state.watchers.watch_age() => {}
        () = task.run(requests) => {}
    }
}

struct ListenerTask {
    state: Arc<State>,
    address: Address,
    session: Option<Session>,
    /// The heartbeat that was sent and not answered.
    heartbeat: Option<Heartbeat>,
    /// The number of the last heartbeat.
    number: u64,
    /// The moment of the next heartbeat or of the next attempt to reconnect.
    due: Instant,
    /// True if the connection was lost, and its watchers and subscribers have not got a gap yet.
    is_lost: bool,
    /// The delay before the next attempt to reconnect.
    delay: Duration,
    /// The last moment at which there was a watcher or a subscriber.
    subscribed_at: Instant,
    /// The last moment at which there was a watcher.
    watched_at: Instant,
}

impl ListenerTask {
    async fn run(mut self, mut requests: Requests) {
        let state = Arc::clone(&self.state);
        loop {
            let wait = self.due.saturating_duration_since(Instant::now());
            tokio::select! {
                request = requests.next() => match request {
                    Some(request) => self.serve(request).await,
                    None => return,
                },
                () = ended(self.session.as_mut()) => self.lose(GapReason::Disconnected).await,
                answer = answered(self.heartbeat.as_mut()) => self.finish_heartbeat(answer).await,
                () = server_changed(&state) => self.compare_servers().await,
                () = SystemClock.sleep(wait) => if self.is_lost { self.reconnect().await } else { self.heartbeat().await },
            }
        }
    }

    /// Processes a request and sends the response. If the caller no longer waits, the response is dropped.
    async fn serve(&mut self, Request { need, responder }: Request) {
        (self.subscribed_at, self.watched_at) = (Instant::now(), Instant::now());
        let listening = async {
            self.connect().await?;
            if need != Need::Messages {
                return self.enable_changes().await;
            }
            self.enable_messages().await?;
            self.ping().await
        };
        let done = listening.await;
        if self.session.is_some() {
            self.state.watchers.begin();
            let interval = self.state.watchers.heartbeat_interval();
            let within = if need == Need::CurrentChanges { Duration::ZERO } else { interval };
            self.due = self.due.min(Instant::now() + within);
        }
        match (done, &self.session) {
            (Ok(()), Some(session)) if need == Need::Messages => {
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
        let session = Session::connect(&self.state, &self.address).await?;
        self.session = Some(session);
        if self.is_lost {
            // The watchers and subscribers of the lost connection still need changes and messages, even if this request
            // needs only messages.
            let enabled = self.enable_again().await;
            if enabled.is_err() {
                // This session would silently miss changes or messages, so drop it.
                self.lose(GapReason::Disconnected).await;
            }
            enabled?;
            self.is_lost = false;
            self.due = Instant::now();
            self.state.watchers.resume();
        }
        Ok(())
    }

    async fn enable_again(&mut self) -> Result<()> {
        if self.state.watchers.changes.has_subscribers() {
            self.enable_changes().await?;
        }
        if self.state.watchers.messages.has_subscribers() {
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
        if session.reports.is_some() {
            return Ok(());
        }
        // No sink is current now. The wait for the lock of the table says nothing about the connection.
        self.state.watchers.pause();
        match watch::enable(&session.client, &self.state).await {
            Ok(proof) => {
                session.echo.set_process_id(proof.process_id);
                let server = proof.server;
                session.reports = Some(proof);
                if !self.is_server_of_pool(server) {
                    // This connection is newer than those of the pool.
                    self.renew_pool();
                }
                Ok(())
            }
            Err(error) => {
                if session.client.is_closed() {
                    self.lose(GapReason::Disconnected).await;
                }
                Err(error)
            }
        }
    }

    async fn reconnect(&mut self) {
        if !self.state.watchers.has_subscribers() {
            self.is_lost = false;
            self.state.watchers.resume();
            self.state.watchers.pause();
            return;
        }
        self.delay = (self.delay * 2).min(MAX_RECONNECT_DELAY);
        if self.connect().await.is_err() {
            self.due = Instant::now() + self.delay;
        }
    }

    /// Sends a heartbeat if there are subscribers. Otherwise pings the server, or disconnects.
    async fn heartbeat(&mut self) {
        let (state, now) = (Arc::clone(&self.state), Instant::now());
        let watchers = &state.watchers;
        if watchers.has_subscribers() {
            self.subscribed_at = now;
        }
        if watchers.changes.has_subscribers() {
            self.watched_at = now;
        }
        let is_idle = self.subscribed_at < now;
        self.due = now + if is_idle { IDLE_INTERVAL } else { watchers.heartbeat_interval() };
        if is_idle {
            watchers.pause();
        }
        let Some(session) = &mut self.session else { return };
        if is_idle && self.subscribed_at.elapsed() >= MAX_IDLE {
            // The end of the connection also releases the watchers' lock.
            (self.session, self.heartbeat) = (None, None);
            return;
        }
        if !watchers.messages.has_subscribers() {
            // The next subscriber gets a new verifier, which refuses copies of the messages that this session ignores.
            session.verifier.set(None);
        }
        if session.reports.is_some() && self.watched_at.elapsed() >= MAX_IDLE {
            // While a session holds the watchers' lock, the triggers stay enabled and slow down all writers. The unlock
            // releases only this lock, because the session holds no other lock.
            session.reports = None;
            self.ask("SELECT pg_advisory_unlock_all()").await;
        } else if is_idle {
            self.ask("").await;
        } else if self.heartbeat.is_none() {
            self.number += 1;
            let (client, echo) = (Arc::clone(&session.client), Arc::clone(&session.echo));
            let expected = session.reports.clone();
            self.heartbeat = Some(Heartbeat::send(Arc::clone(&state), client, echo, self.number, expected));
        }
    }

    /// Runs a statement. If the server does not answer, the connection counts as lost.
    async fn ask(&mut self, sql: &str) {
        let Some(session) = &self.session else { return };
        if round_trip(self.state.connections.timeout, session.client.batch_execute(sql)).await.is_err() {
            self.lose(GapReason::Disconnected).await;
        }
    }

    async fn finish_heartbeat(&mut self, answer: Result<Answer>) {
        let Some(Heartbeat { sent_at, is_behind_changes, expected, .. }) = self.heartbeat.as_mut() else { return };
        let (sent_at, is_behind_changes, expected) = (*sent_at, *is_behind_changes, expected.take());
        self.heartbeat = None;
        let Ok(Answer { proof, pool_server }) = answer else { return self.lose(GapReason::Unanswered).await };
        if expected.is_some_and(|expected| expected != proof) {
            return self.lose(GapReason::NotReported).await;
        }
        match pool_server {
            Ok(Some(server)) if server != proof.server => {
                self.renew_pool();
                self.lose(GapReason::ServerChanged).await;
            }
            Ok(_) if self.state.watchers.confirm(sent_at, is_behind_changes) => self.delay = MIN_RECONNECT_DELAY,
            // The next heartbeat may end the suspension.
            Ok(_) => self.due = Instant::now(),
            // Nothing proves that reads reach this server.
            Err(_) => {}
        }
    }

    /// Compares the server of the pool with the server of the session.
    async fn compare_servers(&mut self) {
        let Some(proof) = self.session.as_ref().and_then(|session| session.reports.as_ref()) else { return };
        if !self.is_server_of_pool(proof.server) {
            self.renew_pool();
            self.lose(GapReason::ServerChanged).await;
        }
    }

    fn is_server_of_pool(&self, server: ServerId) -> bool {
        let known = self.state.connections.server.as_ref().and_then(|known| known.get());
        known.is_none_or(|known| known == server)
    }

    /// Makes calls use new connections.
    fn renew_pool(&self) {
        if let Some(server) = &self.state.connections.server {
            server.renew();
        }
    }

    /// Drops the connection, and announces the loss.
    async fn lose(&mut self, reason: GapReason) {
        self.heartbeat = None;
        if let Some(session) = self.session.take() {
            session.end().await;
        }
        self.is_lost = true;
        self.due = Instant::now() + self.delay;
        self.state.watchers.suspend(reason);
    }
}

fn connection_lost() -> Error {
    Error::unavailable("the connection for notifications was lost")
}

/// Waits for the end of the connection. Waits forever if there is no session.
async fn ended(session: Option<&mut Session>) {
    match session {
        Some(session) => session.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits for the answer of a heartbeat. Waits forever if there is none.
async fn answered(heartbeat: Option<&mut Heartbeat>) -> Result<Answer> {
    match heartbeat {
        Some(heartbeat) => heartbeat.answer().await,
        None => std::future::pending().await,
    }
}

/// Waits until a new connection of the pool may reach another server. Waits forever if the pool does not know.
async fn server_changed(state: &State) {
    match &state.connections.server {
        Some(server) => server.changed().await,
        None => std::future::pending().await,
    }
}
