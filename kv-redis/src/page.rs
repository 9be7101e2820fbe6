//! Reads the entries of listed keys, as many as fit in a page.

use kv_core::{Entry, Key, Result};
use redis::Value;

use crate::bucket_group::group_by_bucket;
use crate::error::{Failure, read_error};
use crate::server::router::Request;
use crate::state::State;

/// The maximum number of keys in one command. The number is bounded, because the server runs no other command during
/// this command.
const KEYS_PER_COMMAND: usize = 1_000;

/// The smallest share of a page, in bytes of values, that each of several groups may read. If fewer bytes are left in
/// the page, the share is the number of bytes that are left.
const MIN_SHARE: usize = 16 << 10;

/// The maximum number of bytes of values that one script reads, in addition to the last value. The bounds on replies
/// allow for this number.
const MAX_SHARE: usize = 8 << 20;

impl State {
    /// Returns for each key true if it has a live entry.
    pub(crate) async fn are_live(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let groups = group_by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), KEYS_PER_COMMAND);
        let exists = |places: &mut dyn Iterator<Item = &Vec<u8>>| {
            let mut cmd = redis::cmd("EXISTS");
            places.for_each(|physical| {
                cmd.arg(physical);
            });
            cmd
        };
        let requests: Vec<_> = groups
            .iter()
            .map(|group| Request::new(group.slot, exists(&mut group.members.iter().map(|(_, place)| &place.physical))))
            .collect();
        let mut live = vec![true; keys.len()];
        let mut unresolved = Vec::new();
        for (group, reply) in groups.into_iter().zip(self.call_many(&requests).await) {
            // The usual case: if the count is the number of keys, all entries of the group exist.
            match reply.map_err(read_error)? {
                Value::Int(count) if usize::try_from(count) == Ok(group.members.len()) => {}
                Value::Int(_) => unresolved.extend(group.members),
                _ => return Err(read_error(Failure::UnexpectedReply)),
            }
        }
        let requests: Vec<_> = unresolved
            .iter()
            .map(|(_, place)| Request::new(place.slot, exists(&mut std::iter::once(&place.physical))))
            .collect();
        for ((index, _), reply) in unresolved.iter().zip(self.call_many(&requests).await) {
            if let Some(is_live) = live.get_mut(*index) {
                *is_live = reply.map_err(read_error)? == Value::Int(1);
            }
        }
        Ok(live)
    }

    /// Reads the entries of keys, in order, until about `max_bytes` bytes of values are read. Reads at least one entry.
    /// A key without an entry gives `None`; a damaged entry or a value of another type gives a `Corrupt` error.
    pub(crate) async fn page_entries(&self, keys: &[Key], max_bytes: usize) -> Result<Vec<Result<Option<Entry>>>> {
        let (mut entries, mut bytes_left, mut wanted) = (Vec::with_capacity(keys.len()), max_bytes, keys.len());
        loop {
            let rest = keys.get(entries.len()..).unwrap_or_default();
            if rest.is_empty() || bytes_left == 0 {
                return Ok(entries);
            }
            let read = self.read_entries(rest.get(..wanted).unwrap_or(rest), bytes_left).await?;
            if read.is_empty() {
                return Err(read_error(Failure::UnexpectedReply));
            }
            let used: usize = read.iter().flatten().flatten().map(|entry| entry.value.len()).sum();
            bytes_left = bytes_left.saturating_sub(used);
            // The next read asks for as many entries as fit, if their average length equals the average length in this
            // read. Then there are at most `wanted` groups, so the share of each group holds two entries of this
            // length.
            wanted = (bytes_left / (used / read.len()).max(1)).max(1);
            entries.extend(read);
        }
    }

    /// Reads entries with one script for each group. Each script stops when its share of `max_bytes` is used up, so the
    /// number of bytes is bounded, however long the values are. Returns the entries up to the first key that no script
    /// has read. The first key is always read, even if its value is longer than the share.
    async fn read_entries(&self, keys: &[Key], max_bytes: usize) -> Result<Vec<Result<Option<Entry>>>> {
        let groups = group_by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), KEYS_PER_COMMAND);
        let share = match groups.len() {
            0 | 1 => max_bytes,
            many => (max_bytes.saturating_mul(2) / many).max(MIN_SHARE.min(max_bytes)),
        };
        let requests: Vec<_> = groups
            .iter()
            .enumerate()
            .map(|(index, group)| {
                let keys: Vec<&[u8]> = group.members.iter().map(|(_, place)| place.physical.as_slice()).collect();
                let mut cmd = self.scripts.page.call(keys);
                cmd.arg(share.min(MAX_SHARE)).arg(i32::from(index == 0));
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut replies: Vec<Option<Value>> = vec![None; keys.len()];
        for (group, reply) in groups.iter().zip(self.call_many(&requests).await) {
            let Value::Array(values) = reply.map_err(read_error)? else {
                return Err(read_error(Failure::UnexpectedReply));
            };
            for ((index, _), value) in group.members.iter().zip(values) {
                if let Some(reply) = replies.get_mut(*index) {
                    *reply = Some(value);
                }
            }
        }
        let read = replies.into_iter().map_while(|reply| reply);
        Ok(read.zip(keys).map(|(value, key)| self.format.decode(key, value)).collect())
    }
}
