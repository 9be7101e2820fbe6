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

/// Short, so that a failover takes two or three seconds, but not so short that a busy machine looks like a dead master.
const NODE_TIMEOUT_MS: &str = "1500";

const MASTERS: usize = 3;

/// The cluster counts slots from 0 to this.
const LAST_SLOT: u16 = 16_383;

/// Six private servers. At first 0, 1 and 2 are masters with a third of the slots each, and 3, 4 and 5 their replicas in this order.
///
/// Dropping it kills them and removes their folders.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    ids: Vec<String>,
    /// A slot of the master that was killed last.
    orphan: Option<u16>,
    /// The certificate of all nodes, where they speak TLS, and the folder in which it lies.
    tls: Option<(Arc<Tls>, Folder)>,
}

/// What a [`RedisCluster`] is started with; each node is started with the same.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RedisClusterBuilder {
    node: RedisBuilder,
    has_tls: bool,
}

impl RedisClusterBuilder {
    /// The password of the default user on every node.
    pub fn password(mut self, password: &str) -> Self {
        self.node = self.node.password(password);
        self
    }

    /// One more user, on every node, as [`RedisBuilder::acl_user`].
    pub fn acl_user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.node = self.node.acl_user(name, password, rules);
        self
    }

    /// Every node speaks TLS too, on a port of its own, and so they speak to each other.
    pub fn tls(mut self) -> Self {
        self.has_tls = true;
        self
    }

    /// Starts it, and returns when every node says that all is well and each replica has its copy.
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
        let cluster = RedisCluster { nodes, ids, orphan: None, tls };
        cluster.join()?;
        cluster.wait_until_whole()?;
        Ok(cluster)
    }
}

