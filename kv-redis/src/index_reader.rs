//! Reads the indexes of several buckets in steps.

use std::collections::VecDeque;
use std::ops::{Bound, Range};

use kv_core::Key;
use redis::Value;

use crate::error::Failure;
use crate::server::router::Request;
use crate::state::State;

/// A reader of a range of keys in the indexes of some buckets, in order within each bucket.
#[derive(Debug)]
pub(crate) struct IndexReader {
    buckets: Vec<BucketReader>,
    reverse: bool,
    /// Members of a bucket's index that one command reads.
    members_per_read: usize,
}

#[derive(Debug)]
struct BucketReader {
    bucket: usize,
    /// The bounds of the unread range, as `ZRANGE … BYLEX` takes them.
    min: Vec<u8>,
    max: Vec<u8>,
    buffer: VecDeque<Key>,
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

    /// Fills the empty buffers. Returns true if any buffer has keys.
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
                // Members that are not valid keys are foreign.
                let keys =
                    members.iter().filter_map(|member| Key::parse_stored(std::str::from_utf8(member).ok()?).ok());
                reader.buffer.extend(keys);
            }
        }
    }

    /// Moves the next keys of all buckets to `keys`, in order, up to `wanted` keys. Stops early if a buffer must be
    /// filled first.
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

    pub(crate) fn has_more(&self) -> bool {
        self.buckets.iter().any(|reader| !reader.is_exhausted || !reader.buffer.is_empty())
    }

    /// Takes all buffered keys, in no order across buckets.
    pub(crate) fn drain(&mut self) -> Vec<Key> {
        self.buckets.iter_mut().flat_map(|reader| reader.buffer.drain(..)).collect()
    }
}

/// A bound as `ZRANGE … BYLEX` takes it.
fn lex_bound(bound: Bound<String>, unbounded: &str) -> Vec<u8> {
    match bound {
        Bound::Included(text) => format!("[{text}").into_bytes(),
        Bound::Excluded(text) => format!("({text}").into_bytes(),
        Bound::Unbounded => unbounded.into(),
    }
}
