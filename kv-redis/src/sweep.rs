//! Sweeping, and the background sweeper.
//!
//! The server itself frees expired entries. A sweep removes their members from the indexes, and adds entries to the
//! indexes that are missing there.

use std::ops::Bound;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv_core::{Clock, Key, KeyPrefix, Result, SystemClock, Version};
use redis::Value;

use crate::bucket_group::group_by_bucket;
use crate::error::{Failure, read_error};
use crate::index_reader::IndexReader;
use crate::layout::Shape;
use crate::layout_record;
use crate::scan::{Scan, Types};
use crate::script::Script;
use crate::server::info;
use crate::server::router::Request;
use crate::state::State;

/// Members of an index that one step checks.
const MEMBERS_PER_STEP: usize = 500;

/// Turns of the sweeper for each step of its scan of the database.
const TURNS_PER_SCAN_STEP: u32 = 8;

impl State {
    pub(crate) async fn sweep(&self) -> Result<u64> {
        self.check_open()?;
        if self.layout.shape != Shape::Indexed {
            return Ok(0);
        }
        let mark = self.index_trust.begin_sweep();
        let range = (Bound::Unbounded, Bound::Unbounded);
        let mut reader = IndexReader::new(0..self.layout.buckets().len(), range, false, MEMBERS_PER_STEP);
        let mut count = 0;
        while reader.fill(self).await.map_err(read_error)? {
            count += self.run_on_index(&self.scripts.index_prune, &reader.drain()).await.map_err(read_error)?;
        }
        let (mut scan, mut is_whole) =
            (Scan::begin(self, &KeyPrefix::ALL, Types::Strings).await.map_err(read_error)?, true);
        while let Some(keys) = scan.next(self).await.map_err(read_error)? {
            is_whole &= self.add_to_indexes(&keys).await.map_err(read_error)?;
        }
        if is_whole {
            self.index_trust.end_sweep(mark);
        }
        Ok(count)
    }

    /// Adds entries that are missing in their index. That happens if another program has written a foreign value under
    /// a key of ours: a set that overwrites the value assumes that the key is in the index. Or the server has evicted
    /// the index. Returns false if the server's memory is full: a later sweep adds them.
    async fn add_to_indexes(&self, keys: &[Key]) -> Result<bool, Failure> {
        match self.run_on_index(&self.scripts.index_add, keys).await {
            Err(failure) if failure.code() == Some("OOM") => Ok(false),
            reply => reply.map(|_| true),
        }
    }

    /// One step of a scan that adds missing members; `scan` is empty before the first step and after the last. Returns
    /// false if the server's memory is full.
    async fn scan_step(&self, scan: &mut Option<Scan>) -> Result<bool, Failure> {
        let current = match scan {
            Some(scan) => scan,
            None => scan.insert(Scan::begin(self, &KeyPrefix::ALL, Types::Strings).await?),
        };
        if let Some(keys) = current.next(self).await? {
            return self.add_to_indexes(&keys).await;
        }
        *scan = None;
        Ok(true)
    }

