//! The way to the server or the servers: one shape over a single server and a cluster.
//!
//! A command is sent again only where it is certain that it was not applied: where there was no connection, where the server
//! sent it elsewhere, or where it refused because it is not ready. After a connection that broke, nothing is sent again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kv_core::{Clock, SystemClock};
use redis::{Pipeline, Value};
use tokio::time::Instant;

use crate::cluster::{Cluster, Map};
use crate::error::Failure;
use crate::node::{Node, Timing};
use crate::offset::Now;
use crate::request::Request;
use crate::script::Scripts;
use crate::split::Parts;

#[derive(Debug)]
pub(crate) struct Link {
    servers: Servers,
    timing: Timing,
    scripts: Arc<Scripts>,
}

#[derive(Debug)]
pub(crate) enum Servers {
    One(Arc<Node>),
    Cluster(Box<Cluster>),
}

/// What to do about a failure on a cluster.
enum Next {
    /// It is the answer.
    GiveUp,
    /// Another server has the slot.
    Moved,
    /// Another server has the key for now.
    Ask,
    /// Try again when the cluster has had time.
    Wait,
}

impl Link {
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_millis(200);

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
    pub(crate) fn now(&self, slot: u16) -> Now {
        match &self.servers {
            Servers::One(node) => node.now(),
            Servers::Cluster(cluster) => cluster.now(slot),
        }
    }

    /// Which master has which slot; a single server has no slots.
    pub(crate) fn map(&self) -> Option<Arc<Map>> {
        match &self.servers {
            Servers::One(_) => None,
            Servers::Cluster(cluster) => Some(cluster.map()),
        }
    }

