//! Sends requests to a single server, or to the right master of a cluster.
//!
//! A command is sent again only if it was certainly not applied: there was no connection, the server redirected the
//! command, the server was not ready, or the server did not have the script. If the connection broke after a command
//! was sent, the command is sent again, once, if it only reads: the connection may have been dead for a while, and the
//! next call after an outage must succeed (clause E-2).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kv_core::{Clock, SystemClock};
use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use crate::error::Failure;
use crate::script::Scripts;
use crate::server::clock_offset::ServerTime;
use crate::server::cluster::{Cluster, SlotMap};
use crate::server::connections::Connections;
use crate::server::mode::{self, Mode};
use crate::server::node::{Node, Timing};
use crate::server::split_read::SplitRead;

/// A command, and the slot whose master receives the command.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) slot: u16,
    pub(crate) cmd: Cmd,
}

impl Request {
    pub(crate) fn new(slot: u16, cmd: Cmd) -> Self {
        Self { slot, cmd }
    }
}

/// Shows only the slot, because the command contains keys and values.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({})", self.slot)
    }
}

/// Sends requests to the servers of a store.
#[derive(Debug)]
pub(crate) struct Router {
    servers: Servers,
    connections: Arc<Connections>,
    timing: Timing,
    scripts: Arc<Scripts>,
}

/// The servers of a store.
#[derive(Debug)]
pub(crate) enum Servers {
    Single(Arc<Node>),
    Cluster(Box<Cluster>),
}

/// The reaction to a failure on a cluster.
enum Retry {
    /// Do not send the command again, and return the failure.
    Never,
    /// Send the command to the new master of the slot (`MOVED`).
    AtNewMaster,
    /// Send only this command to another server, after `ASKING` (`ASK`).
    Asking,
    /// Send the command again after a pause.
    Later,
}

impl Router {
    /// The pause before the first retry. Each further pause is twice as long.
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    /// The longest pause before a retry.
    const MAX_PAUSE: Duration = Duration::from_millis(200);

    pub(crate) fn new(servers: Servers, connections: Arc<Connections>, timing: Timing, scripts: Arc<Scripts>) -> Self {
        Self { servers, connections, timing, scripts }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    /// Returns the counter of connections, which all nodes share.
    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// Returns the time of the server that has the slot.
    pub(crate) fn now(&self, slot: u16) -> ServerTime {
        match &self.servers {
            Servers::Single(node) => node.now(),
            Servers::Cluster(cluster) => cluster.now(slot),
        }
    }

    /// Returns the slot map of a cluster; `None` for a single server.
    pub(crate) fn map(&self) -> Option<Arc<SlotMap>> {
        match &self.servers {
            Servers::Single(_) => None,
            Servers::Cluster(cluster) => Some(cluster.map()),
        }
    }

    /// Returns the master of a slot, if it is known.
    pub(crate) fn master(&self, slot: u16) -> Option<Arc<Node>> {
        match &self.servers {
            Servers::Single(node) => Some(Arc::clone(node)),
            Servers::Cluster(cluster) => cluster.master(slot),
        }
    }

    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        match &self.servers {
            Servers::Single(node) => vec![Arc::clone(node)],
            Servers::Cluster(cluster) => cluster.masters(),
        }
    }

    /// Returns the servers that may serve reads: the masters, and nodes to which they redirect.
    pub(crate) fn sources(&self) -> Vec<Arc<Node>> {
        match &self.servers {
            Servers::Single(node) => vec![Arc::clone(node)],
            Servers::Cluster(cluster) => cluster.sources(),
        }
    }

