//! Walking through the keys of every server, where there is no index.

use std::collections::HashSet;
use std::sync::Arc;

use kv_core::{Key, KeyPrefix};
use redis::Value;

use crate::cluster::Map;
use crate::error::Failure;
use crate::layout::SLOTS;
use crate::node::Node;
use crate::store::Shared;

/// How often a cluster whose slots move is walked through before that is given up.
const PASSES: usize = 5;

/// How many keys the server looks at in one step.
const AT_ONCE: usize = 1_000;

/// Shows every key under a prefix that any server has, at least once, in no order.
///
/// A server tells only of keys that it has, and `SCAN` never says that a slot has gone elsewhere. So a cluster is walked through
/// again where a slot has changed its master meanwhile, or was on its way: a key that is moved while one pass is under way is
/// in its place in the other.
pub(crate) struct Scan {
    prefix: KeyPrefix,
    pattern: String,
    /// The servers that are still to be walked through, the one under way at the end.
    nodes: Vec<Arc<Node>>,
    cursor: Vec<u8>,
    /// Who had which slot when this pass began.
    map: Option<Arc<Map>>,
    /// Slots of which every pass so far may have missed keys; unknown before the first has ended.
    unsure: Option<HashSet<u16>>,
    is_moving: bool,
    passes: usize,
}

impl Scan {
    pub(crate) async fn begin(shared: &Shared, prefix: &KeyPrefix) -> Result<Self, Failure> {
        let mut scan = Self {
            prefix: prefix.clone(),
            pattern: shared.layout.pattern(prefix),
            nodes: Vec::new(),
            cursor: b"0".to_vec(),
            map: None,
            unsure: None,
            is_moving: false,
            passes: 0,
        };
        // A master that has come since the last command would not be asked.
        shared.link.refresh().await?;
        scan.is_moving = is_moving(shared).await?;
        scan.begin_pass(shared);
        Ok(scan)
    }

    /// The keys of one more step, which may be none; nothing where all have been shown.
    pub(crate) async fn next(&mut self, shared: &Shared) -> Result<Option<Vec<Key>>, Failure> {
        loop {
            let Some(node) = self.nodes.last() else {
                if self.is_whole(shared).await? {
                    return Ok(None);
                }
                self.begin_pass(shared);
                continue;
            };
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(&self.cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(AT_ONCE).arg("TYPE").arg("string");
            let answer = shared.link.call_node(node, &cmd).await?;
            let (next, found): (Vec<u8>, Vec<Vec<u8>>) =
                redis::from_redis_value(answer).map_err(|_| Failure::Strange)?;
            if next == b"0" {
                self.nodes.pop();
            }
            self.cursor = next;
            let keys = found.iter().filter_map(|physical| shared.layout.key_at(physical));
            return Ok(Some(keys.filter(|key| self.prefix.covers(key)).collect()));
        }
    }

    fn begin_pass(&mut self, shared: &Shared) {
        self.map = shared.link.map();
        self.nodes = shared.link.masters();
        self.passes += 1;
    }

    /// Whether nothing that was there all the time can have been missed.
    async fn is_whole(&mut self, shared: &Shared) -> Result<bool, Failure> {
        let Some(before) = self.map.take() else { return Ok(true) };
        shared.link.refresh().await?;
        let changed = shared.link.map().map(|after| before.changed(&after)).unwrap_or_default();
        let unsure: HashSet<u16> = match self.unsure.take() {
            // A move that goes on is no matter of the passes behind: a key is moved in one of them only.
            Some(unsure) => unsure.intersection(&changed).copied().collect(),
            None if self.is_moving || is_moving(shared).await? => (0..SLOTS).collect(),
            None => changed,
        };
        if unsure.is_empty() {
            return Ok(true);
        }
        if self.passes == PASSES {
            return Err(Failure::Moving);
        }
        self.unsure = Some(unsure);
        Ok(false)
    }
}

/// Whether any master has a slot that is on its way. Without the right to ask, none is taken to be.
async fn is_moving(shared: &Shared) -> Result<bool, Failure> {
    if !shared.link.is_cluster() {
        return Ok(false);
    }
    for node in shared.link.masters() {
        let text = match shared.link.call_node(&node, redis::cmd("CLUSTER").arg("NODES")).await {
            Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Ok(Value::VerbatimString { text, .. }) => text,
            Ok(_) => return Err(Failure::Strange),
            Err(Failure::Refused(_)) => continue,
            Err(failure) => return Err(failure),
        };
        // A server tells of its own only, as `[SLOT->-NODE]` or `[SLOT-<-NODE]`.
        if text.lines().any(|line| line.contains("myself") && line.contains('[')) {
            return Ok(true);
        }
    }
    Ok(false)
}
