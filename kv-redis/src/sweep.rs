//! Clearing, and taking out of the indexes what has expired.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv_core::{Capability, Clock, Key, KeyPrefix, ListQuery, Result, SystemClock, Version};
use redis::Value;

use crate::batch::{by_bucket, removed};
use crate::error::{Effect, Failure, read};
use crate::layout::Shape;
use crate::open::{record_anew, recorded};
use crate::request::Request;
use crate::runs::Runs;
use crate::scan::Scan;
use crate::script::Script;
use crate::store::Shared;

/// How many members of an index are looked at at once.
const AT_ONCE: usize = 500;

/// How many turns of the sweeper there are between two steps of its walk through the database.
const BETWEEN_SCANS: u32 = 8;

impl Shared {
    pub(crate) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.info.capabilities.require(Capability::List)?;
        let Some(range) = ListQuery::new(prefix.clone()).range() else { return Ok(0) };
        let mut count = 0;
        if self.layout.shape == Shape::Ordered {
            let mut runs = Runs::new(self.layout.buckets_of(prefix), range, false, AT_ONCE);
            while runs.refill(self).await.map_err(read)? {
                count += self.remove_all(&runs.drain()).await?;
            }
        } else {
            self.check_open()?;
            let mut scan = Scan::begin(self, prefix).await.map_err(read)?;
            while let Some(keys) = scan.next(self).await.map_err(read)? {
                count += self.remove_all(&keys).await?;
            }
        }
        Ok(count)
    }

    async fn remove_all(&self, keys: &[Key]) -> Result<u64> {
        let groups = by_bucket(keys.iter().map(|key| (key, self.layout.place(key))), AT_ONCE);
        let requests: Vec<_> = groups.iter().map(|group| self.remove_request(group, |key| key.as_str())).collect();
        let mut count = 0;
        for (group, answer) in groups.iter().zip(self.call_many(&requests).await) {
            let flags =
                removed(answer, group.members.len()).map_err(|failure| failure.into_error(Effect::Writes(None)))?;
            count += flags.map(u64::from).sum::<u64>();
        }
        Ok(count)
    }

    /// Takes out of every index what is not there any more, and puts in what is there and is missing. The server itself frees
    /// the entries.
    pub(crate) async fn sweep(&self) -> Result<u64> {
        self.check_open()?;
        if self.layout.shape != Shape::Ordered {
            return Ok(0);
        }
        let range = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let mut runs = Runs::new(0..self.layout.buckets().len(), range, false, AT_ONCE);
        let mut count = 0;
        while runs.refill(self).await.map_err(read)? {
            count += self.in_index(&self.scripts.prune, &runs.drain()).await.map_err(read)?;
        }
        let mut scan = Scan::begin(self, &KeyPrefix::ALL).await.map_err(read)?;
        while let Some(keys) = scan.next(self).await.map_err(read)? {
            self.adopt(&keys).await.map_err(read)?;
        }
        Ok(count)
    }

    /// Puts entries into their indexes that are not there: where another program has written to a key of ours, the set that
    /// overwrites it takes it for an entry that is listed already.
    async fn adopt(&self, keys: &[Key]) -> Result<(), Failure> {
        match self.in_index(&self.scripts.adopt, keys).await {
            // It is done when there is room again.
            Err(failure) if failure.code() == Some("OOM") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// One step of a walk through everything in the database.
    async fn adopt_some(&self, scan: &mut Option<Scan>) -> Result<(), Failure> {
        let under_way = match scan {
            Some(scan) => scan,
            None => scan.insert(Scan::begin(self, &KeyPrefix::ALL).await?),
        };
        if let Some(keys) = under_way.next(self).await? {
            return self.adopt(&keys).await;
        }
        *scan = None;
        Ok(())
    }

    /// Runs a script that puts members into indexes or takes them out, and tells how many.
    async fn in_index(&self, script: &Script, keys: &[Key]) -> Result<u64, Failure> {
        let groups = by_bucket(keys.iter().map(|key| (key, self.layout.place(key))), AT_ONCE);
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
        for answer in self.call_many(&requests).await {
            match answer? {
                Value::Int(changed) => count += u64::try_from(changed).unwrap_or(0),
                _ => return Err(Failure::Strange),
            }
        }
        Ok(count)
    }

    /// Records the layout again where somebody has flushed the database, so that it is not laid out otherwise beside us; where it
    /// already is, this handle is of no more use.
    async fn keep_record(&self) -> Result<(), Failure> {
        self.check_open().map_err(|_| Failure::Closed)?;
        if let Some(found) = recorded(&self.link, &self.layout).await? {
            let is_other = found != self.layout.record().as_bytes();
            self.is_displaced.store(is_other, Ordering::Release);
            return if is_other { Err(Failure::Displaced) } else { Ok(()) };
        }
        match record_anew(&self.link, &self.layout).await {
            // There is room for nothing, and so for no other layout.
            Err(failure) if failure.code() == Some("OOM") => Ok(()),
            answer => answer,
        }
    }

    /// Whether this handle is the one that sweeps: of all handles on a namespace one does.
    async fn holds_lease(&self, handle: &Version, lease: Duration) -> Result<bool, Failure> {
        let (key, slot) = self.layout.own("sweeper");
        let name = handle.to_string();
        let millis = lease.as_millis().to_string();
        let mut get = redis::cmd("GET");
        get.arg(&key);
        match self.call(&Request::new(slot, get)).await? {
            Value::Nil => {
                let mut take = redis::cmd("SET");
                take.arg(&key).arg(&name).arg("NX").arg("PX").arg(&millis);
                match self.call(&Request::new(slot, take)).await {
                    // A server whose memory is used up has no room for a lease, and needs a sweeper most: everybody is one.
                    Err(failure) if failure.code() == Some("OOM") => Ok(true),
                    answer => Ok(answer? != Value::Nil),
                }
            }
            holder if holder == Value::BulkString(name.into_bytes()) => {
                // Two that sweep for a moment do no harm.
                let mut renew = redis::cmd("PEXPIRE");
                renew.arg(&key).arg(&millis);
                self.call(&Request::new(slot, renew)).await.map(|_| true)
            }
            _ => Ok(false),
        }
    }
}

/// Walks through the indexes in small steps, round and round, until the store is dropped. Where a step finds something to take
/// out the next follows at once.
pub(crate) async fn keep_sweeping(shared: Weak<Shared>, interval: Duration) {
    let handle = Version::random();
    let lease = (interval * 20).max(Duration::from_secs(3));
    let whole = || (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let (mut bucket, mut runs, mut seen) = (0, None, 0_usize);
    let (mut scan, mut turn) = (None, 0_u32);
    loop {
        let step = async {
            let store = shared.upgrade()?;
            if !store.holds_lease(&handle, lease).await.unwrap_or(false) {
                let _ = store.keep_record().await;
                return Some(lease / 2);
            }
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(BETWEEN_SCANS) && store.adopt_some(&mut scan).await.is_err() {
                scan = None;
            }
            // A lease is worth many steps.
            for _ in 0..16 {
                let run = runs.get_or_insert_with(|| Runs::new(bucket..bucket + 1, whole(), false, AT_ONCE));
                let Ok(has_some) = run.refill(&store).await else { return Some(lease / 2) };
                let keys = run.drain();
                seen += keys.len();
                if !has_some {
                    (bucket, runs) = (bucket + 1, None);
                    if bucket < store.layout.buckets().len() {
                        continue;
                    }
                    bucket = 0;
                    if store.keep_record().await.is_err() {
                        return Some(lease / 2);
                    }
                    let is_small = std::mem::take(&mut seen) < AT_ONCE;
                    return Some(if is_small { interval * 10 } else { interval });
                }
                let Ok(pruned) = store.in_index(&store.scripts.prune, &keys).await else { return Some(lease / 2) };
                if pruned * 10 < keys.len() as u64 {
                    return Some(interval);
                }
            }
            Some(Duration::ZERO)
        };
        match step.await {
            Some(rest) => SystemClock.sleep(rest).await,
            None => return,
        }
    }
}
