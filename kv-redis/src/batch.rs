//! Calls over several keys.

use std::collections::HashSet;

use kv_core::adapter::Effect;
use kv_core::{DeleteOutcome, Entry, Error, Expiry, Key, Result, SetItem, SetOptions, SetOutcome, Version, When};
use redis::Value;

use crate::bucket_group::{BucketGroup, group_by_bucket, split_by_weight};
use crate::error::{Failure, read_error};
use crate::server::router::Request;
use crate::state::State;
use crate::write::deleted_flags;
use crate::write_gate::Write;

/// The maximum number of keys that one command reads. The number is bounded, because the server runs no other command
/// during this command.
const KEYS_PER_READ: usize = 1_000;

/// The maximum number of keys that one script writes. The number is bounded, because the server runs no other command
/// during this command.
const KEYS_PER_WRITE: usize = 250;

/// The maximum number of bytes that one script writes, unless a single value is longer. The number is bounded, because
/// the server closes a connection that sends a command of 1 GiB.
const BYTES_PER_WRITE: usize = 4 << 20;

/// The items of a `set_many` that one request writes: for each item its index in the call and its new version.
enum Part {
    /// One item that needs the script `set`, because it has a condition, keeps the deadline or returns the previous
    /// entry.
    Single(usize, Version),
    /// Items that the script `set_many` writes unconditionally.
    Unconditional(Vec<(usize, Version)>),
}

impl State {
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        if self.is_plain() {
            let requests: Vec<_> = keys.iter().map(|key| self.get_request(key)).collect();
            let replies = self.call_many(&requests).await;
            return replies.into_iter().zip(keys).map(|(reply, key)| self.decode_reply(key, reply)).collect();
        }
        let groups = group_by_bucket(keys.iter().map(|key| self.layout.place(key)).enumerate(), KEYS_PER_READ);
        let requests: Vec<_> = groups.iter().map(|group| group_request("MGET", group)).collect();
        let mut results: Vec<Option<Result<Option<Entry>>>> = Vec::new();
        results.resize_with(keys.len(), || None);
        for (group, reply) in groups.iter().zip(self.call_many(&requests).await) {
            let mut values = match reply {
                Ok(Value::Array(values)) if values.len() == group.members.len() => Ok(values.into_iter()),
                Ok(_) => Err(Failure::UnexpectedReply),
                Err(failure) => Err(failure),
            };
            for (index, _) in &group.members {
                let (Some(key), Some(result)) = (keys.get(*index), results.get_mut(*index)) else { continue };
                *result = Some(match &mut values {
                    Ok(values) => self.format.decode(key, values.next().unwrap_or_default()),
                    Err(failure) => Err(read_error(failure.clone())),
                });
            }
        }
        self.recheck_missing(keys, &mut results).await;
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(read_error(Failure::UnexpectedReply)))).collect()
    }

    /// Reads missing keys again if a value of another type is stored under them, to report it as `Corrupt`: `MGET`
    /// returns nil for such a key, as if the key did not exist. The check costs a further round trip, but only if keys
    /// are missing.
    async fn recheck_missing(&self, keys: &[Key], results: &mut [Option<Result<Option<Entry>>>]) {
        let missing = results.iter().zip(keys).enumerate().filter(|(_, (result, _))| matches!(result, Some(Ok(None))));
        let missing = missing.map(|(index, (_, key))| ((index, key), self.layout.place(key)));
        let groups = group_by_bucket(missing, KEYS_PER_READ);
        let requests: Vec<_> = groups.iter().map(|group| group_request("EXISTS", group)).collect();
        let counts = self.call_many(&requests).await;
        // Read all missing keys of a group again if any of them exists. If the `EXISTS` of a group fails, its keys are
        // reported as missing.
        let suspects = groups.iter().zip(counts).filter(|(_, count)| matches!(count, Ok(Value::Int(1..))));
        let suspects: Vec<_> = suspects.flat_map(|(group, _)| &group.members).map(|(member, _)| *member).collect();
        let requests: Vec<_> = suspects.iter().map(|(_, key)| self.get_request(key)).collect();
        for ((index, key), reply) in suspects.into_iter().zip(self.call_many(&requests).await) {
            if let Some(result) = results.get_mut(index) {
                *result = Some(self.decode_reply(key, reply));
            }
        }
    }

    fn decode_reply(&self, key: &Key, reply: Result<Value, Failure>) -> Result<Option<Entry>> {
        self.format.decode(key, reply.map_err(read_error)?)
    }

    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::new();
        // A key that occurs twice is written twice, in order. Therefore the second item of the key is in a later run,
        // which is sent after the replies to the first run.
        for run in unique_runs(items, |item| &item.key) {
            let start = outcomes.len();
            outcomes.resize_with(start + run.len(), || None);
            let (requests, parts) = self.set_parts(run, start, &mut outcomes);
            for (part, reply) in parts.into_iter().zip(self.call_many(&requests).await) {
                match part {
                    Part::Single(index, version) => {
                        let effect = Effect::Write(self.visible_version(version));
                        let Some(item) = items.get(index) else { continue };
                        let outcome = reply
                            .map_err(|failure| failure.into_error(effect))
                            .and_then(|reply| self.set_outcome(&item.key, reply, version));
                        put(&mut outcomes, index, outcome);
                    }
                    Part::Unconditional(members) => {
                        for (index, version) in members {
                            let version = self.visible_version(version);
                            let outcome = match &reply {
                                Ok(_) => Ok(SetOutcome::Stored { version, previous: None }),
                                Err(failure) => Err(failure.clone().into_error(Effect::Write(version))),
                            };
                            put(&mut outcomes, index, outcome);
                        }
                    }
                }
            }
        }
        outcomes.into_iter().map(settled).collect()
    }

    /// Returns the requests that write a run of items, and the items of each request. `start` is the index of the run
    /// in the call. An item that is refused gets its error in `outcomes` and is not written.
    fn set_parts(
        &self,
        run: &[SetItem],
        start: usize,
        outcomes: &mut [Option<Result<SetOutcome>>],
    ) -> (Vec<Request>, Vec<Part>) {
        let (mut requests, mut parts, mut unconditional) = (Vec::new(), Vec::new(), Vec::new());
        for (index, item) in (start..).zip(run) {
            let SetItem { key, value, options, .. } = item;
            if let Err(error) = self.check_set(value, options) {
                put(outcomes, index, Err(error));
                continue;
            }
            let set = self.prepare(key, value, options.expiry);
            if is_unconditional(options) {
                unconditional.push(((index, key, set.stored, set.deadline, set.version), set.place));
            } else {
                requests.push(self.set_request(key, &set, options));
                parts.push(Part::Single(index, set.version));
            }
        }
        let groups = group_by_bucket(unconditional, KEYS_PER_WRITE).into_iter();
        let groups =
            groups.flat_map(|group| split_by_weight(group, |(_, _, stored, _, _)| stored.len(), BYTES_PER_WRITE));
        for group in groups {
            let mut cmd = self.scripts.set_many.call(self.group_keys(&group));
            cmd.arg(self.has_index());
            let mut members = Vec::with_capacity(group.members.len());
            for ((index, key, stored, deadline, version), _) in &group.members {
                cmd.arg(stored).arg(deadline.to_argument()).arg(key.as_str());
                members.push((*index, *version));
            }
            requests.push(Request::new(group.slot, cmd));
            parts.push(Part::Unconditional(members));
        }
        (requests, parts)
    }

    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        if let Err(error) = self.check_open().and_then(|()| self.write_gate.check(Write::Remove)) {
            return keys.iter().map(|_| Err(error.clone())).collect();
        }
        let mut outcomes = Vec::new();
        for run in unique_runs(keys, |key| key) {
            let start = outcomes.len();
            outcomes.resize_with(start + run.len(), || None);
            let places = (start..).zip(run).map(|(index, key)| ((index, key), self.layout.place(key)));
            let groups = group_by_bucket(places, KEYS_PER_WRITE);
            let requests: Vec<_> =
                groups.iter().map(|group| self.delete_request(group, |(_, key)| key.as_str())).collect();
            for (group, reply) in groups.iter().zip(self.call_many(&requests).await) {
                let mut deleted = deleted_flags(reply, group.members.len());
                for ((index, _), _) in &group.members {
                    let outcome = match &mut deleted {
                        Ok(flags) => Ok(match flags.next() {
                            Some(true) => DeleteOutcome::Deleted { previous: None },
                            _ => DeleteOutcome::Missing,
                        }),
                        Err(failure) => Err(failure.clone().into_error(Effect::Write(None))),
                    };
                    put(&mut outcomes, *index, outcome);
                }
            }
        }
        outcomes.into_iter().map(settled).collect()
    }

    /// Returns a request that deletes the entries of a group, and removes their keys from the index.
    pub(crate) fn delete_request<T>(&self, group: &BucketGroup<T>, index_member: impl Fn(&T) -> &str) -> Request {
        let mut cmd = self.scripts.delete_many.call(self.group_keys(group));
        cmd.arg(self.has_index());
        group.members.iter().for_each(|(member, _)| {
            cmd.arg(index_member(member));
        });
        Request::new(group.slot, cmd)
    }
}