    /// Runs a script that changes indexes on the keys' entries. Returns the number of changed members.
    async fn run_on_index(&self, script: &Script, keys: &[Key]) -> Result<u64, Failure> {
        let groups = group_by_bucket(keys.iter().map(|key| (key, self.layout.place(key))), MEMBERS_PER_STEP);
        let requests: Vec<_> = groups
            .iter()
            .map(|group| {
                let mut cmd = script.call(self.group_keys(group));
                group.members.iter().for_each(|(key, _)| {
                    cmd.arg(key.as_str());
                });
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut count = 0;
        for reply in self.call_many(&requests).await {
            match reply? {
                Value::Int(changed) => count += u64::try_from(changed).unwrap_or(0),
                _ => return Err(Failure::UnexpectedReply),
            }
        }
        Ok(count)
    }

    /// Writes the record of the layout again if the database was flushed, so that nobody creates the namespace with
    /// another layout meanwhile. If somebody already did, marks this handle as unusable.
    async fn keep_layout_record(&self) -> Result<(), Failure> {
        self.check_open().map_err(|_| Failure::Closed)?;
        if let Some(found) = layout_record::read(&self.router, &self.layout).await? {
            let is_changed = found != self.layout.record().as_bytes();
            self.is_layout_changed.store(is_changed, Ordering::Release);
            return if is_changed { Err(Failure::LayoutChanged) } else { Ok(()) };
        }
        match layout_record::write(&self.router, &self.layout).await {
            // The server's memory is full, so nobody can record another layout either.
            Err(failure) if failure.code() == Some("OOM") => Ok(()),
            reply => reply,
        }
    }

    /// Takes or renews the sweeper's lease, which one handle of the namespace holds. Returns true if this handle has
    /// it.
    async fn hold_lease(&self, handle: &Version, lease: Duration) -> Result<bool, Failure> {
        let (key, slot) = self.layout.own_key("sweeper");
        let name = handle.to_string();
        let millis = lease.as_millis().to_string();
        let mut get = redis::cmd("GET");
        get.arg(&key);
        match self.call(&Request::new(slot, get)).await? {
            Value::Nil => {
                let mut take = redis::cmd("SET");
                take.arg(&key).arg(&name).arg("NX").arg("PX").arg(&millis);
                match self.call(&Request::new(slot, take)).await {
                    // A server whose memory is full has no room for the lease, and needs the sweep most: every handle
                    // sweeps.
                    Err(failure) if failure.code() == Some("OOM") => Ok(true),
                    reply => Ok(reply? != Value::Nil),
                }
            }
            holder if holder == Value::BulkString(name.into_bytes()) => {
                // The lease may have expired between the two commands, and another handle may hold it. Two sweepers for
                // a moment do no harm.
                let mut renew = redis::cmd("PEXPIRE");
                renew.arg(&key).arg(&millis);
                self.call(&Request::new(slot, renew)).await.map(|_| true)
            }
            _ => Ok(false),
        }
    }
}

/// The background sweeper: walks through the indexes in small steps, again and again, until the store is dropped. After
/// a step that found much to remove, the next one follows at once.
pub(crate) async fn keep_sweeping(state: Weak<State>, interval: Duration) {
    let handle = Version::random();
    let lease = (interval * 20).max(Duration::from_secs(3));
    let everything = || (Bound::Unbounded, Bound::Unbounded);
    let (mut bucket, mut reader, mut seen) = (0, None, 0_usize);
    let (mut scan, mut turn) = (None, 0_u32);
    loop {
        let step = async {
            let state = state.upgrade()?;
            if !state.hold_lease(&handle, lease).await.unwrap_or(false) {
                let _ = state.keep_layout_record().await;
                return Some(lease / 2);
            }
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(TURNS_PER_SCAN_STEP) && state.scan_step(&mut scan).await.is_err() {
                scan = None;
            }
            // One renewal of the lease covers several steps.
            for _ in 0..16 {
                let run = reader
                    .get_or_insert_with(|| IndexReader::new(bucket..bucket + 1, everything(), false, MEMBERS_PER_STEP));
                let Ok(has_keys) = run.fill(&state).await else { return Some(lease / 2) };
                let keys = run.drain();
                seen += keys.len();
                if !has_keys {
                    (bucket, reader) = (bucket + 1, None);
                    if bucket < state.layout.buckets().len() {
                        continue;
                    }
                    bucket = 0;
                    if state.keep_layout_record().await.is_err() {
                        return Some(lease / 2);
                    }
                    let is_small = std::mem::take(&mut seen) < MEMBERS_PER_STEP;
                    return Some(if is_small { interval * 10 } else { interval });
                }
                let Ok(pruned) = state.run_on_index(&state.scripts.index_prune, &keys).await else {
                    return Some(lease / 2);
                };
                if pruned * 10 < keys.len() as u64 {
                    return Some(interval);
                }
            }
            Some(Duration::ZERO)
        };
        match step.await {
            Some(pause) => SystemClock.sleep(pause).await,
            None => return,
        }
    }
}

/// Reads the eviction policy of the servers at every heartbeat, because an administrator may change it. Once it can no
/// longer evict indexes, a sweep adds the members that were lost meanwhile.
pub(crate) async fn keep_reading_policy(weak: Weak<State>, heartbeat: Duration) {
    loop {
        SystemClock.sleep(heartbeat).await;
        let Some(state) = weak.upgrade() else { return };
        if let Ok(policy) = info::read_policy(&state.router).await {
            state.index_trust.observe(policy);
        }
        let mark = state.index_trust.begin_sweep();
        let mut scan = None;
        let mut next = Some(state);
        // In steps, because a step keeps the store from being dropped. A failed scan is repeated at the next heartbeat.
        while let Some(state) = next.take().or_else(|| weak.upgrade()) {
            if !state.index_trust.wants_sweep() || !state.scan_step(&mut scan).await.unwrap_or(false) {
                break;
            }
            if scan.is_none() {
                state.index_trust.end_sweep(mark);
            }
        }
    }
}
