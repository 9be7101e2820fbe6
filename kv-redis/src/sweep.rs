//! Sweeping expired entries.
//!
//! The server itself frees expired entries. A sweep removes the keys of these entries from the indexes, and adds keys
//! of live entries that are missing in the indexes.

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
use crate::server::router::Request;
use crate::state::State;

/// The maximum number of index members that one step checks.
const MEMBERS_PER_STEP: usize = 500;

/// The number of rounds of the sweeper for each step of its scan of the database.
const ROUNDS_PER_SCAN_STEP: u32 = 8;

/// The maximum number of steps in one round of the sweeper.
const STEPS_PER_ROUND: u32 = 16;

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
        let (mut scan, mut has_added_all) =
            (Scan::begin(self, &KeyPrefix::ALL, Types::Strings).await.map_err(read_error)?, true);
        while let Some(keys) = scan.next(self).await.map_err(read_error)? {
            has_added_all &= self.add_to_indexes(&keys).await.map_err(read_error)?;
        }
        if has_added_all {
            self.index_trust.end_sweep(mark);
        }
        Ok(count)
    }

    /// Adds the keys of existing entries that are missing in their index. Returns false if the server's memory is full.
    /// In this case, a later sweep adds the keys.
    ///
    /// A key may be missing because the server has evicted the index. Or another program has written a foreign value
    /// under the key, and a set has overwritten the value: such a set assumes that an existing key is in the index.
    async fn add_to_indexes(&self, keys: &[Key]) -> Result<bool, Failure> {
        match self.run_on_index(&self.scripts.index_add, keys).await {
            Err(failure) if failure.code() == Some("OOM") => Ok(false),
            reply => reply.map(|_| true),
        }
    }

    /// Makes one step of a scan that adds missing members. `scan` is `None` before the first step and after the last
    /// step. Returns false if the server's memory is full.
    pub(crate) async fn scan_step(&self, scan: &mut Option<Scan>) -> Result<bool, Failure> {
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

    /// Runs a script that compares the indexes with the entries of these keys, and changes the indexes. Returns the
    /// number of members that were added or removed.
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

    /// Checks the record of the layout. If the record is missing after a `FLUSHALL`, writes it again, so
    /// that no other handle creates the namespace with another layout. If another layout was recorded, the store fails
    /// its calls with `LayoutChanged`.
    async fn ensure_layout_record(&self) -> Result<(), Failure> {
        self.check_open().map_err(|_| Failure::Closed)?;
        if let Some(found) = layout_record::read(&self.router, &self.layout).await? {
            let is_changed = found != self.layout.record().as_bytes();
            self.is_layout_changed.store(is_changed, Ordering::Release);
            return if is_changed { Err(Failure::LayoutChanged) } else { Ok(()) };
        }
        match layout_record::write(&self.router, &self.layout).await {
            // The server's memory is full, so no other handle can record another layout either.
            Err(failure) if failure.code() == Some("OOM") => Ok(()),
            reply => reply,
        }
    }

    /// Takes or renews the lease of the sweeper, which only one handle of the namespace holds. Returns true if the
    /// handle with this id holds the lease.
    async fn hold_lease(&self, handle_id: &Version, lease: Duration) -> Result<bool, Failure> {
        let (key, slot) = self.layout.own_key("sweeper");
        let holder_id = handle_id.to_string();
        let millis = lease.as_millis().to_string();
        let mut get = redis::cmd("GET");
        get.arg(&key);
        match self.call(&Request::new(slot, get)).await? {
            Value::Nil => {
                let mut take = redis::cmd("SET");
                take.arg(&key).arg(&holder_id).arg("NX").arg("PX").arg(&millis);
                match self.call(&Request::new(slot, take)).await {
                    // The server's memory is full, so no handle can take the lease. In this case every handle sweeps,
                    // because a sweep frees memory.
                    Err(failure) if failure.code() == Some("OOM") => Ok(true),
                    reply => Ok(reply? != Value::Nil),
                }
            }
            holder if holder == Value::BulkString(holder_id.into_bytes()) => {
                // The lease may expire before this command, and another handle may take it. In this case, this command
                // renews the lease of the other handle, and both handles sweep for a moment. This does no harm.
                let mut renew = redis::cmd("PEXPIRE");
                renew.arg(&key).arg(&millis);
                self.call(&Request::new(slot, renew)).await.map(|_| true)
            }
            _ => Ok(false),
        }
    }
}

/// Sweeps the indexes in small steps, again and again, until the store is dropped. After a step that removed at least a
/// tenth of its members, the next step follows at once.
pub(crate) async fn run_sweeper(state: Weak<State>, interval: Duration) {
    let handle_id = Version::random();
    let lease = (interval * 20).max(Duration::from_secs(3));
    let whole_index = || (Bound::Unbounded, Bound::Unbounded);
    let (mut bucket, mut reader, mut members_read) = (0, None, 0_usize);
    let (mut scan, mut turn) = (None, 0_u32);
    loop {
        let step = async {
            let state = state.upgrade()?;
            if !state.hold_lease(&handle_id, lease).await.unwrap_or(false) {
                let _ = state.ensure_layout_record().await;
                return Some(lease / 2);
            }
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(ROUNDS_PER_SCAN_STEP) && state.scan_step(&mut scan).await.is_err() {
                scan = None;
            }
            // The lease is renewed only once in several steps, to save commands.
            for _ in 0..STEPS_PER_ROUND {
                let reader_of_bucket = reader.get_or_insert_with(|| {
                    IndexReader::new(bucket..bucket + 1, whole_index(), false, MEMBERS_PER_STEP)
                });
                let Ok(has_keys) = reader_of_bucket.fill(&state).await else { return Some(lease / 2) };
                let keys = reader_of_bucket.drain();
                members_read += keys.len();
                if !has_keys {
                    (bucket, reader) = (bucket + 1, None);
                    if bucket < state.layout.buckets().len() {
                        continue;
                    }
                    bucket = 0;
                    if state.ensure_layout_record().await.is_err() {
                        return Some(lease / 2);
                    }
                    let is_small = std::mem::take(&mut members_read) < MEMBERS_PER_STEP;
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
