//! The masters of a cluster and their slots.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::Clock;
use parking_lot::{Mutex, RwLock};
use redis::Value;
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::layout::SLOTS;
use crate::server::clock_offset::ServerTime;
use crate::server::connections::Connections;
use crate::server::endpoint::Endpoint;
use crate::server::node::{Node, Timing};

/// The maximum number of nodes that serve reads and are not masters in the map. A hostile node could name any number.
const MAX_OTHER_SOURCES: usize = 64;

/// A cluster: its masters, and the slots of each master as a node has reported them.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The nodes with which the store was opened.
    seeds: Vec<Arc<Node>>,
    timing: Timing,
    clock: Arc<dyn Clock>,
    connections: Arc<Connections>,
    map: RwLock<Arc<SlotMap>>,
    /// The nodes that other nodes have reported, by address. After a refresh only masters remain.
    nodes: Mutex<HashMap<String, Arc<Node>>>,
    /// The nodes that serve reads, but are not masters in the map: other nodes have redirected commands to them, or name
    /// them as owners of slots. Listened to like masters.
    other_sources: Mutex<Vec<Arc<Node>>>,
    /// The number of refreshes. The lock is held during a refresh of the map.
    refreshing: tokio::sync::Mutex<u64>,
    /// A copy of the number of refreshes that can be read without the lock.
    refreshes: AtomicU64,
}

/// The master of each slot.
#[derive(Debug, Default)]
pub(crate) struct SlotMap {
    /// For each slot, the index of its master in `masters`; out of range for a slot without a master.
    slots: Vec<u16>,
    masters: Vec<Arc<Node>>,
}

impl SlotMap {
    fn master(&self, slot: u16) -> Option<&Arc<Node>> {
        self.masters.get(usize::from(*self.slots.get(usize::from(slot))?))
    }

    fn has_master(&self, node: &Arc<Node>) -> bool {
        self.masters.iter().any(|master| Arc::ptr_eq(master, node))
    }

    /// Returns the slots that have another master in the other map.
    pub(crate) fn changed(&self, other: &Self) -> HashSet<u16> {
        let master = |map: &Self, slot| map.master(slot).map(Arc::as_ptr);
        (0..SLOTS).filter(|&slot| master(self, slot) != master(other, slot)).collect()
    }
}

impl Cluster {
    pub(crate) fn new(
        seeds: Vec<Endpoint>,
        timing: Timing,
        clock: Arc<dyn Clock>,
        connections: Arc<Connections>,
    ) -> Self {
        let node = |seed| Node::new(seed, timing, Arc::clone(&clock), Arc::clone(&connections));
        let seeds = seeds.into_iter().map(node).collect();
        Self {
            seeds,
            timing,
            clock,
            connections,
            map: RwLock::default(),
            nodes: Mutex::default(),
            other_sources: Mutex::default(),
            refreshing: tokio::sync::Mutex::new(0),
            refreshes: AtomicU64::new(0),
        }
    }

    /// The nodes with which the store was opened.
    pub(crate) fn seeds(&self) -> &[Arc<Node>] {
        &self.seeds
    }

