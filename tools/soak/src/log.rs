//! The log of a round: an append-only file of JSON lines, which survives the kill of its writer.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anykv::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use crate::operation::{Answer, Operation};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) task: usize,
    /// Microseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// The worker has opened the store, which took this number of microseconds.
    Opened(u64),
    /// Written before the call.
    Intent(Operation),
    /// Written after the call returned. The answer belongs to the last intent of the task.
    Answer(Answer),
}

/// The writing end. Each event is one `write`, so that a kill cuts at most the last line.
#[derive(Debug)]
pub(crate) struct Log(Mutex<File>);

impl Log {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        File::options().append(true).create(true).open(path).map(|file| Self(Mutex::new(file)))
    }

    /// Appends an event. The time of an event is taken before its line is written, so that a call runs between the
    /// times of its intent and its answer.
    pub(crate) fn write(&self, task: usize, what: What) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Event { task, at: now_micros(), what })?;
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

/// Reads the events of a log. Leaves out an incomplete last line.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Event>> {
    let text = match std::fs::read(path) {
        // The child was killed before it created its log.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    lines.map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
}

/// Returns the time of the system clock, which the servers on this machine also use.
pub(crate) fn now_micros() -> u64 {
    let since = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Call;

    #[test]
    fn a_cut_last_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(read(&path).unwrap(), []);
        let log = Log::create(&path).unwrap();
        let intent = What::Intent(Operation::Own(Call::Get("k1".to_owned())));
        log.write(2, intent.clone()).unwrap();
        log.0.lock().unwrap().write_all(b"{\"task\":2,\"at\":1").unwrap();
        let events = read(&path).unwrap();
        assert_eq!(events.iter().map(|event| (event.task, &event.what)).collect::<Vec<_>>(), [(2, &intent)]);
    }
}
