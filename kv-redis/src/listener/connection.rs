//! The listener's connection to one master.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Cmd, PushInfo, PushKind, Value};
use tokio::time::timeout;

use crate::error::Failure;
use crate::layout::glob_escaped;
use crate::listener::push::PushReceiver;
use crate::server::connection::{Driver, connect};
use crate::server::node::Node;
use crate::state::State;

/// A connection of the listener.
pub(super) struct ListenerConnection {
    pub(super) node: Arc<Node>,
    driver: Driver,
    is_dead: Arc<AtomicBool>,
    /// True if the server reports changed keys to this connection.
    is_tracking: bool,
    /// True if the server sends messages to this connection.
    is_subscribed: bool,
}

/// The kinds of notifications that a connection should receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) changes: bool,
    pub(super) messages: bool,
}

impl ListenerConnection {
    pub(super) async fn open(state: &State, node: Arc<Node>) -> Result<Self, Failure> {
        let is_dead = Arc::new(AtomicBool::new(false));
        let receiver = PushReceiver::new(&state.hubs);
        let (wake, dead) = (Arc::clone(&state.hubs.wake), Arc::clone(&is_dead));
        let on_push = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                dead.store(true, Ordering::Release);
                wake.notify_one();
            } else {
                receiver.receive(push);
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let timing = state.router.timing();
        let connecting = timeout(timing.connect, connect(node.endpoint(), timing.max_value, on_push));
        let driver = connecting.await.map_err(|_| Failure::NotSentInTime)??;
        Ok(Self { node, driver, is_dead, is_tracking: false, is_subscribed: false })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    /// True if the server replies to a `PING`.
    pub(super) async fn replies_to_ping(&mut self, state: &State) -> bool {
        self.call(state, &redis::cmd("PING")).await.is_ok()
    }

    /// Makes the server send the wanted kinds of notifications, and no others. After a failure the connection counts as
    /// dead.
    pub(super) async fn update(&mut self, state: &State, wanted: Wanted) -> Result<(), Failure> {
        let updated = self.try_update(state, wanted).await;
        if updated.is_err() {
            self.is_dead.store(true, Ordering::Release);
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
