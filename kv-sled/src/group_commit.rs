//! Group commit: the queued writes that share one batch, and so one flush.

use std::thread;

use tokio::sync::mpsc::Receiver;

use crate::request::{QueuedWrite, Request, WriteFailure};

/// Writes that a batch may hold.
const MAX_WRITES: usize = 1_024;
/// A batch ends with the write that brings it over this many bytes.
const MAX_BYTES: usize = 4 << 20;

/// Takes writes from the queue one by one, and answers all of them together.
pub(crate) struct GroupCommit<'q> {
    requests: &'q mut Receiver<Request>,
    first: Option<Request>,
    /// The number of writes that are likely to come.
    expected: usize,
    writes: Vec<Box<dyn QueuedWrite>>,
    bytes: usize,
    /// A request other than a write; it ends the group.
    next_request: Option<Request>,
}

impl<'q> GroupCommit<'q> {
    /// Begins with a request. Takes the writes behind it, and waits a moment while there are fewer than `expected`.
    pub(crate) fn new(first: Request, expected: usize, requests: &'q mut Receiver<Request>) -> Self {
        Self { requests, first: Some(first), expected, writes: Vec::new(), bytes: 0, next_request: None }
    }

    /// Takes the next write. `None` if the group is complete.
    pub(crate) fn next(&mut self) -> Option<&mut dyn QueuedWrite> {
        if self.next_request.is_some() || self.writes.len() >= MAX_WRITES || self.bytes >= MAX_BYTES {
            return None;
        }
        let request = self.first.take().or_else(|| self.receive())?;
        match request {
            Request::Write(write) => {
                self.bytes += write.bytes();
                self.writes.push(write);
                match self.writes.last_mut() {
                    Some(write) => Some(&mut **write),
                    None => None,
                }
            }
            other => {
                self.next_request = Some(other);
                None
            }
        }
    }

    /// Receives the next request. Callers that were answered together send their next writes one by one, while the
    /// worker evaluates the first of them. A write that misses the batch waits for one more flush, and a small batch
    /// costs as much as a large one. So this yields a few times before it gives up.
    fn receive(&mut self) -> Option<Request> {
        for _ in 0..MAX_YIELDS {
            if let Ok(request) = self.requests.try_recv() {
                return Some(request);
            }
            if self.writes.len() >= self.expected {
                return None;
            }
            thread::yield_now();
        }
        None
    }

    /// The number of writes so far.
    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Answers all writes. Returns the request that ended the group.
    pub(crate) fn finish(self, failure: Option<&WriteFailure>) -> Option<Request> {
        for write in self.writes {
            match failure {
                Some(failure) => write.fail(failure),
                None => write.acknowledge(),
            }
        }
        self.next_request
    }
}

/// Yields in a row without a request. A yield takes less than a microsecond on an idle machine.
const MAX_YIELDS: usize = 32;
