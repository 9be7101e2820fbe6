//! Sending requests to one server or to the masters of a cluster.

pub(crate) mod clock_offset;
pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod endpoint;
pub(crate) mod identity;
pub(crate) mod info;
pub(crate) mod mode;
pub(crate) mod node;
pub(crate) mod probe;
pub(crate) mod reply_bounds;
pub(crate) mod router;
pub(crate) mod sent_commands;
pub(crate) mod split_read;
pub(crate) mod stream;
pub(crate) mod tls;