    /// Returns the cluster; `None` for a single server.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match &self.servers {
            Servers::Single(_) => None,
            Servers::Cluster(cluster) => Some(cluster),
        }
    }

    /// Refreshes the slot map of a cluster; does nothing on a single server.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        match &self.servers {
            Servers::Single(_) => Ok(()),
            Servers::Cluster(cluster) => cluster.refresh(self.deadline()).await,
        }
    }

    /// Connects, and refuses a server whose mode does not fit the scheme. The store calls this method before it writes
    /// anything.
    pub(crate) async fn connect(&self) -> Result<(), Failure> {
        match &self.servers {
            Servers::Single(node) => match mode::read(node, self.deadline()).await? {
                Mode::Alone | Mode::Unknown => Ok(()),
                mode => Err(Failure::WrongMode(mode)),
            },
            Servers::Cluster(cluster) => {
                let Err(failure) = cluster.refresh(self.deadline()).await else { return Ok(()) };
                for seed in cluster.seeds() {
                    if let Ok(mode @ (Mode::Alone | Mode::Sentinel)) = mode::read(seed, self.deadline()).await {
                        return Err(Failure::WrongMode(mode));
                    }
                }
                Err(failure)
            }
        }
    }

    /// Returns the deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timing.operation
    }

    pub(crate) fn close(&self) {
        match &self.servers {
            Servers::Single(node) => node.close(),
            Servers::Cluster(cluster) => cluster.close(),
        }
    }

    /// Sends a command and waits for its reply.
    pub(crate) async fn call(&self, request: &Request) -> Result<Value, Failure> {
        self.call_until(request, self.deadline()).await
    }

    /// Sends a command to one server and waits for its reply.
    pub(crate) async fn call_node(&self, node: &Node, cmd: &Cmd) -> Result<Value, Failure> {
        node.call(cmd, self.deadline()).await
    }

    /// Sends several commands, in one pipeline for each server, and waits for all replies. No two commands may concern
    /// the same key, because a command that is sent again could overtake another command.
    pub(crate) async fn call_many(&self, requests: &[Request]) -> Vec<Result<Value, Failure>> {
        let deadline = self.deadline();
        let mut replies: Vec<Option<Result<Value, Failure>>> = vec![None; requests.len()];
        let calls = self.by_node(requests).into_iter().map(|(node, members)| async move {
            let mut pipeline = Pipeline::with_capacity(members.len());
            for &member in &members {
                if let Some(request) = requests.get(member) {
                    pipeline.add_command(request.cmd.clone());
                }
            }
            (node.call_all(&pipeline, deadline).await, members)
        });
        for (results, members) in join_all(calls).await {
            for (result, member) in results.into_iter().zip(members) {
                if let Some(reply) = replies.get_mut(member) {
                    *reply = Some(result);
                }
            }
        }
        let settled = replies.into_iter().zip(requests).map(|(reply, request)| async move {
            match reply {
                Some(Ok(value)) => Ok(value),
                Some(Err(failure)) if !self.is_retryable(&failure, &request.cmd) => Err(self.settled(failure)),
                // Send the command again with a separate call, which handles redirections and pauses.
                _ => self.call_until(request, deadline).await,
            }
        });
        join_all(settled).await
    }

    /// Returns for each master the positions of its requests in `requests`. A request for a slot without a known master
    /// is not contained.
    fn by_node(&self, requests: &[Request]) -> Vec<(Arc<Node>, Vec<usize>)> {
        match &self.servers {
            Servers::Single(node) => vec![(Arc::clone(node), (0..requests.len()).collect())],
            Servers::Cluster(cluster) => {
                let mut groups: HashMap<*const Node, (Arc<Node>, Vec<usize>)> = HashMap::new();
                for (member, request) in requests.iter().enumerate() {
                    if let Some(node) = cluster.master(request.slot) {
                        groups.entry(Arc::as_ptr(&node)).or_insert_with(|| (node, Vec::new())).1.push(member);
                    }
                }
                groups.into_values().collect()
            }
        }
    }

    /// True if the command may be sent again after this failure.
    fn is_retryable(&self, failure: &Failure, cmd: &Cmd) -> bool {
        failure.code() == Some("NOSCRIPT")
            || self.is_unanswered_read(failure, cmd)
            || (self.is_cluster() && !matches!(retry_after(failure), Retry::Never))
    }

    /// True if the connection broke before the reply to a command that only reads.
    fn is_unanswered_read(&self, failure: &Failure, cmd: &Cmd) -> bool {
        matches!(failure, Failure::Disconnected(_)) && self.scripts.only_reads(cmd)
    }

    /// Sends a command and waits for its reply until the deadline.
    async fn call_until(&self, request: &Request, deadline: Instant) -> Result<Value, Failure> {
        match &self.servers {
            Servers::Single(node) => match node.call(&request.cmd, deadline).await {
                Err(failure) if failure.code() == Some("NOSCRIPT") => match self.scripts.eval_of(&request.cmd) {
                    Some(eval) => Box::pin(node.call(&eval, deadline)).await.map_err(|failure| self.settled(failure)),
                    None => Err(failure),
                },
                Err(failure) if self.is_unanswered_read(&failure, &request.cmd) => {
                    Box::pin(node.call(&request.cmd, deadline)).await.map_err(|failure| self.settled(failure))
                }
                reply => reply.map_err(|failure| self.settled(failure)),
            },
            // Boxed, because the state of the retries would enlarge the future of every call.
            Servers::Cluster(cluster) => Box::pin(self.call_cluster(cluster, request, deadline)).await,
        }
    }

    /// Returns the failure of a call that is not sent again. Only a node of a cluster replies `MOVED`, `ASK` or
    /// `CLUSTERDOWN`, so these codes from a single server mean that the scheme is wrong.
    fn settled(&self, failure: Failure) -> Failure {
        match failure.code() {
            Some("MOVED" | "ASK" | "CLUSTERDOWN") if !self.is_cluster() => Failure::WrongMode(Mode::ClusterNode),
            _ => failure,
        }
    }

    /// Sends a command to the master of its slot. After a failure that allows a retry, sends the command again.
    async fn call_cluster(&self, cluster: &Cluster, request: &Request, deadline: Instant) -> Result<Value, Failure> {
        let mut pause = Self::FIRST_PAUSE;
        let mut eval = None;
        let mut may_read_again = true;
        let mut redirect: Option<(Arc<Node>, bool)> = None;
        loop {
            let (target, is_asking) = match redirect.take() {
                Some((node, is_asking)) => (Some(node), is_asking),
                None => (cluster.master(request.slot), false),
            };
            let cmd = eval.as_ref().unwrap_or(&request.cmd);
            let reply = match target {
                None => Err(Failure::NotSentInTime),
                Some(node) if is_asking => call_asking(&node, cmd, deadline).await,
                Some(node) => node.call(cmd, deadline).await,
            };
            let failure = match reply {
                Err(failure) => failure,
                reply => return reply,
            };
            if failure.code() == Some("NOSCRIPT") && eval.is_none() {
                eval = self.scripts.eval_of(cmd);
                if eval.is_some() {
                    continue;
                }
            }
            if failure.code() == Some("TRYAGAIN")
                && let Some(split) = SplitRead::of(&request.cmd, &self.scripts)
            {
                return Box::pin(self.call_split(cluster, request.slot, split, deadline)).await;
            }
            if may_read_again && self.is_unanswered_read(&failure, &request.cmd) {
                may_read_again = false;
                continue;
            }
            let redirected_to = || cluster.redirected_to(&redirect_address(&failure)?);
            match retry_after(&failure) {
                Retry::Never => return Err(failure),
                Retry::Asking => redirect = redirected_to().map(|node| (node, true)),
                Retry::AtNewMaster => {
                    // Use the address in the reply, because the refreshed map may not have the new master yet.
                    let _ = cluster.refresh(deadline).await;
                    redirect = redirected_to().map(|node| (node, false));
                }
                Retry::Later => {}
            }
            if Instant::now() + pause >= deadline {
                return Err(failure);
            }
            if redirect.is_none() || pause > Self::FIRST_PAUSE {
                SystemClock.sleep(pause).await;
                let _ = cluster.refresh(deadline).await;
            }
            pause = (pause * 2).min(Self::MAX_PAUSE);
        }
    }

    /// Sends a read as commands with one key each, because some of its keys were already moved to another server.
    async fn call_split(
        &self,
        cluster: &Cluster,
        slot: u16,
        mut split: SplitRead,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        while let Some(cmds) = split.next() {
            let requests: Vec<_> = cmds.into_iter().map(|cmd| Request::new(slot, cmd)).collect();
            let calls = requests.iter().map(|request| self.call_cluster(cluster, request, deadline));
            for reply in join_all(calls).await {
                split.append(reply?)?;
            }
        }
        Ok(split.into_reply())
    }
}

