//! Reads request lines within the limits of the server.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Error, Result};
use tokio::io::{AsyncRead, BufReader};
use tokio::sync::OwnedSemaphorePermit;

use super::rules::{HELLO_TIMEOUT, LARGE_LINE_BYTES, LINE_TIMEOUT, PLACE_TIMEOUT, Rules};
use crate::hello::MAX_HELLO_BYTES;
use crate::line::{Line, LineProgress, MAX_LINE_BYTES};

/// The input of a session.
pub(super) struct Input<R> {
    reader: BufReader<R>,
    /// The last line.
    pub(super) line: Vec<u8>,
    rules: Rules,
}

/// A line in the buffer of the input.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) line: Line,
    /// The place of a large line. It is free when the request has been executed.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl<R: AsyncRead + Send + Unpin> Input<R> {
    pub(super) fn new(reader: R, rules: Rules) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new(), rules }
    }

    /// Reads the first line. Returns `None` if there is none in time.
    pub(super) async fn hello(&mut self) -> io::Result<Option<Line>> {
        let limit = self.rules.is_socket.then_some(HELLO_TIMEOUT);
        let mut progress = LineProgress::default();
        within(limit, progress.read(&mut self.reader, &mut self.line, MAX_HELLO_BYTES, usize::MAX))
            .await
            .map_or(Ok(None), |line| line.map(|line| Some(line.unwrap_or(Line::TooLong))))
    }

    /// Reads the next line. Returns `None` if the session was idle for too long, and an error if the line must not take
    /// more memory; the session ends after either.
    pub(super) async fn next(&mut self, has_streams: bool) -> io::Result<Option<Result<Received>>> {
        let idle = self.rules.idle_timeout.filter(|_| !has_streams);
        let mut progress = LineProgress::default();
        let start = progress.read(&mut self.reader, &mut self.line, MAX_LINE_BYTES, LARGE_LINE_BYTES);
        let Some(start) = within(idle, start).await else { return Ok(None) };
        if let Some(line) = start? {
            return Ok(Some(Ok(Received { line, place: None })));
        }
        let limits = if self.rules.is_socket { (Some(PLACE_TIMEOUT), Some(LINE_TIMEOUT)) } else { (None, None) };
        let place = within(limits.0, Arc::clone(&self.rules.large_lines).acquire_owned()).await;
        // The semaphore is never closed.
        let Some(Ok(place)) = place else {
            let message = "other sessions hold all the memory for unfinished large lines";
            return Ok(Some(Err(Error::capacity(message))));
        };
        let rest = progress.read(&mut self.reader, &mut self.line, MAX_LINE_BYTES, usize::MAX);
        Ok(Some(match within(limits.1, rest).await {
            Some(line) => Ok(Received { line: line?.unwrap_or(Line::TooLong), place: Some(place) }),
            None => Err(Error::capacity(format!("the line did not end within {LINE_TIMEOUT:?}"))),
        }))
    }
}

/// Applies a timeout, if there is one. Returns `None` after it.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}
