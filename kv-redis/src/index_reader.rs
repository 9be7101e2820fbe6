//! Reads the indexes of several buckets, a bounded number of members at a time.

use std::collections::VecDeque;
use std::ops::{Bound, Range};

use kv_core::Key;
use redis::Value;

use crate::error::Failure;
use crate::server::router::Request;
use crate::state::State;

/// A reader of a range of keys in the indexes of some buckets. The keys of each bucket are in order.
#[derive(Debug)]
pub(crate) struct IndexReader {
    buckets: Vec<BucketReader>,
    reverse: bool,
    /// The maximum number of members that one command reads from the index of a bucket.
    members_per_read: usize,
}

/// The state of the reader in the index of one bucket.
#[derive(Debug)]
struct BucketReader {
    bucket: usize,
    /// The bounds of the range that is still to be read, as arguments of `ZRANGE … BYLEX`.
    min: Vec<u8>,
    max: Vec<u8>,
    /// Keys that were read and not yet taken.
    buffer: VecDeque<Key>,
    /// True if the range is read to its end.
    is_exhausted: bool,
}

impl IndexReader {
    pub(crate) fn new(
        buckets: Range<usize>,
        (start, end): (Bound<String>, Bound<String>),
        reverse: bool,
        members_per_read: usize,
    ) -> Self {
        let (min, max) = (lex_bound(start, "-"), lex_bound(end, "+"));
        let reader = |bucket| BucketReader {
            bucket,
            min: min.clone(),
            max: max.clone(),
            buffer: VecDeque::new(),
            is_exhausted: false,
        };
        Self { buckets: buckets.map(reader).collect(), reverse, members_per_read }
    }

    /// Fills the empty buffers of all buckets that are not exhausted. Returns true if, afterwards, any buffer has keys.
    pub(crate) async fn fill(&mut self, state: &State) -> Result<bool, Failure> {
        let reverse = self.reverse;
        loop {
            let empty: Vec<&mut BucketReader> =
                self.buckets.iter_mut().filter(|reader| reader.buffer.is_empty() && !reader.is_exhausted).collect();
            let mut requests = Vec::with_capacity(empty.len());
            for reader in &empty {
                let Some(bucket) = state.layout.bucket(reader.bucket) else { continue };
                let mut cmd = redis::cmd("ZRANGE");
                cmd.arg(&bucket.index);
                if reverse {
                    cmd.arg(&reader.max).arg(&reader.min).arg("BYLEX").arg("REV");
                } else {
                    cmd.arg(&reader.min).arg(&reader.max).arg("BYLEX");
                }
                cmd.arg("LIMIT").arg(0).arg(self.members_per_read);
                requests.push(Request::new(bucket.slot, cmd));
            }
            if requests.is_empty() {
                return Ok(self.buckets.iter().any(|reader| !reader.buffer.is_empty()));
            }
            for (reader, reply) in empty.into_iter().zip(state.call_many(&requests).await) {
                let members: Vec<Vec<u8>> = match reply? {
                    Value::Nil => Vec::new(),
                    reply => redis::from_redis_value(reply).map_err(|_| Failure::UnexpectedReply)?,
                };
                reader.is_exhausted = members.len() < self.members_per_read;
                if let Some(last) = members.last() {
                    let bound = [b"(", last.as_slice()].concat();
                    if reverse { reader.max = bound } else { reader.min = bound }
                }
                // Skip members that are not valid keys, because they are foreign.
                let keys =
                    members.iter().filter_map(|member| Key::parse_stored(std::str::from_utf8(member).ok()?).ok());
                reader.buffer.extend(keys);
            }
        }
    }

    /// Moves keys from the buffers to `keys`, in order over all buckets, until `keys` has `wanted` keys. Stops early if
    /// an empty buffer must be filled first.
    pub(crate) fn merge_into(&mut self, keys: &mut Vec<Key>, wanted: usize) {
        while keys.len() < wanted && self.buckets.iter().all(|reader| reader.is_exhausted || !reader.buffer.is_empty())
        {
            let buffered = self.buckets.iter_mut().filter(|reader| !reader.buffer.is_empty());
            let next = if self.reverse {
                buffered.max_by(|one, other| one.buffer.front().cmp(&other.buffer.front()))
            } else {
                buffered.min_by(|one, other| one.buffer.front().cmp(&other.buffer.front()))
            };
            match next.and_then(|reader| reader.buffer.pop_front()) {
                Some(key) => keys.push(key),
                None => return,
            }
        }
    }

    /// True if a buffer has keys, or the index of a bucket is not yet read to its end.
    pub(crate) fn has_more(&self) -> bool {
        self.buckets.iter().any(|reader| !reader.is_exhausted || !reader.buffer.is_empty())
    }

    /// Removes and returns all buffered keys. Keys of different buckets are in no order.
    pub(crate) fn drain(&mut self) -> Vec<Key> {
        self.buckets.iter_mut().flat_map(|reader| reader.buffer.drain(..)).collect()
    }
}

/// Returns a bound as an argument of `ZRANGE … BYLEX`.
fn lex_bound(bound: Bound<String>, unbounded: &str) -> Vec<u8> {
    match bound {
        Bound::Included(text) => format!("[{text}").into_bytes(),
        Bound::Excluded(text) => format!("({text}").into_bytes(),
        Bound::Unbounded => unbounded.into(),
    }
}
