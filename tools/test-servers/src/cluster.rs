//! A Redis Cluster of three masters and three replicas.

mod slots;
mod view;

use std::io;
use std::path::Path;
use std::sync::Arc;

use self::view::View;
use crate::folder::Folder;
use crate::redis::{Redis, RedisBuilder};
use crate::tls::{Certificate, Tls};
use crate::wait;

/// The `cluster-node-timeout`, in milliseconds. With this value, a failover takes two or three seconds. With a shorter
/// timeout, the load of a busy machine would cause failovers.
const NODE_TIMEOUT_MS: &str = "1500";

const MASTERS: usize = 3;

/// The highest slot number.
const LAST_SLOT: u16 = 16_383;

/// Six private servers. Initially, nodes 0, 1 and 2 are masters with a third of the slots each, and nodes 3, 4 and 5
/// are their replicas, in this order.
///
/// Dropping the value kills the servers and removes their folders.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    ids: Vec<String>,
    /// A slot of the most recently killed master; `None` if no master was killed.
    slot_of_killed_master: Option<u16>,
    /// The certificate of all nodes and its folder, if the cluster uses TLS.
    tls: Option<(Arc<Tls>, Folder)>,
}

/// Builder of a [`RedisCluster`]. All nodes have the same settings.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RedisClusterBuilder {
    node: RedisBuilder,
    has_tls: bool,
}

impl RedisClusterBuilder {
    /// Sets the password of the default user on every node.
    pub fn password(mut self, password: &str) -> Self {
        self.node = self.node.password(password);
        self
    }

    /// Adds a user on every node, as [`RedisBuilder::acl_user`] does.
    pub fn acl_user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.node = self.node.acl_user(name, password, rules);
        self
    }

    /// Enables TLS on a separate port of every node, and between the nodes.
    pub fn tls(mut self) -> Self {
        self.has_tls = true;
        self
    }

    /// Starts the cluster and waits until every node reports `cluster_state:ok` and every replica is in sync.
    ///
    /// # Errors
    /// The program is missing, or a node did not start.
    pub fn start(self) -> io::Result<RedisCluster> {
        let Self { mut node, has_tls } = self;
        let mut tls = None;
        if has_tls {
            let folder = Folder::create(None)?;
            let shared = Arc::new(Tls::create(Certificate::Good, &folder)?);
            node = node.tls_shared(Arc::clone(&shared)).setting("tls-cluster", "yes").setting("tls-replication", "yes");
            tls = Some((shared, folder));
        }
        let node = node
            .setting("cluster-enabled", "yes")
            .setting("cluster-node-timeout", NODE_TIMEOUT_MS)
            .setting("cluster-announce-ip", "127.0.0.1")
            .setting("cluster-replica-validity-factor", "0")
            .setting("cluster-allow-replica-migration", "no");
        let nodes: Vec<Redis> = (0..2 * MASTERS).map(|_| node.clone().start()).collect::<io::Result<_>>()?;
        let ids = nodes.iter().map(|node| node.cli(&["CLUSTER", "MYID"])).collect::<io::Result<_>>()?;
        let cluster = RedisCluster { nodes, ids, slot_of_killed_master: None, tls };
        cluster.join()?;
        cluster.wait_until_whole()?;
        Ok(cluster)
    }
}

