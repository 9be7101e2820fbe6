//! Sends requests to the right server: one interface over a single server and a cluster.
//!
//! A command is sent again only if it was certainly not applied: there was no connection, the server redirected it, or
//! the server refused it because it is not ready. After a connection breaks, nothing is sent again.

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
use crate::server::mode::{self, Mode};
use crate::server::node::{Node, Timing};
use crate::server::split_read::SplitRead;

/// A command for the master of one slot.
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

/// Shows only the slot: the command holds keys and values.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({})", self.slot)
    }
}

#[derive(Debug)]
pub(crate) struct Router {
    servers: Servers,
    timing: Timing,
    scripts: Arc<Scripts>,
}

#[derive(Debug)]
pub(crate) enum Servers {
    Single(Arc<Node>),
    Cluster(Box<Cluster>),
}

/// The reaction to a failure on a cluster.
enum Retry {
    /// Return the failure.
    Never,
    /// Send to the new master of the slot (`MOVED`).
    AtNewMaster,
    /// Send once to another server, after `ASKING` (`ASK`).
    Asking,
    /// Send again after a pause.
    Later,
}

impl Router {
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    const MAX_PAUSE: Duration = Duration::from_millis(200);

    pub(crate) fn new(servers: Servers, timing: Timing, scripts: Arc<Scripts>) -> Self {
        Self { servers, timing, scripts }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Cluster(_))
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// The time of the server that has the slot.
    pub(crate) fn now(&self, slot: u16) -> ServerTime {
        match &self.servers {
            Servers::Single(node) => node.now(),
            Servers::Cluster(cluster) => cluster.now(slot),
        }
    }

    /// The slot map of a cluster; a single server has none.
    pub(crate) fn map(&self) -> Option<Arc<SlotMap>> {
        match &self.servers {
            Servers::Single(_) => None,
            Servers::Cluster(cluster) => Some(cluster.map()),
        }
    }

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

    /// Refreshes the slot map of a cluster; does nothing on a single server.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        match &self.servers {
            Servers::Single(_) => Ok(()),
            Servers::Cluster(cluster) => cluster.refresh(self.deadline()).await,
        }
    }

    /// Connects, and refuses a server whose mode does not fit. Nothing was written before.
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

    /// The deadline of a call that begins now.
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

    /// Sends several commands, one pipeline for each server, and waits for all replies. No two of them may concern the
    /// same key, because one of them may be sent again.
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
                Some(Err(failure)) if !self.is_retryable(&failure) => Err(self.settled(failure)),
                // A call of its own handles redirections and pauses.
                _ => self.call_until(request, deadline).await,
            }
        });
        join_all(settled).await
    }

    /// The indexes of the requests for each master; a request for a slot without a known master is in none.
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

    fn is_retryable(&self, failure: &Failure) -> bool {
        failure.code() == Some("NOSCRIPT") || (self.is_cluster() && !matches!(retry_after(failure), Retry::Never))
    }

    async fn call_until(&self, request: &Request, deadline: Instant) -> Result<Value, Failure> {
        match &self.servers {
            Servers::Single(node) => match node.call(&request.cmd, deadline).await {
                Err(failure) if failure.code() == Some("NOSCRIPT") => match self.scripts.eval_of(&request.cmd) {
                    Some(eval) => Box::pin(node.call(&eval, deadline)).await.map_err(|failure| self.settled(failure)),
                    None => Err(failure),
                },
                reply => reply.map_err(|failure| self.settled(failure)),
            },
            // Boxed, so that retries do not enlarge the future of every call.
            Servers::Cluster(cluster) => Box::pin(self.call_cluster(cluster, request, deadline)).await,
        }
    }

    /// The failure of a call that is not sent again. Only a node of a cluster redirects a caller or knows slots.
    fn settled(&self, failure: Failure) -> Failure {
        match failure.code() {
            Some("MOVED" | "ASK" | "CLUSTERDOWN") if !self.is_cluster() => Failure::WrongMode(Mode::ClusterNode),
            _ => failure,
        }
    }

    async fn call_cluster(&self, cluster: &Cluster, request: &Request, deadline: Instant) -> Result<Value, Failure> {
        let mut pause = Self::FIRST_PAUSE;
        let mut eval = None;
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
            let redirected_to = || redirect_address(&failure).and_then(|address| cluster.node(&address));
            match retry_after(&failure) {
                Retry::Never => return Err(failure),
                Retry::Asking => redirect = redirected_to().map(|node| (node, true)),
                Retry::AtNewMaster => {
                    // The address in the reply is used even if the refreshed map does not have the new master yet.
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

    /// Reads the keys one by one, because some of them were already moved to another server and others were not.
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
                split.add(reply?)?;
            }
        }
        Ok(split.into_reply())
    }
}

/// Sends a command to the server that a slot is being moved to.
async fn call_asking(node: &Node, cmd: &Cmd, deadline: Instant) -> Result<Value, Failure> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("ASKING");
    pipeline.add_command(cmd.clone());
    node.call_all(&pipeline, deadline).await.pop().unwrap_or(Err(Failure::UnexpectedReply))
}

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
        | Failure::UnexpectedReply
        | Failure::SlotsMoving
        | Failure::WrongMode(_)
        | Failure::WrongProtocol(_)
        | Failure::LayoutChanged
        | Failure::Closed => Retry::Never,
    }
}

/// The address in a `MOVED` or `ASK` error.
fn redirect_address(failure: &Failure) -> Option<String> {
    let Failure::Refused(error) = failure else { return None };
    error.details()?.split_ascii_whitespace().nth(1).map(str::to_owned)
}
