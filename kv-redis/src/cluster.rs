//! Which master has which slot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kv_core::Clock;
use parking_lot::{Mutex, RwLock};
use redis::{Client, ConnectionAddr, ConnectionInfo, Value};
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::layout::SLOTS;
use crate::node::{Node, Timing};
use crate::offset::Now;

/// The masters of a cluster, as one of its nodes told them.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The addresses that the store was opened with.
    seeds: Vec<Arc<Node>>,
    timing: Timing,
    clock: Arc<dyn Clock>,
    map: RwLock<Arc<Map>>,
    /// Every server that was ever spoken to, by its address.
    nodes: Mutex<HashMap<String, Arc<Node>>>,
    /// Held by who asks for the map, with how often it was asked.
    turn: tokio::sync::Mutex<u64>,
    asked: std::sync::atomic::AtomicU64,
}

/// Which master has which slot.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// For each slot the number of its master, or one that none has.
    slots: Vec<u16>,
    masters: Vec<Arc<Node>>,
}

impl Map {
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
            turn: tokio::sync::Mutex::new(0),
            asked: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The master of a slot, where it is known.
    pub(crate) fn master(&self, slot: u16) -> Option<Arc<Node>> {
        self.map.read().master(slot).map(Arc::clone)
    }

    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        self.map.read().masters.clone()
    }

    /// Who has which slot, as far as is known.
    pub(crate) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read())
    }

    /// The time of the slot's master; where none is known, that of any other server.
    pub(crate) fn now(&self, slot: u16) -> Now {
        if let Some(master) = self.master(slot) {
            return master.now();
        }
        let nodes = self.nodes.lock();
        let known = nodes.values().chain(&self.seeds).find(|known| known.is_measured());
        known.map_or_else(|| Now::of(self.clock.now()), |known| known.now())
    }

    /// The server at an address that another one named.
    pub(crate) fn node(&self, address: &str) -> Option<Arc<Node>> {
        let (host, port) = address.rsplit_once(':')?;
        // In front of the port of its bus there may be an `@`.
        let port = port.split('@').next()?.parse().ok()?;
        (!host.is_empty()).then(|| self.node_at(host, port)).flatten()
    }

    fn node_at(&self, host: &str, port: u16) -> Option<Arc<Node>> {
        let like = self.seeds.first()?.client().get_connection_info();
        let address = match like.addr() {
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
        let info: ConnectionInfo = like.clone().set_addr(address);
        let client = Client::open(info).ok()?;
        let node = match nodes.values().chain(&self.seeds).find(|known| known.is_measured()) {
            // The first deadline on it may be reckoned before it is asked for its time.
            Some(known) => known.another(client),
            None => Node::new(client, self.timing, Arc::clone(&self.clock)),
        };
        nodes.insert(name, Arc::clone(&node));
        Some(node)
    }

    /// Asks the cluster which master has which slot. Who comes while somebody asks takes that answer.
    pub(crate) async fn refresh(&self, until: Instant) -> Result<(), Failure> {
        use std::sync::atomic::Ordering;
        let seen = self.asked.load(Ordering::Acquire);
        let mut turn = timeout_at(until, self.turn.lock()).await.map_err(|_| Failure::NotInTime)?;
        if *turn > seen {
            return Ok(());
        }
        let mut last = Failure::NotInTime;
        let known = self.masters();
        let others: Vec<_> = self.nodes.lock().values().map(Arc::clone).collect();
        let mut asked: Vec<Arc<Node>> = Vec::new();
        for node in known.iter().chain(&self.seeds).chain(&others) {
            if asked.iter().any(|before| Arc::ptr_eq(before, node)) {
                continue;
            }
            asked.push(Arc::clone(node));
            // One that does not answer leaves time for the others.
            let limit = until.min(Instant::now() + (self.timing.connect / 2).min(Duration::from_secs(1)));
            let answer = node.call(redis::cmd("CLUSTER").arg("SLOTS"), limit).await;
            match answer.and_then(|answer| self.read(node, answer)) {
                Ok(map) => {
                    self.forget_but(&map);
                    *self.map.write() = Arc::new(map);
                    *turn += 1;
                    self.asked.store(*turn, Ordering::Release);
                    return Ok(());
                }
                Err(failure) => last = failure,
            }
            if Instant::now() >= until {
                break;
            }
        }
        Err(last)
    }

    /// Servers that the cluster does not name as masters are found again by the seeds, where they come back.
    fn forget_but(&self, map: &Map) {
        self.nodes.lock().retain(|_, node| map.masters.iter().any(|master| Arc::ptr_eq(master, node)));
    }

    fn read(&self, asked: &Node, answer: Value) -> Result<Map, Failure> {
        let Value::Array(ranges) = answer else { return Err(Failure::Strange) };
        let unowned = u16::MAX;
        let mut map = Map { slots: vec![unowned; usize::from(SLOTS)], masters: Vec::new() };
        let asked_host = match asked.client().get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            _ => String::new(),
        };
        for range in ranges {
            let Value::Array(parts) = range else { return Err(Failure::Strange) };
            let mut parts = parts.into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last)), Some(Value::Array(master))) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(Failure::Strange);
            };
            let mut master = master.into_iter();
            let host = match master.next() {
                Some(Value::BulkString(host)) if !host.is_empty() && host != b"?" => {
                    String::from_utf8(host).map_err(|_| Failure::Strange)?
                }
                // A node that does not know its own address is the one that was asked.
                _ => asked_host.clone(),
            };
            let Some(Value::Int(port)) = master.next() else { return Err(Failure::Strange) };
            let port = u16::try_from(port).map_err(|_| Failure::Strange)?;
            let node = self.node_at(&host, port).ok_or(Failure::Strange)?;
            let number = map.masters.iter().position(|known| Arc::ptr_eq(known, &node)).unwrap_or_else(|| {
                map.masters.push(node);
                map.masters.len() - 1
            });
            let number = u16::try_from(number).map_err(|_| Failure::Strange)?;
            let range = usize::try_from(first).unwrap_or(usize::MAX)..=usize::try_from(last).unwrap_or(0);
            map.slots.get_mut(range).ok_or(Failure::Strange)?.fill(number);
        }
        if map.masters.is_empty() { Err(Failure::Strange) } else { Ok(map) }
    }

    pub(crate) fn close(&self) {
        for node in self.seeds.iter().chain(self.nodes.lock().values()) {
            node.close();
        }
    }
}
