//! The output of a session: a queue of lines with limited memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The maximum number of lines in the queue of a session.
const MAX_QUEUED_LINES: usize = 16;

/// The maximum number of bytes in the queue of a session. A large line waits until the queue is empty.
const WINDOW_BYTES: usize = 1 << 20;

/// The estimated number of bytes of a line without its keys and values: the id, versions and deadlines.
const LINE_OVERHEAD_BYTES: usize = 2 << 10;

/// The maximum number of bytes of keys and values in a small line. A larger line also reserves memory of
/// [`SHARED_BYTES`].
pub(super) const LARGE_BYTES: usize = 64 << 10;

/// The maximum number of bytes of all large lines of a server together. Both the content of a line and its encoded text
/// count.
pub(super) const SHARED_BYTES: usize = 128 << 20;

/// The time that a peer has to read a large line, plus one second for each MiB of the line. After this time the session
/// ends, because other sessions need the memory of the line.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time that a peer has to read a part of a large line. After this time the session ends, too.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The size of a part of a large line in bytes.
const PART_BYTES: usize = 256 << 10;

/// The output of a session. All clones share one queue.
#[derive(Debug, Clone)]
pub(super) struct Output {
    lines: Sender<Outgoing>,
    window: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// The memory that one line reserves until the line is written to the peer.
#[derive(Debug)]
pub(super) struct Reservation {
    _window: OwnedSemaphorePermit,
    shared: Option<OwnedSemaphorePermit>,
}

/// A line in the queue.
#[derive(Debug)]
pub(super) struct Outgoing {
    text: String,
    reservation: Reservation,
}

impl Output {
    /// Creates the output of a session. `shared` has [`SHARED_BYTES`] permits for all sessions of a server.
    pub(super) fn new(shared: Arc<Semaphore>) -> (Self, Receiver<Outgoing>) {
        let (lines, queue) = mpsc::channel(MAX_QUEUED_LINES);
        (Self { lines, window: Arc::new(Semaphore::new(WINDOW_BYTES)), shared }, queue)
    }

    /// Waits until the peer has disconnected.
    pub(super) async fn closed(&self) {
        self.lines.closed().await;
    }

    /// Waits until the queue has at most half of its maximum number of bytes. Returns false if the peer has
    /// disconnected.
    pub(super) async fn drained(&self) -> bool {
        self.unless_closed(self.window.acquire_many(permits(WINDOW_BYTES / 2))).await.is_some()
    }

    /// Reserves memory for a line with `bytes` bytes of keys and values, and waits until the memory is available.
    /// Returns `None` if the peer has disconnected.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let window = Arc::clone(&self.window).acquire_many_owned(window_permits(bytes));
        let window = self.unless_closed(window).await?;
        let shared = if bytes > LARGE_BYTES {
            Some(self.unless_closed(Arc::clone(&self.shared).acquire_many_owned(shared_permits(bytes))).await?)
        } else {
            None
        };
        Some(Reservation { _window: window, shared })
    }

    /// Reserves memory for a line if it is available now.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let window = Arc::clone(&self.window).try_acquire_many_owned(window_permits(bytes)).ok()?;
        let shared = if bytes > LARGE_BYTES {
            Some(Arc::clone(&self.shared).try_acquire_many_owned(shared_permits(bytes)).ok()?)
        } else {
            None
        };
        Some(Reservation { _window: window, shared })
    }

    /// Queues a line. Returns false if the peer has disconnected.
    pub(super) async fn send(&self, text: String, reservation: Reservation) -> bool {
        self.lines.send(Outgoing { text, reservation }).await.is_ok()
    }

    /// Waits for the work. Returns `None` if the peer disconnects before the work is done.
    async fn unless_closed<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send) -> Option<T> {
        tokio::select! {
            // The semaphores are never closed.
            done = work => done.ok(),
            () = self.lines.closed() => None,
        }
    }
}

/// Returns the number of bytes that a line takes in the queue. A large line takes all bytes of the queue, so that the
/// earlier lines are written before the large line reserves shared memory. Writing a small line has no timeout, so a
/// large line behind a small line could hold the shared memory for any time.
fn window_permits(bytes: usize) -> u32 {
    permits(if bytes > LARGE_BYTES { WINDOW_BYTES } else { bytes + LINE_OVERHEAD_BYTES })
}

/// Returns the number of bytes of a large line before and after its encoding, together. The encoding adds at most a
/// third.
fn shared_permits(bytes: usize) -> u32 {
    permits(bytes.saturating_add(bytes / 3 * 4).min(SHARED_BYTES))
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Writes the lines of the queue, and flushes when the queue is empty. Fails if a peer on a socket does not read a
/// large line in time.
pub(super) async fn write(
    writer: impl AsyncWrite + Unpin,
    mut lines: Receiver<Outgoing>,
    is_socket: bool,
) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    while let Some(Outgoing { text, reservation }) = lines.recv().await {
        let is_last = lines.is_empty();
        if is_socket && reservation.shared.is_some() {
            let limit = LINE_TIMEOUT + Duration::from_secs((text.len() >> 20) as u64);
            timeout(limit, write_in_time(&mut writer, text.as_bytes())).await??;
        } else {
            writer.write_all(text.as_bytes()).await?;
            writer.write_all(b"\n").await?;
            if is_last {
                writer.flush().await?;
            }
        }
        drop(reservation);
    }
    writer.flush().await
}

/// Writes a large line and flushes. Fails if the peer does not read a part of it in time.
async fn write_in_time(writer: &mut (impl AsyncWrite + Unpin), line: &[u8]) -> io::Result<()> {
    for part in line.chunks(PART_BYTES) {
        timeout(STALL_TIMEOUT, writer.write_all(part)).await??;
    }
    timeout(STALL_TIMEOUT, async {
        writer.write_all(b"\n").await?;
        writer.flush().await
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_reads_no_part_of_a_large_line_is_disconnected_soon() {
        let shared = Arc::new(Semaphore::new(SHARED_BYTES));
        let (output, lines) = Output::new(Arc::clone(&shared));
        let (writer, peer) = tokio::io::duplex(1_024);
        let reservation = output.reserve(16 << 20).await.unwrap();
        assert!(output.send("x".repeat(16 << 20), reservation).await);
        let written = timeout(LINE_TIMEOUT, write(writer, lines, true)).await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(shared.available_permits(), SHARED_BYTES);
        drop(peer);
    }
}
