//! The writes that share one batch, and so one flush.

use std::thread;

use tokio::sync::mpsc::Receiver;

use crate::request::{Failure, Job, Message};

/// At most this many writes a batch.
const MAX_WRITES: usize = 1_024;
/// A batch ends with the write that brings it over this many bytes.
const MAX_BYTES: usize = 4 << 20;

/// Writes that are taken one by one, as they come.
pub(crate) struct Group<'i> {
    inbox: &'i mut Receiver<Message>,
    first: Option<Message>,
    /// About how many writes will come.
    expected: usize,
    jobs: Vec<Box<dyn Job>>,
    bytes: usize,
    /// What came behind the writes and is none.
    behind: Option<Message>,
}

impl<'i> Group<'i> {
    /// A group that begins with a message and takes those that wait behind it, or come when `expected` do.
    pub(crate) fn new(first: Message, expected: usize, inbox: &'i mut Receiver<Message>) -> Self {
        Self { inbox, first: Some(first), expected, jobs: Vec::new(), bytes: 0, behind: None }
    }

    /// Takes the next write, unless the group is complete.
    pub(crate) fn next(&mut self) -> Option<&mut dyn Job> {
        if self.behind.is_some() || self.jobs.len() >= MAX_WRITES || self.bytes >= MAX_BYTES {
            return None;
        }
        let message = self.first.take().or_else(|| self.patiently())?;
        match message {
            Message::Write(job) => {
                self.bytes += job.bytes();
                self.jobs.push(job);
                match self.jobs.last_mut() {
                    Some(job) => Some(&mut **job),
                    None => None,
                }
            }
            other => {
                self.behind = Some(other);
                None
            }
        }
    }

    /// The next message. Writers that were woken together come back one by one, while those before them are judged; who
    /// comes too late waits for a whole flush more, and a small batch costs as much as a large one.
    fn patiently(&mut self) -> Option<Message> {
        for _ in 0..IDLE_TURNS {
            if let Ok(message) = self.inbox.try_recv() {
                return Some(message);
            }
            if self.jobs.len() >= self.expected {
                return None;
            }
            thread::yield_now();
        }
        None
    }

    /// How many writes there are.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Gives each write its answer, and gives back what came behind them.
    pub(crate) fn end(self, failure: Option<&Failure>) -> Option<Message> {
        for job in self.jobs {
            match failure {
                Some(failure) => job.fail(failure),
                None => job.acknowledge(),
            }
        }
        self.behind
    }
}

/// How often in a row nobody may come. A turn takes less than a microsecond where nobody else wants to run.
const IDLE_TURNS: usize = 32;
