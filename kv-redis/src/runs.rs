//! The members of several indexes, each read piece by piece.

use std::collections::VecDeque;
use std::ops::{Bound, Range};

use kv_core::Key;
use redis::Value;

use crate::error::Failure;
use crate::request::Request;
use crate::store::Shared;

/// What is read of the indexes of some buckets, in order within each.
#[derive(Debug)]
pub(crate) struct Runs {
    buckets: Vec<Run>,
    reverse: bool,
    /// How many members are read of a bucket at once.
    share: usize,
}

#[derive(Debug)]
struct Run {
    bucket: usize,
    /// The bounds of what is still to be read, as the server takes them.
    least: Vec<u8>,
    most: Vec<u8>,
    ready: VecDeque<Key>,
    is_read: bool,
}

impl Runs {
    pub(crate) fn new(
        buckets: Range<usize>,
        (start, end): (Bound<String>, Bound<String>),
        reverse: bool,
        share: usize,
    ) -> Self {
        let (least, most) = (bound(start, "-"), bound(end, "+"));
        let run =
            |bucket| Run { bucket, least: least.clone(), most: most.clone(), ready: VecDeque::new(), is_read: false };
        Self { buckets: buckets.map(run).collect(), reverse, share }
    }

    /// Reads on where nothing is ready, and tells whether anything is.
    pub(crate) async fn refill(&mut self, shared: &Shared) -> Result<bool, Failure> {
        let reverse = self.reverse;
        loop {
            let empty: Vec<&mut Run> =
                self.buckets.iter_mut().filter(|run| run.ready.is_empty() && !run.is_read).collect();
            let mut requests = Vec::with_capacity(empty.len());
            for run in &empty {
                let Some(bucket) = shared.layout.bucket(run.bucket) else { continue };
                let mut cmd = redis::cmd("ZRANGE");
                cmd.arg(&bucket.index);
                if reverse {
                    cmd.arg(&run.most).arg(&run.least).arg("BYLEX").arg("REV");
                } else {
                    cmd.arg(&run.least).arg(&run.most).arg("BYLEX");
                }
                cmd.arg("LIMIT").arg(0).arg(self.share);
                requests.push(Request::new(bucket.slot, cmd));
            }
            if requests.is_empty() {
                return Ok(self.buckets.iter().any(|run| !run.ready.is_empty()));
            }
            for (run, answer) in empty.into_iter().zip(shared.call_many(&requests).await) {
                let members: Vec<Vec<u8>> = match answer? {
                    Value::Nil => Vec::new(),
                    answer => redis::from_redis_value(answer).map_err(|_| Failure::Strange)?,
                };
                run.is_read = members.len() < self.share;
                if let Some(last) = members.last() {
                    let bound = [b"(", last.as_slice()].concat();
                    if reverse { run.most = bound } else { run.least = bound }
                }
                // Members that are no keys are not ours.
                let keys =
                    members.iter().filter_map(|member| Key::parse_stored(std::str::from_utf8(member).ok()?).ok());
                run.ready.extend(keys);
            }
        }
    }

    /// Merges what is ready, until there is as much as is wanted, or until a run has to be read on.
    pub(crate) fn take(&mut self, keys: &mut Vec<Key>, wanted: usize) {
        while keys.len() < wanted && self.buckets.iter().all(|run| run.is_read || !run.ready.is_empty()) {
            let heads = self.buckets.iter_mut().filter(|run| !run.ready.is_empty());
            let next = if self.reverse {
                heads.max_by(|one, other| one.ready.front().cmp(&other.ready.front()))
            } else {
                heads.min_by(|one, other| one.ready.front().cmp(&other.ready.front()))
            };
            match next.and_then(|run| run.ready.pop_front()) {
                Some(key) => keys.push(key),
                None => return,
            }
        }
    }

    pub(crate) fn has_more(&self) -> bool {
        self.buckets.iter().any(|run| !run.is_read || !run.ready.is_empty())
    }

    /// Everything that is ready.
    pub(crate) fn drain(&mut self) -> Vec<Key> {
        self.buckets.iter_mut().flat_map(|run| run.ready.drain(..)).collect()
    }
}

fn bound(bound: Bound<String>, unbounded: &str) -> Vec<u8> {
    match bound {
        Bound::Included(text) => format!("[{text}").into_bytes(),
        Bound::Excluded(text) => format!("({text}").into_bytes(),
        Bound::Unbounded => unbounded.into(),
    }
}
