//! The lines that wait for a peer to read them, and the limits of their memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most lines that are queued for a slow peer.
const MAX_QUEUED_LINES: usize = 16;

/// The most bytes that are queued for a slow peer. A large line waits until the queue is empty.
const WINDOW_BYTES: usize = 1 << 20;

/// The bytes that a line counts beside its keys and values: its id, versions and deadlines.
const LINE_BYTES: usize = 2 << 10;

/// An answer of more bytes is large: it takes room in the memory that all sessions share.
pub(super) const LARGE_BYTES: usize = 64 << 10;

/// The bytes that all large answers together may take, encoded and not.
pub(super) const SHARED_BYTES: usize = 128 << 20;

/// The time that a peer has to read a large line, beside one second for each MiB. Then the session ends, so that its
/// memory is free for other sessions.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The output of a session. A clone is the same output.
#[derive(Debug, Clone)]
pub(super) struct Output {
    lines: Sender<Outgoing>,
    window: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// The memory of one line, which is free again when the peer has read the line.
#[derive(Debug)]
pub(super) struct Room {
    _window: OwnedSemaphorePermit,
    shared: Option<OwnedSemaphorePermit>,
}

/// A line on its way to the peer.
#[derive(Debug)]
pub(super) struct Outgoing {
    text: String,
    room: Room,
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

    /// Waits until the peer has read most of its output. Returns false if the peer has disconnected.
    pub(super) async fn drained(&self) -> bool {
        self.unless_closed(self.window.acquire_many(permits(WINDOW_BYTES / 2))).await.is_some()
    }

    /// Waits for the memory of a line with `bytes` of keys and values. Returns `None` if the peer has disconnected.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Room> {
        let window = Arc::clone(&self.window).acquire_many_owned(window_permits(bytes));
        let window = self.unless_closed(window).await?;
        let shared = if bytes > LARGE_BYTES {
            Some(self.unless_closed(Arc::clone(&self.shared).acquire_many_owned(shared_permits(bytes))).await?)
        } else {
            None
        };
        Some(Room { _window: window, shared })
    }

    /// Takes the memory of a line if it is free now.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<Room> {
        let window = Arc::clone(&self.window).try_acquire_many_owned(window_permits(bytes)).ok()?;
        let shared = if bytes > LARGE_BYTES {
            Some(Arc::clone(&self.shared).try_acquire_many_owned(shared_permits(bytes)).ok()?)
        } else {
            None
        };
        Some(Room { _window: window, shared })
    }

    /// Queues a line. Returns false if the peer has disconnected.
    pub(super) async fn send(&self, text: String, room: Room) -> bool {
        self.lines.send(Outgoing { text, room }).await.is_ok()
    }

    async fn unless_closed<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send) -> Option<T> {
        tokio::select! {
            // The semaphores are never closed.
            done = work => done.ok(),
            () = self.lines.closed() => None,
        }
    }
}

/// A large line takes the whole window: no line in front of it, which has no timeout, may hold the shared memory.
fn window_permits(bytes: usize) -> u32 {
    permits(if bytes > LARGE_BYTES { WINDOW_BYTES } else { bytes + LINE_BYTES })
}

/// The answer itself and its line, which is at most a third longer.
fn shared_permits(bytes: usize) -> u32 {
    permits(bytes.saturating_add(bytes / 3 * 4).min(SHARED_BYTES))
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Writes lines, and flushes when the queue is empty. Fails if a peer on a socket does not read a large line in time.
pub(super) async fn write(
    writer: impl AsyncWrite + Unpin,
    mut lines: Receiver<Outgoing>,
    is_socket: bool,
) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    while let Some(Outgoing { text, room }) = lines.recv().await {
        let is_last = lines.is_empty();
        let length = text.len();
        let writing = async {
            writer.write_all(text.as_bytes()).await?;
            writer.write_all(b"\n").await?;
            if is_last { writer.flush().await } else { Ok(()) }
        };
        if is_socket && room.shared.is_some() {
            let limit = STALL_TIMEOUT + Duration::from_secs((length >> 20) as u64);
            tokio::time::timeout(limit, writing).await??;
        } else {
            writing.await?;
        }
        drop(room);
    }
    writer.flush().await
}
