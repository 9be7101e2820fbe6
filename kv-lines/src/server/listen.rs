//! Sessions over loopback connections.

use std::io;
use std::sync::Arc;

use kv_core::Kv;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::session;

/// How many connections are served at once; more wait.
const MAX_CONNECTIONS: usize = 256;

/// Serves a session to each connection, side by side, until accepting fails.
///
/// There is no authentication: whoever can connect can read and write the store. Give it a loopback listener.
///
/// # Errors
/// What accepting gives, and `InvalidInput` for a listener that others than this machine can reach.
///
/// # Cancel safety
/// Sessions that have begun go on after a dropped future.
pub async fn listen(kv: &Kv, listener: TcpListener) -> io::Result<()> {
    let sessions = Sessions::new(kv, listener)?;
    loop {
        sessions.accept().await?;
    }
}

/// As [`listen`], until the session of the first connection ends: a [`LinesStore`](crate::LinesStore) holds that one as long
/// as it lives, so the store here lives as long as the one there.
///
/// # Errors
/// As [`listen`].
pub async fn serve(kv: &Kv, listener: TcpListener) -> io::Result<()> {
    let sessions = Sessions::new(kv, listener)?;
    let mut first = sessions.accept().await?;
    loop {
        tokio::select! {
            ended = &mut first => return ended.map_err(io::Error::other),
            accepted = sessions.accept() => drop(accepted?),
        }
    }
}

struct Sessions {
    kv: Kv,
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Sessions {
    fn new(kv: &Kv, listener: TcpListener) -> io::Result<Self> {
        if !listener.local_addr()?.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the listener is not on a loopback address"));
        }
        Ok(Self { kv: kv.clone(), listener, room: Arc::new(Semaphore::new(MAX_CONNECTIONS)) })
    }

    /// Waits for a connection, and serves it in a task of its own.
    async fn accept(&self) -> io::Result<JoinHandle<()>> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        let connection = self.next().await?;
        // Small responses are waited for; where this fails they only come later.
        let _ = connection.set_nodelay(true);
        let kv = self.kv.clone();
        Ok(tokio::spawn(async move {
            let (reader, writer) = connection.into_split();
            // A connection that breaks concerns its own session alone.
            let _ = session(&kv, reader, writer).await;
            drop(permit);
        }))
    }

    async fn next(&self) -> io::Result<TcpStream> {
        loop {
            match self.listener.accept().await {
                Ok((connection, _)) => return Ok(connection),
                // The peer changed its mind while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