impl RedisCluster {
    /// Starts it, and returns when every node says that all is well and each replica has its copy.
    ///
    /// # Errors
    /// The program is missing, or a node did not start.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// What else can be asked for.
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder::default()
    }

    /// `redis-cluster://127.0.0.1:P1,127.0.0.1:P2,127.0.0.1:P3`, the first three nodes.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().take(MASTERS).map(|node| node.address().to_string()).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }

    /// `redis-cluster://USER:PASSWORD@127.0.0.1:P1,…`, through TLS.
    ///
    /// # Panics
    /// Where the cluster was not built with TLS.
    pub fn tls_url_of(&self, user: &str, password: &str) -> String {
        let addresses: Vec<String> =
            self.nodes.iter().take(MASTERS).map(|node| node.tls_address().to_string()).collect();
        format!("redis-cluster://{user}:{password}@{}?tls=true", addresses.join(","))
    }

    /// The certificate of the authority that vouches for every node.
    ///
    /// # Panics
    /// Where the cluster was not built with TLS.
    #[expect(clippy::expect_used, reason = "a test that asks for what it did not build is wrong")]
    pub fn ca_certificate(&self) -> &Path {
        &self.tls.as_ref().expect("the cluster was built with TLS").0.authority
    }

    /// By which the nodes know this one.
    fn port_among_nodes(&self, node: &Redis) -> u16 {
        if self.tls.is_some() { node.tls_address().port() } else { node.port() }
    }

    /// All six; they may be killed, restarted and paused one by one.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// The slot of a key, as the cluster says.
    ///
    /// # Errors
    /// No node answers.
    pub fn slot_of(&self, key: &str) -> io::Result<u16> {
        let (_, node) = self.living().next().ok_or_else(nobody)?;
        node.cli(&["CLUSTER", "KEYSLOT", key])?.parse().map_err(io::Error::other)
    }

    /// Which of the nodes owns the slot, by the newest view that a living one has.
    ///
    /// # Errors
    /// No node answers, or nobody owns it.
    pub fn master_of_slot(&self, slot: u16) -> io::Result<usize> {
        let owners = self.living().filter_map(|(_, node)| View::of(node).ok()?.owner(slot));
        let newest = owners.max_by_key(|owner| owner.epoch);
        let owner = newest.ok_or_else(|| io::Error::other(format!("nobody owns slot {slot}")))?;
        self.index_of(&owner.id)
    }

    /// Kills a node that owns slots, as a crash would.
    ///
    /// # Errors
    /// It owns none.
    pub fn kill_master(&mut self, index: usize) -> io::Result<()> {
        let slot = View::of(self.node(index)?)?.first_slot_of(self.id(index)?);
        self.orphan = Some(slot.ok_or_else(|| io::Error::other(format!("node {index} owns no slot")))?);
        self.nodes.get_mut(index).map_or(Ok(()), Redis::kill)
    }

    /// Waits until another node has the slots of the master that was killed last, and every living one knows and says that all is well.
    /// Gives that other node.
    ///
    /// # Errors
    /// No master was killed, or nobody took its place.
    pub fn wait_for_failover(&self) -> io::Result<usize> {
        let slot = self.orphan.ok_or_else(|| io::Error::other("no master was killed"))?;
        wait::until(wait::START, || {
            let mut heir = None;
            for (index, node) in self.living() {
                let owner = View::of(node).ok().and_then(|view| self.index_of(&view.owner(slot)?.id).ok());
                match owner.filter(|owner| self.is_living(*owner) && *heir.get_or_insert(*owner) == *owner) {
                    Some(_) if is_well(node) => {}
                    _ => return Ok(Err(format!("node {index} does not know the new master of slot {slot}"))),
                }
            }
            Ok(heir.ok_or_else(|| "no node answers".to_owned()))
        })
    }

    /// Waits until all six nodes answer and say that all is well, and each replica has its copy; such as after a restart.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn wait_until_whole(&self) -> io::Result<()> {
        wait::until(wait::START, || {
            for (index, node) in self.nodes.iter().enumerate() {
                let whole = View::of(node).is_ok_and(|view| view.is_whole(self.nodes.len(), MASTERS));
                if !whole || !is_well(node) || !has_copy(node) {
                    return Ok(Err(format!("node {index} is not well")));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Makes a node tell clients this port instead of its own, so that they come through a proxy. Replicas that connect
    /// anew come through it too.
    ///
    /// # Errors
    /// A node does not answer, or does not hear of it.
    pub fn announce(&self, index: usize, port: u16) -> io::Result<()> {
        self.node(index)?.cli(&["CONFIG", "SET", "cluster-announce-port", &port.to_string()])?;
        let id = self.id(index)?;
        wait::until(wait::START, || {
            for (other, node) in self.living() {
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
            // Of its own from the start: nodes of the same epoch would take turns in finding another.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        // Everybody greets everybody, which is faster than rumours.
        for (index, node) in self.nodes.iter().enumerate() {
            for other in self.nodes.iter().skip(index + 1) {
                node.cli(&["CLUSTER", "MEET", "127.0.0.1", &self.port_among_nodes(other).to_string()])?;
            }
        }
        for (replica, master) in self.nodes.iter().skip(MASTERS).zip(&self.ids) {
            wait::until(wait::START, || {
                Ok(replica.cli(&["CLUSTER", "REPLICATE", master]).map_err(|error| error.to_string()))
            })?;
        }
        Ok(())
    }

    fn living(&self) -> impl Iterator<Item = (usize, &Redis)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_running())
    }

    fn is_living(&self, index: usize) -> bool {
        self.nodes.get(index).is_some_and(Redis::is_running)
    }

    fn index_of(&self, id: &str) -> io::Result<usize> {
        self.ids.iter().position(|known| known == id).ok_or_else(|| io::Error::other("a node of nobody's"))
    }

    fn node(&self, index: usize) -> io::Result<&Redis> {
        self.nodes.get(index).ok_or_else(|| io::Error::other(format!("there is no node {index}")))
    }

    fn id(&self, index: usize) -> io::Result<&str> {
        self.ids.get(index).map(String::as_str).ok_or_else(|| io::Error::other(format!("there is no node {index}")))
    }
}

fn is_well(node: &Redis) -> bool {
    node.cli(&["CLUSTER", "INFO"]).is_ok_and(|answer| answer.contains("cluster_state:ok"))
}

/// True also of a master.
fn has_copy(node: &Redis) -> bool {
    node.cli(&["INFO", "replication"]).is_ok_and(|answer| !answer.contains("master_link_status:down"))
}

fn nobody() -> io::Error {
    io::Error::other("no node runs")
}