impl RedisCluster {
    /// Starts the cluster and waits until every node reports `cluster_state:ok` and every replica is in sync.
    ///
    /// # Errors
    /// The program is missing, or a node did not start.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Returns a builder for a cluster with other settings.
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder::default()
    }

    /// Returns `redis-cluster://127.0.0.1:P1,127.0.0.1:P2,127.0.0.1:P3` with the ports of the first three nodes.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().take(MASTERS).map(|node| node.address().to_string()).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }

    /// Returns `redis-cluster://USER:PASSWORD@127.0.0.1:P1,…?tls=true` with the TLS ports of the first three nodes.
    ///
    /// # Panics
    /// The cluster was not built with TLS.
    pub fn tls_url_of(&self, user: &str, password: &str) -> String {
        let addresses: Vec<String> =
            self.nodes.iter().take(MASTERS).map(|node| node.tls_address().to_string()).collect();
        format!("redis-cluster://{user}:{password}@{}?tls=true", addresses.join(","))
    }

    /// Returns the PEM file of the authority that signed the nodes' certificate.
    ///
    /// # Panics
    /// The cluster was not built with TLS.
    #[expect(clippy::expect_used, reason = "a call without TLS is an error of the test")]
    pub fn ca_certificate(&self) -> &Path {
        &self.tls.as_ref().expect("the cluster was built with TLS").0.authority
    }

    /// Returns the port on which the other nodes know this node.
    fn port_for_nodes(&self, node: &Redis) -> u16 {
        if self.tls.is_some() { node.tls_address().port() } else { node.port() }
    }

    /// Returns all six nodes. Each node can be killed, restarted and paused by itself.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// Returns the slot of a key, by `CLUSTER KEYSLOT`.
    ///
    /// # Errors
    /// No node is running, or the requested node did not answer.
    pub fn slot_of(&self, key: &str) -> io::Result<u16> {
        let (_, node) = self.running().next().ok_or_else(no_running_node)?;
        node.cli(&["CLUSTER", "KEYSLOT", key])?.parse().map_err(io::Error::other)
    }

    /// Returns the index of the node that owns the slot. If the running nodes disagree, the owner with the highest
    /// configuration epoch counts.
    ///
    /// # Errors
    /// No node answers, or no node owns the slot.
    pub fn master_of_slot(&self, slot: u16) -> io::Result<usize> {
        let owners = self.running().filter_map(|(_, node)| View::of(node).ok()?.owner(slot));
        let newest = owners.max_by_key(|owner| owner.epoch);
        let owner = newest.ok_or_else(|| io::Error::other(format!("no node owns slot {slot}")))?;
        self.index_of(&owner.id)
    }

    /// Kills a node that owns slots, as a crash would.
    ///
    /// # Errors
    /// The node owns no slot.
    pub fn kill_master(&mut self, index: usize) -> io::Result<()> {
        let slot = View::of(self.node(index)?)?.first_slot_of(self.id(index)?);
        self.slot_of_killed_master = Some(slot.ok_or_else(|| io::Error::other(format!("node {index} owns no slot")))?);
        self.nodes.get_mut(index).map_or(Ok(()), Redis::kill)
    }

    /// Waits until another node owns the slots of the most recently killed master, and every running node knows this
    /// new owner and reports `cluster_state:ok`. Returns the index of the new master.
    ///
    /// # Errors
    /// No master was killed, or no replica was promoted in time.
    pub fn wait_for_failover(&self) -> io::Result<usize> {
        let slot = self.slot_of_killed_master.ok_or_else(|| io::Error::other("no master was killed"))?;
        wait::until(wait::TIMEOUT, || {
            let mut new_master = None;
            for (index, node) in self.running() {
                let owner = View::of(node).ok().and_then(|view| self.index_of(&view.owner(slot)?.id).ok());
                match owner.filter(|owner| self.is_running(*owner) && *new_master.get_or_insert(*owner) == *owner) {
                    Some(_) if is_healthy(node) => {}
                    _ => return Ok(Err(format!("node {index} does not know the new master of slot {slot}"))),
                }
            }
            Ok(new_master.ok_or_else(|| "no node answers".to_owned()))
        })
    }

    /// Waits until all six nodes report `cluster_state:ok` and every replica is in sync, for example after a restart.
    ///
    /// # Errors
    /// The cluster did not reach this state in time.
    pub fn wait_until_whole(&self) -> io::Result<()> {
        wait::until(wait::TIMEOUT, || {
            for (index, node) in self.nodes.iter().enumerate() {
                let complete = View::of(node).is_ok_and(|view| view.is_complete(self.nodes.len(), MASTERS));
                if !complete || !is_healthy(node) || !is_in_sync(node) {
                    return Ok(Err(format!("node {index} is not healthy")));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Makes a node announce this port instead of its own, so that clients connect through a proxy. Replicas that
    /// reconnect use the proxy too.
    ///
    /// # Errors
    /// A node does not answer, or does not learn the port in time.
    pub fn announce(&self, index: usize, port: u16) -> io::Result<()> {
        self.node(index)?.cli(&["CONFIG", "SET", "cluster-announce-port", &port.to_string()])?;
        let id = self.id(index)?;
        wait::until(wait::TIMEOUT, || {
            for (other, node) in self.running() {
                if View::of(node).ok().and_then(|view| view.port_of(id)) != Some(port) {
                    return Ok(Err(format!("node {other} does not know the port {port}")));
                }
            }
            Ok(Ok(()))
        })
    }

    fn join(&self) -> io::Result<()> {
        let share = LAST_SLOT / 3;
        let masters: [(u16, u16); MASTERS] = [(0, share), (share + 1, 2 * share), (2 * share + 1, LAST_SLOT)];
        for (node, (first, last)) in self.nodes.iter().zip(masters) {
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            // The initial epochs are distinct, because nodes with equal epochs would resolve the conflicts one after
            // another.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        // A `MEET` of every pair is faster than waiting for gossip.
        for (index, node) in self.nodes.iter().enumerate() {
            for other in self.nodes.iter().skip(index + 1) {
                node.cli(&["CLUSTER", "MEET", "127.0.0.1", &self.port_for_nodes(other).to_string()])?;
            }
        }
        for (replica, master) in self.nodes.iter().skip(MASTERS).zip(&self.ids) {
            wait::until(wait::TIMEOUT, || {
                Ok(replica.cli(&["CLUSTER", "REPLICATE", master]).map_err(|error| error.to_string()))
            })?;
        }
        Ok(())
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Redis)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_running())
    }

    fn is_running(&self, index: usize) -> bool {
        self.nodes.get(index).is_some_and(Redis::is_running)
    }

    fn index_of(&self, id: &str) -> io::Result<usize> {
        self.ids.iter().position(|known| known == id).ok_or_else(|| io::Error::other("the node id is unknown"))
    }

    fn node(&self, index: usize) -> io::Result<&Redis> {
        self.nodes.get(index).ok_or_else(|| io::Error::other(format!("there is no node {index}")))
    }

    fn id(&self, index: usize) -> io::Result<&str> {
        self.ids.get(index).map(String::as_str).ok_or_else(|| io::Error::other(format!("there is no node {index}")))
    }
}

fn is_healthy(node: &Redis) -> bool {
    node.cli(&["CLUSTER", "INFO"]).is_ok_and(|response| response.contains("cluster_state:ok"))
}

/// True if the node is a master, or a replica whose connection to its master is up.
fn is_in_sync(node: &Redis) -> bool {
    node.cli(&["INFO", "replication"]).is_ok_and(|response| !response.contains("master_link_status:down"))
}

fn no_running_node() -> io::Error {
    io::Error::other("no node runs")
}
