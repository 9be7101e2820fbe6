//! Reads request lines within the limits of the server.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Error, Result};
use tokio::io::{AsyncRead, BufReader};
use tokio::sync::OwnedSemaphorePermit;

use super::rules::{HELLO_TIMEOUT, LARGE_LINE_BYTES, LINE_TIMEOUT, PERMIT_TIMEOUT, Rules};
use crate::hello::MAX_HELLO_BYTES;
use crate::line::{Line, LineProgress, MAX_LINE_BYTES};

/// The input of a session.
pub(super) struct Input<R> {
    reader: BufReader<R>,
    /// The most recent line.
    pub(super) line: Vec<u8>,
    rules: Rules,
}

/// The result of reading a line into [`Input::line`].
#[derive(Debug)]
pub(super) struct Received {
    pub(super) line: Line,
    /// The permit of a large line. The session drops the permit when it has executed the request.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl<R: AsyncRead + Send + Unpin> Input<R> {
    pub(super) fn new(reader: R, rules: Rules) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new(), rules }
    }

    /// Reads the first line. Returns `None` if a peer on a socket does not send the line within [`HELLO_TIMEOUT`].
    pub(super) async fn hello(&mut self) -> io::Result<Option<Line>> {
        let timeout = self.rules.is_socket.then_some(HELLO_TIMEOUT);
        let mut progress = LineProgress::default();
        within(timeout, progress.read(&mut self.reader, &mut self.line, MAX_HELLO_BYTES, usize::MAX))
            .await
            .map_or(Ok(None), |line| line.map(|line| Some(line.unwrap_or(Line::TooLong))))
    }

    /// Reads the next line. Returns `None` if no line arrives within the idle timeout, and an error if a large line
    /// gets no permit or does not end in time. In both cases the session must end.
    pub(super) async fn next(&mut self, has_streams: bool) -> io::Result<Option<Result<Received>>> {
        let idle_timeout = self.rules.idle_timeout.filter(|_| !has_streams);
        let mut progress = LineProgress::default();
        let start = progress.read(&mut self.reader, &mut self.line, MAX_LINE_BYTES, LARGE_LINE_BYTES);
        let Some(start) = within(idle_timeout, start).await else { return Ok(None) };
        if let Some(line) = start? {
            return Ok(Some(Ok(Received { line, permit: None })));
        }
        let (permit_timeout, line_timeout) =
            if self.rules.is_socket { (Some(PERMIT_TIMEOUT), Some(LINE_TIMEOUT)) } else { (None, None) };
        let permit = within(permit_timeout, Arc::clone(&self.rules.large_lines).acquire_owned()).await;
        // The semaphore is never closed.
        let Some(Ok(permit)) = permit else {
            let message = "other sessions hold all the memory for large request lines";
            return Ok(Some(Err(Error::capacity(message))));
        };
        let rest = progress.read(&mut self.reader, &mut self.line, MAX_LINE_BYTES, usize::MAX);
        Ok(Some(match within(line_timeout, rest).await {
            Some(line) => Ok(Received { line: line?.unwrap_or(Line::TooLong), permit: Some(permit) }),
            None => Err(Error::capacity(format!("the request line did not end within {LINE_TIMEOUT:?}"))),
        }))
    }
}

/// Applies a timeout, if there is one. Returns `None` when the timeout ends before the work.
async fn within<T>(timeout: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, work).await.ok(),
        None => Some(work.await),
    }
}
