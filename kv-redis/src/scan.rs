//! Scanning the keys of every server, where there is no index.

use std::collections::HashSet;
use std::sync::Arc;

use kv_core::{Key, KeyPrefix};
use redis::Value;

use crate::error::Failure;
use crate::layout::SLOTS;
use crate::server::cluster::SlotMap;
use crate::server::node::Node;
use crate::state::State;

/// Passes over a cluster whose slots keep moving before the scan fails.
const MAX_PASSES: usize = 5;

/// Keys that the server looks at in one step.
const KEYS_PER_STEP: usize = 1_000;

/// The types of the values whose keys a scan returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Types {
    /// Strings, which every entry is.
    Strings,
    /// All types: also values of other types under the keys of entries.
    All,
}

/// A scan that returns every key under a prefix on any server, at least once, in no order.
///
/// A server returns only the keys that it has, and `SCAN` never says that a slot has moved away. So the scan makes
/// another pass over a cluster if a slot changed its master during a pass, or was being moved. A key that is moved
/// during one pass stays in place during the other.
pub(crate) struct Scan {
    prefix: KeyPrefix,
    types: Types,
    pattern: String,
    /// The servers still to be scanned in this pass; the current one is the last.
    nodes: Vec<Arc<Node>>,
    cursor: Vec<u8>,
    /// The slot map at the start of this pass.
    map: Option<Arc<SlotMap>>,
    /// Slots of which every pass so far may have missed keys; `None` until the first pass has ended.
    unsure: Option<HashSet<u16>>,
    is_moving: bool,
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
        // Without a refresh the scan would miss a master that is new since the last command.
        state.router.refresh().await?;
        scan.is_moving = is_slot_moving(state).await?;
        scan.begin_pass(state);
        Ok(scan)
    }

    /// The keys of the next step, which may be none; `None` at the end of the scan.
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

    /// True if the passes so far cannot have missed a key that existed all the time.
    async fn is_complete(&mut self, state: &State) -> Result<bool, Failure> {
        let Some(before) = self.map.take() else { return Ok(true) };
        state.router.refresh().await?;
        let changed = state.router.map().map(|after| before.changed(&after)).unwrap_or_default();
        let unsure: HashSet<u16> = match self.unsure.take() {
            // A slot that is still being moved needs no further pass: each of its keys moves during one pass only, and
            // the other pass sees it.
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

/// True if any master has a slot that is being moved. A master whose user may not ask counts as having none.
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
