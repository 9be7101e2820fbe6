//! The listener: receives the server's notifications of changes and messages, while there are watchers or subscribers.
//!
//! It has one connection to each master. The server reports the names of changed keys (`CLIENT TRACKING … BCAST`), at
//! no cost to writers, and the messages of the namespace. Each notification goes into a bounded hub at once, so nothing
//! queues up in the server. A lost connection, a new master and a flush of the database are gaps.

mod connection;
pub(crate) mod hubs;
mod push;
pub(crate) mod task;
