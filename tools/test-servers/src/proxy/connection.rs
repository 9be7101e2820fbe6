//! Connections: one piece after another, as the plan wants it.

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
use super::entrance::Entrance;
use super::plan::{Ending, Fate, Plan};

const PIECE_BYTES: usize = 64 * 1024;

/// How long a peer may keep its side of a connection that we have closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Accepts for ever; its connections end with it.
pub(super) async fn serve(entrance: Arc<Entrance>, target: SocketAddr, plan: Arc<Plan>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = entrance.accept() => if let Ok(client) = accepted {
                plan.count_accepted();
                // Subscribed here: an order to close that comes next must reach it.
                connections.spawn(join(client, target, Arc::clone(&plan), plan.closing()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn join(mut client: TcpStream, target: SocketAddr, plan: Arc<Plan>, mut closing: watch::Receiver<u64>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let ending = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let lost = AtomicBool::new(false);
        let requests = pump(from_client, to_server, Direction::ToServer, &plan, &lost);
        let answers = pump(from_server, to_client, Direction::ToClient, &plan, &lost);
        tokio::select! {
            ended = async { tokio::try_join!(requests, answers) } => match ended {
                Ok(_) | Err(Broken::Peer) => return,
                Err(Broken::Plan(ending)) => ending,
            },
            _ = closing.changed() => Ending::Close,
        }
    };
    match ending {
        Ending::Reset => {
            let _ = client.set_zero_linger().and_then(|()| server.set_zero_linger());
        }
        Ending::Close => {
            let _ = timeout(FAREWELL, async { tokio::join!(part(&mut client), part(&mut server)) }).await;
        }
    }
}

/// Why bytes no longer go.
enum Broken {
    Peer,
    Plan(Ending),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Peer
    }
}

/// Ends well when the sender has closed its side.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    plan: &Plan,
    lost: &AtomicBool,
) -> Result<(), Broken> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut piece).await?;
        if let Some(time) = plan.delay() {
            pause(time).await;
        }
        // What was lost once takes the sender's close with it.
        if lost.load(Relaxed) {
            if length == 0 {
                return Ok(());
            }
            continue;
        }
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        let (passed, ending) = match plan.fate(direction, length) {
            Fate::Pass => (length, None),
            Fate::End(passed, ending) => (passed, Some(ending)),
            Fate::Swallow => {
                lost.store(true, Relaxed);
                continue;
            }
        };
        to.write_all(piece.get(..passed).unwrap_or_default()).await?;
        plan.count_delivered(direction, passed);
        if let Some(ending) = ending {
            return Err(Broken::Plan(ending));
        }
    }
}

/// Closes our side and takes what still comes: a socket closed over unread bytes would be reset, and a reset can overtake what was
/// delivered before.
async fn part(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let _ = copy(stream, &mut sink()).await;
}

#[expect(clippy::disallowed_methods, reason = "delays the traffic of real servers, which live in the machine's time")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
