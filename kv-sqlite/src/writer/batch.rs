//! A batch: the jobs that the writer takes from the queue together.

use kv_core::Result;
use tokio::sync::{mpsc, oneshot};

use crate::writer::job::{Job, PendingWrite};

/// The number of writes at which a batch is full.
const MAX_WRITES: usize = 1_024;

/// The number of bytes in values at which a batch is full.
const MAX_BYTES: usize = 8 << 20;

/// The maximum number of times that the writer yields to other threads so that more writes join a batch.
const MAX_YIELDS: u32 = 64;

/// Jobs that the writer runs together: writes in one transaction, and flushes after it.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) writes: Vec<Box<dyn PendingWrite>>,
    pub(crate) flushes: Vec<oneshot::Sender<Result<()>>>,
    /// The number of bytes of all values in `writes`.
    bytes: usize,
    /// True if the store was closed, so that this is the last batch before the writer ends.
    pub(crate) is_last: bool,
}

impl Batch {
    pub(crate) fn new(first: Job) -> Self {
        let mut batch = Self::default();
        batch.add(first);
        batch
    }

    fn add(&mut self, job: Job) {
        match job {
            Job::Write(write) => {
                self.bytes += write.bytes();
                self.writes.push(write);
            }
            Job::Flush(reply) => self.flushes.push(reply),
            Job::Close => self.is_last = true,
        }
    }

    /// Takes queued jobs until the queue is empty or the batch is full.
    pub(crate) fn fill(&mut self, jobs: &mut mpsc::Receiver<Job>) {
        while !self.is_last && self.writes.len() < MAX_WRITES && self.bytes < MAX_BYTES {
            let Ok(job) = jobs.try_recv() else { return };
            self.add(job);
        }
    }

    /// Yields to other threads until this batch has as many writes as the previous batch, at most [`MAX_YIELDS`] times.
    ///
    /// The callers of the previous batch have just got their replies and often write again. Without the wait, a batch
    /// has only the writes of the callers that wake up first, and there are twice as many syncs.
    pub(crate) fn wait_for_callers(&mut self, jobs: &mut mpsc::Receiver<Job>, previous_writes: usize) {
        for _ in 0..MAX_YIELDS {
            if self.is_last || self.writes.len() >= previous_writes {
                break;
            }
            std::thread::yield_now();
            self.fill(jobs);
        }
    }
}
