//! The masters of a cluster and the slots that they hold.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::Clock;
use parking_lot::{Mutex, RwLock};
use redis::{Client, ConnectionAddr, ConnectionInfo, Value};
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::layout::SLOTS;
use crate::server::clock_offset::ServerTime;
use crate::server::node::{Node, Timing};

/// The masters of a cluster, as one of its nodes reports them.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The addresses that the store was opened with.
    seeds: Vec<Arc<Node>>,
    timing: Timing,
    clock: Arc<dyn Clock>,
    map: RwLock<Arc<SlotMap>>,
    /// The nodes that are in use, by address.
    nodes: Mutex<HashMap<String, Arc<Node>>>,
    /// Held during a refresh of the map; the number of refreshes.
    refreshing: tokio::sync::Mutex<u64>,
    /// The number of refreshes, readable without the lock.
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

    /// The slots that have another master in the other map.
    pub(crate) fn changed(&self, other: &Self) -> HashSet<u16> {
        let owner = |map: &Self, slot| map.master(slot).map(Arc::as_ptr);
        (0..SLOTS).filter(|&slot| owner(self, slot) != owner(other, slot)).collect()
    }
}

impl Cluster {
    pub(crate) fn new(seeds: Vec<Client>, timing: Timing, clock: Arc<dyn Clock>) -> Self {
        let seeds = seeds.into_iter().map(|client| Node::new(client, timing, Arc::clone(&clock))).collect();
        Self {
            seeds,
            timing,
            clock,
            map: RwLock::default(),
            nodes: Mutex::default(),
            refreshing: tokio::sync::Mutex::new(0),
            refreshes: AtomicU64::new(0),
        }
    }

    /// The nodes that the store was opened with.
    pub(crate) fn seeds(&self) -> &[Arc<Node>] {
        &self.seeds
    }

    /// The master of a slot, if it is known.
    pub(crate) fn master(&self, slot: u16) -> Option<Arc<Node>> {
        self.map.read().master(slot).map(Arc::clone)
    }

    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        self.map.read().masters.clone()
    }

    /// The slot map of the last refresh.
    pub(crate) fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.read())
    }

    /// The time of the slot's master, or of any measured server if the master is unknown.
    pub(crate) fn now(&self, slot: u16) -> ServerTime {
        if let Some(master) = self.master(slot) {
            return master.now();
        }
        let nodes = self.nodes.lock();
        let known = nodes.values().chain(&self.seeds).find(|known| known.is_measured());
        known.map_or_else(|| ServerTime::unmeasured(self.clock.now()), |known| known.now())
    }

    /// The server at an address that another server reported.
    pub(crate) fn node(&self, address: &str) -> Option<Arc<Node>> {
        let (host, port) = address.rsplit_once(':')?;
        // The port of the cluster bus may follow after an `@`.
        let port = port.split('@').next()?.parse().ok()?;
        (!host.is_empty()).then(|| self.node_at(host, port)).flatten()
    }

    fn node_at(&self, host: &str, port: u16) -> Option<Arc<Node>> {
        let template = self.seeds.first()?.client().get_connection_info();
        let address = match template.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(&address.to_string()) {
            return Some(Arc::clone(node));
        }
        let name = address.to_string();
        let info: ConnectionInfo = template.clone().set_addr(address);
        let client = Client::open(info).ok()?;
        let node = match nodes.values().chain(&self.seeds).find(|known| known.is_measured()) {
            // A write may compute a deadline for the new node before its clock is measured.
            Some(known) => known.sibling(client),
            None => Node::new(client, self.timing, Arc::clone(&self.clock)),
        };
        nodes.insert(name, Arc::clone(&node));
        Some(node)
    }

    /// Refreshes the slot map. A caller that comes during a refresh shares its result.
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
            // A server that does not answer must leave time to ask the others.
            let limit = deadline.min(Instant::now() + (self.timing.connect / 2).min(Duration::from_secs(1)));
            let reply = node.call(redis::cmd("CLUSTER").arg("SLOTS"), limit).await;
            match reply.and_then(|reply| self.parse_slots(node, reply)) {
                Ok(map) => {
                    self.retain_masters(&map);
                    *self.map.write() = Arc::new(map);
                    *refreshing += 1;
                    self.refreshes.store(*refreshing, Ordering::Release);
                    return Ok(());
                }
                Err(failure) => last_failure = failure,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(last_failure)
    }

    /// Forgets the nodes that are not masters in the map. A node that becomes a master again is found through the
    /// others.
    fn retain_masters(&self, map: &SlotMap) {
        self.nodes.lock().retain(|_, node| map.masters.iter().any(|master| Arc::ptr_eq(master, node)));
    }

    fn parse_slots(&self, asked: &Node, reply: Value) -> Result<SlotMap, Failure> {
        let Value::Array(ranges) = reply else { return Err(Failure::UnexpectedReply) };
        let no_master = u16::MAX;
        let mut map = SlotMap { slots: vec![no_master; usize::from(SLOTS)], masters: Vec::new() };
        let asked_host = match asked.client().get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            _ => String::new(),
        };
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
                // A node that does not know its own address is the one that was asked.
                _ => asked_host.clone(),
            };
            let Some(Value::Int(port)) = master.next() else { return Err(Failure::UnexpectedReply) };
            let port = u16::try_from(port).map_err(|_| Failure::UnexpectedReply)?;
            let node = self.node_at(&host, port).ok_or(Failure::UnexpectedReply)?;
            let number = map.masters.iter().position(|known| Arc::ptr_eq(known, &node)).unwrap_or_else(|| {
                map.masters.push(node);
                map.masters.len() - 1
            });
            let number = u16::try_from(number).map_err(|_| Failure::UnexpectedReply)?;
            let range = usize::try_from(first).unwrap_or(usize::MAX)..=usize::try_from(last).unwrap_or(0);
            map.slots.get_mut(range).ok_or(Failure::UnexpectedReply)?.fill(number);
        }
        if map.masters.is_empty() { Err(Failure::UnexpectedReply) } else { Ok(map) }
    }

    pub(crate) fn close(&self) {
        for node in self.seeds.iter().chain(self.nodes.lock().values()) {
            node.close();
        }
    }
}
