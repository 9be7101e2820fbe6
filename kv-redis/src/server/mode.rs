//! The mode of a server: standalone, a node of a cluster, or a Sentinel.

use redis::Value;
use tokio::time::Instant;

use crate::error::Failure;
use crate::server::node::Node;

/// The mode of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Alone,
    ClusterNode,
    Sentinel,
    /// The server does not report its mode.
    Unknown,
}

/// Reads the mode of a server, with `HELLO`, because every user who can connect has the right to this command.
pub(crate) async fn read(node: &Node, deadline: Instant) -> Result<Mode, Failure> {
    let fields = match node.call(&redis::cmd("HELLO"), deadline).await {
        Ok(Value::Map(fields)) => fields,
        Ok(_) | Err(Failure::Refused(_)) => return Ok(Mode::Unknown),
        Err(failure) => return Err(failure),
    };
    let mode = fields.into_iter().find_map(|(name, value)| {
        (redis::from_redis_value::<String>(name).ok()? == "mode").then(|| redis::from_redis_value::<String>(value).ok())
    });
    Ok(match mode.flatten().as_deref() {
        Some("standalone") => Mode::Alone,
        Some("cluster") => Mode::ClusterNode,
        Some("sentinel") => Mode::Sentinel,
        _ => Mode::Unknown,
    })
}