    pub(crate) fn master(&self, slot: u16) -> Option<Arc<Node>> {
        match &self.servers {
            Servers::One(node) => Some(Arc::clone(node)),
            Servers::Cluster(cluster) => cluster.master(slot),
        }
    }

    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        match &self.servers {
            Servers::One(node) => vec![Arc::clone(node)],
            Servers::Cluster(cluster) => cluster.masters(),
        }
    }

    /// Learns where everything is; nothing to learn of a single server.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        match &self.servers {
            Servers::One(_) => Ok(()),
            Servers::Cluster(cluster) => cluster.refresh(self.deadline()).await,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timing.operation
    }

    pub(crate) fn close(&self) {
        match &self.servers {
            Servers::One(node) => node.close(),
            Servers::Cluster(cluster) => cluster.close(),
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn call(&self, request: &Request) -> Result<Value, Failure> {
        self.call_until(request, self.deadline()).await
    }

    /// Sends a command to one server and waits for its answer.
    pub(crate) async fn call_node(&self, node: &Node, cmd: &redis::Cmd) -> Result<Value, Failure> {
        node.call(cmd, self.deadline()).await
    }

    /// Sends several commands, those for one server at once, and waits for all answers. Commands that concern the same key
    /// are not in one call, since one of them may be sent again.
    pub(crate) async fn call_many(&self, requests: &[Request]) -> Vec<Result<Value, Failure>> {
        let until = self.deadline();
        let mut answers: Vec<Option<Result<Value, Failure>>> = vec![None; requests.len()];
        let calls = self.grouped(requests).into_iter().map(|(node, members)| async move {
            let mut pipeline = Pipeline::with_capacity(members.len());
            for &member in &members {
                if let Some(request) = requests.get(member) {
                    pipeline.add_command(request.cmd.clone());
                }
            }
            (node.call_all(&pipeline, until).await, members)
        });
        for (found, members) in join_all(calls).await {
            for (answer, member) in found.into_iter().zip(members) {
                if let Some(place) = answers.get_mut(member) {
                    *place = Some(answer);
                }
            }
        }
        let settled = answers.into_iter().zip(requests).map(|(answer, request)| async move {
            match answer {
                Some(Ok(value)) => Ok(value),
                Some(Err(failure)) if !self.is_worth_another(&failure) => Err(failure),
                // The single way knows what to do about it.
                _ => self.call_until(request, until).await,
            }
        });
        join_all(settled).await
    }

    fn grouped(&self, requests: &[Request]) -> Vec<(Arc<Node>, Vec<usize>)> {
        match &self.servers {
            Servers::One(node) => vec![(Arc::clone(node), (0..requests.len()).collect())],
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

    fn is_worth_another(&self, failure: &Failure) -> bool {
        failure.code() == Some("NOSCRIPT") || (self.is_cluster() && !matches!(next(failure), Next::GiveUp))
    }

    async fn call_until(&self, request: &Request, until: Instant) -> Result<Value, Failure> {
        match &self.servers {
            Servers::One(node) => match node.call(&request.cmd, until).await {
                Err(failure) if failure.code() == Some("NOSCRIPT") => match self.scripts.spelled_out(&request.cmd) {
                    Some(spelled) => Box::pin(node.call(&spelled, until)).await,
                    None => Err(failure),
                },
                answer => answer,
            },
            // What happens seldom is kept out of the future of every call.
            Servers::Cluster(cluster) => Box::pin(self.call_cluster(cluster, request, until)).await,
        }
    }

    async fn call_cluster(&self, cluster: &Cluster, request: &Request, until: Instant) -> Result<Value, Failure> {
        let mut pause = Self::FIRST_PAUSE;
        let mut spelled = None;
        let mut sent_to: Option<(Arc<Node>, bool)> = None;
        loop {
            let (target, is_asked) = match sent_to.take() {
                Some((node, is_asked)) => (Some(node), is_asked),
                None => (cluster.master(request.slot), false),
            };
            let cmd = spelled.as_ref().unwrap_or(&request.cmd);
            let answer = match target {
                None => Err(Failure::NotInTime),
                Some(node) if is_asked => call_asking(&node, cmd, until).await,
                Some(node) => node.call(cmd, until).await,
            };
            let failure = match answer {
                Err(failure) => failure,
                answer => return answer,
            };
            if failure.code() == Some("NOSCRIPT") && spelled.is_none() {
                spelled = self.scripts.spelled_out(cmd);
                if spelled.is_some() {
                    continue;
                }
            }
            if failure.code() == Some("TRYAGAIN")
                && let Some(parts) = Parts::of(&request.cmd, &self.scripts)
            {
                return Box::pin(self.call_parts(cluster, request.slot, parts, until)).await;
            }
            let elsewhere = || redirection(&failure).and_then(|address| cluster.node(&address));
            match next(&failure) {
                Next::GiveUp => return Err(failure),
                Next::Ask => sent_to = elsewhere().map(|node| (node, true)),
                Next::Moved => {
                    // The new map may come later than the new master.
                    let _ = cluster.refresh(until).await;
                    sent_to = elsewhere().map(|node| (node, false));
                }
                Next::Wait => {}
            }
            if Instant::now() + pause >= until {
                return Err(failure);
            }
            if sent_to.is_none() || pause > Self::FIRST_PAUSE {
                SystemClock.sleep(pause).await;
                let _ = cluster.refresh(until).await;
            }
            pause = (pause * 2).min(Self::LONGEST_PAUSE);
        }
    }

    /// Reads key by key where some of the keys have been moved and others have not.
    async fn call_parts(
        &self,
        cluster: &Cluster,
        slot: u16,
        mut parts: Parts,
        until: Instant,
    ) -> Result<Value, Failure> {
        while let Some(cmds) = parts.next() {
            let requests: Vec<_> = cmds.into_iter().map(|cmd| Request::new(slot, cmd)).collect();
            let calls = requests.iter().map(|request| self.call_cluster(cluster, request, until));
            for answer in join_all(calls).await {
                parts.answered(answer?)?;
            }
        }
        Ok(parts.whole())
    }
}

/// Sends a command to the server to which a slot is being moved.
async fn call_asking(node: &Node, cmd: &redis::Cmd, until: Instant) -> Result<Value, Failure> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.cmd("ASKING");
    pipeline.add_command(cmd.clone());
    node.call_all(&pipeline, until).await.pop().unwrap_or(Err(Failure::Strange))
}

fn next(failure: &Failure) -> Next {
    match failure {
        Failure::Unsent(error) => match error.kind() {
            redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => Next::GiveUp,
            _ => Next::Wait,
        },
        Failure::NotInTime => Next::Wait,
        Failure::Refused(_) => match failure.code() {
            Some("MOVED") => Next::Moved,
            Some("ASK") => Next::Ask,
            Some("TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MASTERDOWN") => Next::Wait,
            _ => Next::GiveUp,
        },
        Failure::Late
        | Failure::Lost(_)
        | Failure::Strange
        | Failure::Moving
        | Failure::Displaced
        | Failure::Closed => Next::GiveUp,
    }
}

/// The address in a `MOVED` or an `ASK`.
fn redirection(failure: &Failure) -> Option<String> {
    let Failure::Refused(error) = failure else { return None };
    error.details()?.split_ascii_whitespace().nth(1).map(str::to_owned)
}
