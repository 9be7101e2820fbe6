//! Forwards the bytes of connections in the mode that [`Control`] holds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Direction;
use super::control::{Action, Control, Disconnect};
use super::listener::ProxyListener;

/// The maximum number of bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The timeout for a peer to close its side of a connection that the proxy has closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts connections until the task is aborted. The abort also closes the connections.
pub(super) async fn serve(listener: Arc<ProxyListener>, target: SocketAddr, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok(client) = accepted {
                control.count_accepted();
                // Subscribe before spawning, so that an immediate `close_all` reaches the connection.
                connections.spawn(forward(client, target, Arc::clone(&control), control.closing()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr, control: Arc<Control>, mut closing: watch::Receiver<u64>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let disconnect = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let discarded = AtomicBool::new(false);
        let requests = pump(from_client, to_server, Direction::ToServer, &control, &discarded);
        let responses = pump(from_server, to_client, Direction::ToClient, &control, &discarded);
        tokio::select! {
            result = async { tokio::try_join!(requests, responses) } => match result {
                Ok(_) | Err(PumpError::Peer) => return,
                Err(PumpError::Requested(disconnect)) => disconnect,
            },
            _ = closing.changed() => Disconnect::Close,
        }
    };
    match disconnect {
        Disconnect::Reset => {
            let _ = client.set_zero_linger().and_then(|()| server.set_zero_linger());
        }
        Disconnect::Close => {
            let _ = timeout(CLOSE_TIMEOUT, async {
                tokio::join!(close_gracefully(&mut client), close_gracefully(&mut server))
            })
            .await;
        }
    }
}

/// The reason why a direction of a connection ended early.
enum PumpError {
    Peer,
    Requested(Disconnect),
}

impl From<io::Error> for PumpError {
    fn from(_: io::Error) -> Self {
        Self::Peer
    }
}

/// Forwards one direction until the sender closes its side.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    control: &Control,
    discarded: &AtomicBool,
) -> Result<(), PumpError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk).await?;
        if let Some(time) = control.delay() {
            pause(time).await;
        }
        // A connection that has lost bytes stays silent. It also does not forward the sender's close.
        if discarded.load(Relaxed) {
            if length == 0 {
                return Ok(());
            }
            continue;
        }
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        let (forwarded, disconnect) = match control.next_action(direction, length) {
            Action::Pass => (length, None),
            Action::Disconnect(forwarded, disconnect) => (forwarded, Some(disconnect)),
            Action::Discard => {
                discarded.store(true, Relaxed);
                continue;
            }
        };
        to.write_all(chunk.get(..forwarded).unwrap_or_default()).await?;
        control.count_delivered(direction, forwarded);
        if let Some(disconnect) = disconnect {
            return Err(PumpError::Requested(disconnect));
        }
    }
}

/// Closes the write side and reads until the peer closes. Closing a socket with unread bytes would send a reset, which
/// can overtake bytes that were delivered before.
async fn close_gracefully(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let _ = copy(stream, &mut sink()).await;
}

#[expect(clippy::disallowed_methods, reason = "delays the bytes of real servers, which run on the system clock")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