/// Sends a command to the server to which a slot is being moved. The server accepts the command only after `ASKING`.
async fn call_asking(node: &Node, cmd: &Cmd, deadline: Instant) -> Result<Value, Failure> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("ASKING");
    pipeline.add_command(cmd.clone());
    node.call_all(&pipeline, deadline).await.pop().unwrap_or(Err(Failure::UnexpectedReply))
}

/// Returns the reaction to a failure on a cluster.
fn retry_after(failure: &Failure) -> Retry {
    match failure {
        Failure::NotSent(error) => match error.kind() {
            redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => Retry::Never,
            _ => Retry::Later,
        },
        Failure::NotSentInTime => Retry::Later,
        Failure::Refused(_) => match failure.code() {
            Some("MOVED") => Retry::AtNewMaster,
            Some("ASK") => Retry::Asking,
            Some("TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN") => Retry::Later,
            _ => Retry::Never,
        },
        Failure::TimedOut
        | Failure::Disconnected(_)
        | Failure::BadReply(_)
        | Failure::UnexpectedReply
        | Failure::SlotsMoving
        | Failure::WrongMode(_)
        | Failure::WrongProtocol(_)
        | Failure::NotProven(_)
        | Failure::LayoutChanged
        | Failure::Closed => Retry::Never,
    }
}

/// Returns the address in a `MOVED` or `ASK` error.
fn redirect_address(failure: &Failure) -> Option<String> {
    let Failure::Refused(error) = failure else { return None };
    error.details()?.split_ascii_whitespace().nth(1).map(str::to_owned)
}
