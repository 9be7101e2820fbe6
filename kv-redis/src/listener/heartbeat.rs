//! Heartbeats, which prove that the listener has received every change.
//!
//! The server executes the commands of all clients that it has read in one round of its event loop, adds the replies of
//! each client to the output of this client, and only then adds the notifications of the changes. It sends the output
//! afterwards. Therefore another client sees a change only after its notification is in the output of the listener's
//! connection. If a heartbeat is sent after that, its reply is behind the notification.
//!
//! This holds only if the heartbeat is alone on its connection. The server reads all commands that have arrived on a
//! connection. If another command had made the server read the connection, a heartbeat could be executed in the round of
//! a change that was visible before the heartbeat was sent. Therefore the listener sends no command before the reply to
//! the command before. The commands of a heartbeat are sent together, because only the moment before the first of them
//! counts.

use redis::{Pipeline, Value};

use crate::error::Failure;
use crate::server::identity::{ServerId, info_text};

/// The state of a server, as a heartbeat has found it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proof {
    /// The run id of the server, if it reports one.
    pub(super) server: ServerId,
    pub(super) is_replica: bool,
    /// The number of `SWAPDB` commands so far; `None` on a cluster, and if the user lacks the right to `INFO`.
    pub(super) swaps: Option<u64>,
    /// The owners of the slots as this node of a cluster knows them: its reply to `CLUSTER SLOTS`.
    pub(super) slots: Option<Value>,
}

/// Returns the commands of a heartbeat.
pub(super) fn commands(is_cluster: bool) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(4);
    // A server that loads its data or runs a long script refuses a `PING`, but not the other commands.
    pipeline.cmd("PING").cmd("HELLO").cmd("INFO").arg("server");
    if is_cluster {
        pipeline.cmd("CLUSTER").arg("SLOTS");
    } else {
        pipeline.cmd("INFO").arg("commandstats");
    }
    pipeline
}

/// Parses the replies to the commands.
pub(super) fn parse(replies: Vec<Value>, is_cluster: bool) -> Result<Proof, Failure> {
    let mut replies = replies.into_iter().map(|reply| match reply {
        Value::ServerError(error) => Err(Failure::Refused(error)),
        reply => Ok(reply),
    });
    let mut next = || replies.next().unwrap_or(Err(Failure::UnexpectedReply));
    next()?;
    let is_replica = is_replica(next()?);
    let server = info_text(next())?.as_deref().map_or_else(ServerId::default, ServerId::from_info);
    let (mut swaps, mut slots) = (None, None);
    if is_cluster {
        slots = Some(next()?);
    } else {
        swaps = info_text(next())?.as_deref().map(swaps_in);
    }
    Ok(Proof { server, is_replica, swaps, slots })
}

/// True if the reply to `HELLO` says that the server is a replica.
fn is_replica(hello: Value) -> bool {
    let Value::Map(fields) = hello else { return false };
    let text = |value| redis::from_redis_value::<String>(value).ok();
    fields.into_iter().any(|(name, value)| {
        text(name).as_deref() == Some("role") && text(value).is_some_and(|role| role == "replica" || role == "slave")
    })
}

/// Returns the number of `SWAPDB` commands in the reply to `INFO commandstats`, which names only commands that were used.
fn swaps_in(info: &str) -> u64 {
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_swapdb:calls="));
    calls.and_then(|calls| calls.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_heartbeat_proves_server_role_and_database() {
        let hello = |role| Value::Map(vec![(text("proto"), Value::Int(3)), (text("role"), text(role))]);
        let ping = || Value::SimpleString("PONG".into());
        let info = || text("# Server\r\nredis_version:7.0.0\r\nrun_id:abc\r\n");
        let stats = || text("cmdstat_swapdb:calls=12,usec=1\r\ncmdstat_get:calls=7,usec=1\r\n");
        let server = ServerId::from_info("run_id:abc");
        let proof = Proof { server, is_replica: false, swaps: Some(12), slots: None };
        assert_eq!(parse(vec![ping(), hello("master"), info(), stats()], false).unwrap(), proof);
        let replica = parse(vec![ping(), hello("replica"), info(), text("")], false).unwrap();
        assert!(replica.is_replica && replica.swaps == Some(0));
        let slots = Value::Array(vec![]);
        let node = parse(vec![ping(), hello("master"), info(), slots.clone()], true).unwrap();
        assert_eq!((node.swaps, node.slots), (None, Some(slots)));
        let denied = || error("NOPERM no right");
        let unknown = parse(vec![ping(), hello("master"), denied(), denied()], false).unwrap();
        assert_eq!((unknown.server, unknown.swaps), (ServerId::default(), None));
        for refused in ["LOADING x", "BUSY x"] {
            assert!(parse(vec![error(refused), hello("master"), info(), stats()], false).is_err());
        }
        assert!(parse(vec![ping()], false).is_err());
    }
}
