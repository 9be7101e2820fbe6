//! The listener: receives the server's notifications of changes and messages, while there are watchers or subscribers.
//!
//! The listener has one connection to each master. The server sends the names of changed keys (`CLIENT TRACKING …
//! BCAST`), for which writers need no further commands, and the messages of the namespace. The listener passes each
//! notification to a bounded hub at once, so that no notifications pile up in the server. Subscribers get a gap after a
//! lost connection, a new master, or a `FLUSHALL`.

mod connection;
pub(crate) mod hubs;
mod push;
pub(crate) mod task;
