//! Scanning the keys of every server.

use std::collections::HashSet;
use std::sync::Arc;

use kv_core::{Key, KeyPrefix};
use redis::Value;

use crate::error::Failure;
use crate::layout::SLOTS;
use crate::server::cluster::SlotMap;
use crate::server::node::Node;
use crate::state::State;

/// The maximum number of passes over a cluster. If slots still moved in the last pass, the scan fails.
const MAX_PASSES: usize = 5;

/// The number of keys that the server examines in one step (`COUNT`).
const KEYS_PER_STEP: usize = 1_000;

/// The types of the values whose keys a scan returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Types {
    /// Strings only. Every entry is a string.
    Strings,
    /// All types, so that values of other types under the keys of entries are found.
    All,
}

/// A scan of all servers for the keys under a prefix. The scan returns each key at least once, in no order.
///
/// A server returns only its own keys, and `SCAN` does not report that a slot has moved to another server. Therefore
/// the scan makes another pass over a cluster if a slot got another master or was being moved during a pass. A key
/// moves during one pass at most, so the other pass finds the key.
pub(crate) struct Scan {
    prefix: KeyPrefix,
    types: Types,
    pattern: String,
    /// The servers that are still to be scanned in this pass. The last server in the list is scanned now.
    nodes: Vec<Arc<Node>>,
    cursor: Vec<u8>,
    /// The slot map at the start of this pass.
    map: Option<Arc<SlotMap>>,
    /// The slots whose keys may have been missed by every pass so far; `None` until the first pass has ended.
    unsure: Option<HashSet<u16>>,
    /// True if a slot was being moved when the scan began.
    is_moving: bool,
    /// The number of passes that have begun.
    passes: usize,
}

impl Scan {
    pub(crate) async fn begin(state: &State, prefix: &KeyPrefix, types: Types) -> Result<Self, Failure> {
        let mut scan = Self {
            prefix: prefix.clone(),
            types,
            pattern: state.layout.pattern(prefix),
            nodes: Vec::new(),
            cursor: b"0".to_vec(),
            map: None,
            unsure: None,
            is_moving: false,
            passes: 0,
        };
        // A master may be new since the last command. Without a refresh the scan would miss its keys.
        state.router.refresh().await?;
        scan.is_moving = is_slot_moving(state).await?;
        scan.begin_pass(state);
        Ok(scan)
    }

    /// Returns the keys of the next step, which may be empty; `None` at the end of the scan.
    pub(crate) async fn next(&mut self, state: &State) -> Result<Option<Vec<Key>>, Failure> {
        loop {
            let Some(node) = self.nodes.last() else {
                if self.is_complete(state).await? {
                    return Ok(None);
                }
                self.begin_pass(state);
                continue;
            };
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(&self.cursor).arg("MATCH").arg(&self.pattern);
            cmd.arg("COUNT").arg(KEYS_PER_STEP);
            if self.types == Types::Strings {
                cmd.arg("TYPE").arg("string");
            }
            let reply = state.router.call_node(node, &cmd).await?;
            let (next, found): (Vec<u8>, Vec<Vec<u8>>) =
                redis::from_redis_value(reply).map_err(|_| Failure::UnexpectedReply)?;
            if next == b"0" {
                self.nodes.pop();
            }
            self.cursor = next;
            let keys = found.iter().filter_map(|physical| state.layout.key_at(physical));
            return Ok(Some(keys.filter(|key| self.prefix.covers(key)).collect()));
        }
    }

    fn begin_pass(&mut self, state: &State) {
        self.map = state.router.map();
        self.nodes = state.router.masters();
        self.passes += 1;
    }

    /// True if the passes so far have found every key that existed during the whole scan. Otherwise another pass must
    /// follow.
    async fn is_complete(&mut self, state: &State) -> Result<bool, Failure> {
        let Some(before) = self.map.take() else { return Ok(true) };
        state.router.refresh().await?;
        let changed = state.router.map().map(|after| before.changed(&after)).unwrap_or_default();
        let unsure: HashSet<u16> = match self.unsure.take() {
            // A slot that is still being moved needs no third pass: each of its keys moves during one of the two passes
            // only, and the other pass finds the key.
            Some(unsure) => unsure.intersection(&changed).copied().collect(),
            None if self.is_moving || is_slot_moving(state).await? => (0..SLOTS).collect(),
            None => changed,
        };
        if unsure.is_empty() {
            return Ok(true);
        }
        if self.passes == MAX_PASSES {
            return Err(Failure::SlotsMoving);
        }
        self.unsure = Some(unsure);
        Ok(false)
    }
}

/// True if any master has a slot that is being moved. A master that refuses `CLUSTER NODES` counts as a master without
/// such a slot.
async fn is_slot_moving(state: &State) -> Result<bool, Failure> {
    if !state.router.is_cluster() {
        return Ok(false);
    }
    for node in state.router.masters() {
        let text = match state.router.call_node(&node, redis::cmd("CLUSTER").arg("NODES")).await {
            Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Ok(Value::VerbatimString { text, .. }) => text,
            Ok(_) => return Err(Failure::UnexpectedReply),
            Err(Failure::Refused(_)) => continue,
            Err(failure) => return Err(failure),
        };
        // A server reports only its own moving slots, as `[SLOT->-NODE]` or `[SLOT-<-NODE]`.
        if text.lines().any(|line| line.contains("myself") && line.contains('[')) {
            return Ok(true);
        }
    }
    Ok(false)
}