    /// Returns the master of a slot, if the last refresh has found one.
    pub(crate) fn master(&self, slot: u16) -> Option<Arc<Node>> {
        self.map.read().master(slot).map(Arc::clone)
    }

    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        self.map.read().masters.clone()
    }

    /// Returns the nodes that may serve reads.
    pub(crate) fn sources(&self) -> Vec<Arc<Node>> {
        let mut sources = self.masters();
        sources.extend(self.other_sources.lock().iter().map(Arc::clone));
        sources
    }

    /// Records that a node serves reads. If the node is new, wakes the listener.
    pub(crate) fn add_source(&self, node: &Arc<Node>) {
        let masters = self.masters();
        let mut others = self.other_sources.lock();
        if masters.iter().chain(&*others).any(|known| Arc::ptr_eq(known, node)) {
            return;
        }
        if others.len() >= MAX_OTHER_SOURCES {
            others.remove(0);
        }
        others.push(Arc::clone(node));
        self.connections.listener_wake().notify_one();
    }

    /// Records that a node serves no reads, unless it is a master in the map.
    pub(crate) fn remove_source(&self, node: &Arc<Node>) {
        self.other_sources.lock().retain(|other| !Arc::ptr_eq(other, node));
    }

    /// Records the owners of slots in the reply of a node to `CLUSTER SLOTS`.
    pub(crate) fn add_owners(&self, node: &Node, reply: Value) -> Result<(), Failure> {
        let owners = self.parse_slots(node, reply).map(|map| map.masters);
        for owner in owners.iter().flatten() {
            self.add_source(owner);
        }
        // A hostile node could name any number of owners.
        self.retain_masters(&self.map());
        owners.map(drop)
    }

    /// Returns the slot map of the last refresh.
    pub(crate) fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.read())
    }

    /// Returns the time of the slot's master. If the master is unknown, returns the time of any measured server, or of
    /// our clock.
    pub(crate) fn now(&self, slot: u16) -> ServerTime {
        if let Some(master) = self.master(slot) {
            return master.now();
        }
        let nodes = self.nodes.lock();
        let known = nodes.values().chain(&self.seeds).find(|known| known.is_measured());
        known.map_or_else(|| ServerTime::unmeasured(self.clock.now()), |known| known.now())
    }

    /// Returns the node to which another node has redirected a command. The node serves reads from now on.
    pub(crate) fn redirected_to(&self, address: &str) -> Option<Arc<Node>> {
        let node = self.node(address)?;
        self.add_source(&node);
        Some(node)
    }

    /// Returns the node at an address that another node has reported.
    pub(crate) fn node(&self, address: &str) -> Option<Arc<Node>> {
        let (host, port) = address.rsplit_once(':')?;
        // The port of the cluster bus may follow after an `@`.
        let port = port.split('@').next()?.parse().ok()?;
        (!host.is_empty()).then(|| self.node_at(host, port)).flatten()
    }

    fn node_at(&self, host: &str, port: u16) -> Option<Arc<Node>> {
        let endpoint = self.seeds.first()?.endpoint().at(host, port).ok()?;
        let name = endpoint.info().addr().to_string();
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(&name) {
            return Some(Arc::clone(node));
        }
        let node = match nodes.values().chain(&self.seeds).find(|known| known.is_measured()) {
            // A write may need the time of the new node before its clock is measured.
            Some(known) => known.sibling(endpoint),
            None => Node::new(endpoint, self.timing, Arc::clone(&self.clock), Arc::clone(&self.connections)),
        };
        nodes.insert(name, Arc::clone(&node));
        Some(node)
    }

    /// Refreshes the slot map. If another caller has completed a refresh while this caller waited for the lock, does
    /// nothing.
    pub(crate) async fn refresh(&self, deadline: Instant) -> Result<(), Failure> {
        let refreshes_before = self.refreshes.load(Ordering::Acquire);
        let mut refreshing = timeout_at(deadline, self.refreshing.lock()).await.map_err(|_| Failure::NotSentInTime)?;
        if *refreshing > refreshes_before {
            return Ok(());
        }
        let mut last_failure = Failure::NotSentInTime;
        let known = self.masters();
        let others: Vec<_> = self.nodes.lock().values().map(Arc::clone).collect();
        let mut asked: Vec<Arc<Node>> = Vec::new();
        for node in known.iter().chain(&self.seeds).chain(&others) {
            if asked.iter().any(|before| Arc::ptr_eq(before, node)) {
                continue;
            }
            asked.push(Arc::clone(node));
            // A node that does not reply must leave time to ask the other nodes.
            let limit = deadline.min(Instant::now() + (self.timing.connect / 2).min(Duration::from_secs(1)));
            let reply = node.call(redis::cmd("CLUSTER").arg("SLOTS"), limit).await;
            match reply.and_then(|reply| self.parse_slots(node, reply)) {
                Ok(map) => {
                    self.other_sources.lock().retain(|other| !map.has_master(other));
                    self.retain_masters(&map);
                    let known = std::mem::replace(&mut *self.map.write(), Arc::new(map));
                    if !self.masters().iter().all(|master| known.has_master(master)) {
                        self.connections.listener_wake().notify_one();
                    }
                    *refreshing += 1;
                    self.refreshes.store(*refreshing, Ordering::Release);
                    return Ok(());
                }
                Err(failure) => {
                    if matches!(failure, Failure::UnexpectedReply) {
                        // Forget the nodes of this reply. Otherwise such replies could use up the memory.
                        self.retain_masters(&self.map());
                    }
                    last_failure = failure;
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(last_failure)
    }

    /// Forgets the nodes that are not masters in the map. If such a node becomes a master later, the slot map contains
    /// its address again.
    fn retain_masters(&self, map: &SlotMap) {
        let others = self.other_sources.lock().clone();
        let is_other = |node: &Arc<Node>| others.iter().any(|other| Arc::ptr_eq(other, node));
        self.nodes.lock().retain(|_, node| map.has_master(node) || is_other(node));
    }

    /// Parses the reply of a node to `CLUSTER SLOTS`.
    fn parse_slots(&self, asked: &Node, reply: Value) -> Result<SlotMap, Failure> {
        let Value::Array(ranges) = reply else { return Err(Failure::UnexpectedReply) };
        // Each range has a slot, so a cluster has no more ranges than slots.
        if ranges.len() > usize::from(SLOTS) {
            return Err(Failure::UnexpectedReply);
        }
        let no_master = u16::MAX;
        let mut map = SlotMap { slots: vec![no_master; usize::from(SLOTS)], masters: Vec::new() };
        let asked_host = asked.endpoint().host().unwrap_or_default().to_owned();
        for range in ranges {
            let Value::Array(parts) = range else { return Err(Failure::UnexpectedReply) };
            let mut parts = parts.into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last)), Some(Value::Array(master))) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(Failure::UnexpectedReply);
            };
            let mut master = master.into_iter();
            let host = match master.next() {
                Some(Value::BulkString(host)) if !host.is_empty() && host != b"?" => {
                    String::from_utf8(host).map_err(|_| Failure::UnexpectedReply)?
                }
                // The asked node does not know its own address, so it reports an empty host for itself.
                _ => asked_host.clone(),
            };
            let Some(Value::Int(port)) = master.next() else { return Err(Failure::UnexpectedReply) };
            let port = u16::try_from(port).map_err(|_| Failure::UnexpectedReply)?;
            let node = self.node_at(&host, port).ok_or(Failure::UnexpectedReply)?;
            let index = map.masters.iter().position(|known| Arc::ptr_eq(known, &node)).unwrap_or_else(|| {
                map.masters.push(node);
                map.masters.len() - 1
            });
            let index = u16::try_from(index).map_err(|_| Failure::UnexpectedReply)?;
            let range = usize::try_from(first).unwrap_or(usize::MAX)..=usize::try_from(last).unwrap_or(0);
            map.slots.get_mut(range).ok_or(Failure::UnexpectedReply)?.fill(index);
        }
        if map.masters.is_empty() { Err(Failure::UnexpectedReply) } else { Ok(map) }
    }

    pub(crate) fn close(&self) {
        for node in self.seeds.iter().chain(self.nodes.lock().values()) {
            node.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use kv_core::SystemClock;

    use super::*;

    #[test]
    fn a_reply_with_more_ranges_than_slots_is_refused() {
        let second = Duration::from_secs(1);
        let timing = Timing { connect: second, operation: second, heartbeat: second, max_value: 1 };
        let endpoint = Endpoint::new(redis::Client::open("redis://h").unwrap(), None);
        let cluster = Cluster::new(vec![endpoint], timing, Arc::new(SystemClock), Arc::default());
        let master = Value::Array(vec![Value::BulkString(b"h".to_vec()), Value::Int(1)]);
        let range = Value::Array(vec![Value::Int(0), Value::Int(0), master]);
        let parse = |count| cluster.parse_slots(&cluster.seeds[0], Value::Array(vec![range.clone(); count]));
        assert!(parse(16_384).is_ok());
        assert!(matches!(parse(16_385), Err(Failure::UnexpectedReply)));
    }
}
