//! The listener's connection to one master.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_core::GapReason;
use redis::{Cmd, PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::Failure;
use crate::layout::glob_escaped;
use crate::listener::heartbeat::{self, Proof};
use crate::listener::push::PushReceiver;
use crate::listener::watchers::Watchers;
use crate::server::connection::{Driver, connect};
use crate::server::node::Node;
use crate::state::State;

/// A connection of the listener. Only one command or heartbeat is sent at a time.
pub(super) struct ListenerConnection {
    pub(super) node: Arc<Node>,
    driver: Driver,
    is_dead: Arc<AtomicBool>,
    /// True if the server reports changed keys to this connection.
    is_tracking: bool,
    /// True if the server sends messages to this connection.
    is_subscribed: bool,
    /// The proof of the last answered heartbeat.
    pub(super) proof: Option<Proof>,
}

/// The kinds of notifications that a connection should receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) changes: bool,
    pub(super) messages: bool,
}

/// Announces the loss of the connection. The driver owns this value, and drops it when the driver closes the connection
/// or the runtime of the driver ends.
struct Loss {
    is_dead: Arc<AtomicBool>,
    watchers: Arc<Watchers>,
    wake: Arc<Notify>,
}

impl Loss {
    /// Announces the loss, unless the listener has ended the connection.
    fn announce(&self) {
        if !self.is_dead.swap(true, Ordering::AcqRel) {
            self.watchers.suspend(GapReason::Disconnected);
            self.wake.notify_one();
        }
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        self.announce();
    }
}

impl ListenerConnection {
    pub(super) async fn open(state: &State, node: Arc<Node>) -> Result<Self, Failure> {
        let is_dead = Arc::new(AtomicBool::new(false));
        let receiver = PushReceiver::new(&state.hubs);
        let loss = Loss {
            is_dead: Arc::clone(&is_dead),
            watchers: Arc::clone(&state.hubs.watchers),
            wake: Arc::clone(&state.hubs.wake),
        };
        let on_push = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                loss.announce();
            } else {
                receiver.receive(push);
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let timing = state.router.timing();
        let connecting = timeout(timing.connect, connect(node.endpoint(), timing.max_value, on_push));
        let driver = connecting.await.map_err(|_| Failure::NotSentInTime)??;
        Ok(Self { node, driver, is_dead, is_tracking: false, is_subscribed: false, proof: None })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    /// Ends the connection. The caller announces the loss.
    pub(super) fn mark_dead(&self) {
        self.is_dead.store(true, Ordering::Release);
    }

    /// Sends a heartbeat, and waits for its answer.
    pub(super) async fn prove(&mut self, is_cluster: bool, limit: Duration) -> Result<Proof, Failure> {
        let commands = heartbeat::commands(is_cluster);
        let sent = self.driver.connection.send_packed_commands(&commands, 0, commands.len());
        let replies = timeout(limit, sent).await.map_err(|_| Failure::TimedOut)?.map_err(Failure::Disconnected)?;
        heartbeat::parse(replies, is_cluster)
    }

    /// Makes the server send the wanted kinds of notifications, and no others. After a failure the connection counts as
    /// dead.
    pub(super) async fn update(&mut self, state: &State, wanted: Wanted) -> Result<(), Failure> {
        let updated = self.try_update(state, wanted).await;
        if updated.is_err() {
            state.hubs.watchers.suspend(GapReason::Disconnected);
            self.mark_dead();
        }
        updated
    }

    async fn try_update(&mut self, state: &State, wanted: Wanted) -> Result<(), Failure> {
        if wanted.changes != self.is_tracking {
            let mut cmd = redis::cmd("CLIENT");
            cmd.arg("TRACKING");
            if wanted.changes {
                cmd.arg("ON").arg("BCAST");
                if !state.layout.entry_prefix.is_empty() {
                    cmd.arg("PREFIX").arg(&state.layout.entry_prefix);
                }
            } else {
                cmd.arg("OFF");
            }
            self.call(state, &cmd).await?;
            self.is_tracking = wanted.changes;
        }
        if wanted.messages != self.is_subscribed {
            let pattern = format!("{}*", glob_escaped(&state.hubs.channel_prefix));
            let change = async {
                if wanted.messages {
                    self.driver.connection.psubscribe(&pattern).await
                } else {
                    self.driver.connection.punsubscribe(&pattern).await
                }
            };
            let changed = timeout(state.router.timing().operation, change).await;
            changed.map_err(|_| Failure::TimedOut)?.map_err(Failure::from_driver)?;
            self.is_subscribed = wanted.messages;
        }
        Ok(())
    }

    /// Sends a command and waits for a reply that is not an error.
    async fn call(&mut self, state: &State, cmd: &Cmd) -> Result<(), Failure> {
        let reply = timeout(state.router.timing().operation, self.driver.connection.send_packed_command(cmd)).await;
        match reply.map_err(|_| Failure::TimedOut)?.map_err(Failure::Disconnected)? {
            Value::ServerError(error) => Err(Failure::Refused(error)),
            _ => Ok(()),
        }
    }
}

impl Drop for ListenerConnection {
    fn drop(&mut self) {
        self.mark_dead();
    }
}
