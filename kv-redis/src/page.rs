//! The entries of listed keys, as many as fit in a page.

use kv_core::{Entry, Key, Result};
use redis::Value;

use crate::bucket_group::group_by_bucket;
use crate::error::{Failure, read_error};
use crate::server::router::Request;
use crate::state::State;

/// Keys that one command looks at. The server runs no other command meanwhile.
const KEYS_AT_ONCE: usize = 1_000;

/// Bytes of values that each of several groups may read at least, within the room of the page.
const MIN_SHARE: usize = 16 << 10;

impl State {
    /// For each key, true if it has a live entry.
    pub(crate) async fn are_live(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let groups = group_by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), KEYS_AT_ONCE);
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
        let mut unsure = Vec::new();
        for (group, reply) in groups.into_iter().zip(self.call_many(&requests).await) {
            // Usually all entries of a group exist, and the count alone shows it.
            match reply.map_err(read_error)? {
                Value::Int(count) if usize::try_from(count) == Ok(group.members.len()) => {}
                Value::Int(_) => unsure.extend(group.members),
                _ => return Err(read_error(Failure::UnexpectedReply)),
            }
        }
        let requests: Vec<_> = unsure
            .iter()
            .map(|(_, place)| Request::new(place.slot, exists(&mut std::iter::once(&place.physical))))
            .collect();
        for ((number, _), reply) in unsure.iter().zip(self.call_many(&requests).await) {
            if let Some(is_live) = live.get_mut(*number) {
                *is_live = reply.map_err(read_error)? == Value::Int(1);
            }
        }
        Ok(live)
    }

    /// The entries of keys, in order: about as many as fill `room` bytes of values, and at least one. A key without an
    /// entry gives `None`; a damaged entry or a value of another type gives a `Corrupt` error.
    pub(crate) async fn page_entries(&self, keys: &[Key], room: usize) -> Result<Vec<Result<Option<Entry>>>> {
        let (mut entries, mut remaining, mut wanted) = (Vec::with_capacity(keys.len()), room, keys.len());
        loop {
            let rest = keys.get(entries.len()..).unwrap_or_default();
            if rest.is_empty() || remaining == 0 {
                return Ok(entries);
            }
            let read = self.read_entries(rest.get(..wanted).unwrap_or(rest), remaining).await?;
            if read.is_empty() {
                return Err(read_error(Failure::UnexpectedReply));
            }
            let used: usize = read.iter().flatten().flatten().map(|entry| entry.value.len()).sum();
            remaining = remaining.saturating_sub(used);
            // Ask for as many entries as fit if the next ones are as long on average. Then the share of each group has
            // room for two of them.
            wanted = (remaining / (used / read.len()).max(1)).max(1);
            entries.extend(read);
        }
    }

    /// Reads entries with one script for each group, which stops when its share of `room` is used up. So a page reads
    /// no more than fits, however long the values are. The first key is always answered. A group whose share is too
    /// small for the next entry ends the page there.
    async fn read_entries(&self, keys: &[Key], room: usize) -> Result<Vec<Result<Option<Entry>>>> {
        let groups = group_by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), KEYS_AT_ONCE);
        let share = match groups.len() {
            0 | 1 => room,
            many => (room.saturating_mul(2) / many).max(MIN_SHARE.min(room)),
        };
        let requests: Vec<_> = groups
            .iter()
            .enumerate()
            .map(|(number, group)| {
                let keys: Vec<&[u8]> = group.members.iter().map(|(_, place)| place.physical.as_slice()).collect();
                let mut cmd = self.scripts.page.call(keys);
                cmd.arg(share).arg(i32::from(number == 0));
                Request::new(group.slot, cmd)
            })
            .collect();
        let mut replies: Vec<Option<Value>> = vec![None; keys.len()];
        for (group, reply) in groups.iter().zip(self.call_many(&requests).await) {
            let Value::Array(values) = reply.map_err(read_error)? else {
                return Err(read_error(Failure::UnexpectedReply));
            };
            for ((number, _), value) in group.members.iter().zip(values) {
                if let Some(place) = replies.get_mut(*number) {
                    *place = Some(value);
                }
            }
        }
        let answered = replies.into_iter().map_while(|reply| reply);
        Ok(answered.zip(keys).map(|(value, key)| self.format.decode(key, value)).collect())
    }
}
