//! Clearing, and taking out of the indexes what has expired.

use std::sync::Weak;
use std::time::Duration;

use kv_core::{Capability, Clock, Key, KeyPrefix, ListQuery, Result, SystemClock, Version};
use redis::Value;

use crate::batch::{by_bucket, removed};
use crate::error::{Effect, Failure, read};
use crate::layout::Shape;
use crate::request::Request;
use crate::runs::Runs;
use crate::store::Shared;

/// How many members of an index are looked at at once.
const AT_ONCE: usize = 500;

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
            let mut found = Vec::new();
            self.scan(prefix, |keys| found.extend(keys)).await?;
            for keys in found.chunks(AT_ONCE * 8) {
                count += self.remove_all(keys).await?;
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

    /// Takes out of every index what is not there any more. The server itself frees the entries.
    pub(crate) async fn sweep(&self) -> Result<u64> {
        self.check_open()?;
        if self.layout.shape != Shape::Ordered {
            return Ok(0);
        }
        let range = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let mut runs = Runs::new(0..self.layout.buckets().len(), range, false, AT_ONCE);
        let mut count = 0;
        while runs.refill(self).await.map_err(read)? {
            count += self.prune(&runs.drain()).await.map_err(read)?;
        }
        Ok(count)
    }

    async fn prune(&self, keys: &[Key]) -> Result<u64, Failure> {
        let groups = by_bucket(keys.iter().map(|key| (key, self.layout.place(key))), AT_ONCE);
        let requests: Vec<_> = groups
            .iter()
            .map(|group| {
                let mut cmd = self.scripts.prune.call(self.group_keys(group));
                group.members.iter().for_each(|(key, _)| {
                    cmd.arg(key.as_str());
                });
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut count = 0;
        for answer in self.call_many(&requests).await {
            match answer? {
                Value::Int(pruned) => count += u64::try_from(pruned).unwrap_or(0),
                _ => return Err(Failure::Strange),
            }
        }
        Ok(count)
    }

    /// Records the layout again where somebody has flushed the database, so that it is not laid out otherwise beside us.
    async fn keep_record(&self) -> Result<(), Failure> {
        let (key, slot) = self.layout.own("layout");
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(self.layout.record()).arg("NX");
        self.call(&Request::new(slot, set)).await.map(drop)
    }

    /// Whether this handle is the one that sweeps: of all handles on a namespace one does.
    async fn holds_lease(&self, handle: &Version, lease: Duration) -> Result<bool, Failure> {
        let (key, slot) = self.layout.own("sweeper");
        let name = handle.to_string();
        let millis = lease.as_millis().to_string();
        let mut take = redis::cmd("SET");
        take.arg(&key).arg(&name).arg("NX").arg("PX").arg(&millis);
        if self.call(&Request::new(slot, take)).await? != Value::Nil {
            return Ok(true);
        }
        let mut get = redis::cmd("GET");
        get.arg(&key);
        if self.call(&Request::new(slot, get)).await? != Value::BulkString(name.clone().into_bytes()) {
            return Ok(false);
        }
        // Two that sweep for a moment do no harm.
        let mut renew = redis::cmd("PEXPIRE");
        renew.arg(&key).arg(&millis);
        self.call(&Request::new(slot, renew)).await.map(|_| true)
    }
}

/// Walks through the indexes in small steps, round and round, until the store is dropped. Where a step finds something to take
/// out the next follows at once.
pub(crate) async fn keep_sweeping(shared: Weak<Shared>, interval: Duration) {
    let handle = Version::random();
    let lease = (interval * 20).max(Duration::from_secs(3));
    let whole = || (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let (mut bucket, mut runs, mut seen) = (0, None, 0_usize);
    loop {
        let step = async {
            let store = shared.upgrade()?;
            if !store.holds_lease(&handle, lease).await.unwrap_or(false) {
                return Some(lease / 2);
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
                let Ok(pruned) = store.prune(&keys).await else { return Some(lease / 2) };
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
