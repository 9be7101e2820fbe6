//! The listener: receives the server's notifications of changes and messages, while there are watchers or subscribers.
//!
//! The listener has one connection to each master. The server sends the names of changed keys (`CLIENT TRACKING …
//! BCAST`), for which writers need no further commands, and the messages of the namespace. The listener passes each
//! notification to a bounded hub at once, so that no notifications pile up in the server. Heartbeats on the same
//! connections prove that all notifications have arrived, and that reads reach the same servers. A loss is announced at
//! once. When the listener receives everything again, subscribers get a gap.

mod connection;
mod heartbeat;
pub(crate) mod hubs;
mod push;
mod round;
pub(crate) mod task;
pub(crate) mod watchers;
