//! Group commit: queued writes share one batch, and so one flush.

use std::thread;

use tokio::sync::mpsc::Receiver;

use crate::request::{QueuedWrite, Request, WriteFailure};

/// The maximum number of writes in a batch.
const MAX_WRITES: usize = 1_024;
/// The number of bytes at which a batch ends.
const MAX_BYTES: usize = 4 << 20;

/// Takes writes from the queue one by one, and sends all their responses together.
pub(crate) struct GroupCommit<'q> {
    requests: &'q mut Receiver<Request>,
    first: Option<Request>,
    /// The expected number of writes: the number in the previous batch.
    expected: usize,
    writes: Vec<Box<dyn QueuedWrite>>,
    bytes: usize,
    /// The request that ended the batch, because the request is not a write.
    next_request: Option<Request>,
}

impl<'q> GroupCommit<'q> {
    /// Begins a batch with a request. While the batch has fewer than `expected` writes, [`next`](Self::next) waits
    /// briefly for more.
    pub(crate) fn new(first: Request, expected: usize, requests: &'q mut Receiver<Request>) -> Self {
        Self { requests, first: Some(first), expected, writes: Vec::new(), bytes: 0, next_request: None }
    }

    /// Takes the next write from the queue. `None` if the batch is complete.
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

    /// Receives the next request. If the queue is empty, yields up to [`MAX_YIELDS`] times while the batch has fewer
    /// than `expected` writes. The reason: callers that got their responses together send their next writes one by one,
    /// while the worker already evaluates the first of these writes. A write that misses the batch waits for one more
    /// flush, and a small batch costs as much as a large batch.
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

    /// Sends the response of each write, or the failure to every write. Returns the request that ended the batch.
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

/// The maximum number of yields while the queue is empty. A yield takes less than a microsecond on an idle machine.
const MAX_YIELDS: usize = 32;