/// Returns a request with a command whose arguments are the physical keys of a group.
fn group_request<T>(command: &str, group: &BucketGroup<T>) -> Request {
    let mut cmd = redis::cmd(command);
    group.members.iter().for_each(|(_, place)| {
        cmd.arg(&place.physical);
    });
    Request::new(group.slot, cmd)
}

/// True if the set does not depend on the current entry.
fn is_unconditional(options: &SetOptions) -> bool {
    let SetOptions { expiry, when, return_previous, .. } = options;
    *when == When::Always && !return_previous && *expiry != Expiry::Keep
}

/// Splits items into consecutive runs, so that no key occurs twice in a run.
fn unique_runs<T>(items: &[T], key: impl Fn(&T) -> &Key) -> Vec<&[T]> {
    let (mut runs, mut seen, mut rest, mut length) = (Vec::new(), HashSet::new(), items, 0);
    for item in items {
        if !seen.insert(key(item)) {
            let (run, after) = rest.split_at(length);
            runs.push(run);
            (rest, length) = (after, 0);
            seen.clear();
            seen.insert(key(item));
        }
        length += 1;
    }
    runs.push(rest);
    runs
}

/// Stores the outcome of the item with this index.
fn put<T>(outcomes: &mut [Option<Result<T>>], index: usize, outcome: Result<T>) {
    if let Some(target) = outcomes.get_mut(index) {
        *target = Some(outcome);
    }
}

/// Returns the outcome of an item, or an error if no reply was assigned to the item.
fn settled<T>(outcome: Option<Result<T>>) -> Result<T> {
    outcome.unwrap_or_else(|| Err(Error::unavailable("the server did not answer for this key")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_occurs_twice_in_a_run() {
        let keys: Vec<Key> = ["a", "b", "a", "c", "c", "a"].iter().map(|name| Key::new([name]).unwrap()).collect();
        let lengths: Vec<usize> = unique_runs(&keys, |key| key).iter().map(|run| run.len()).collect();
        assert_eq!(lengths, [2, 2, 2]);
        assert_eq!(unique_runs(&keys[..0], |key| key).concat().len(), 0);
    }
}
