//! Serves sessions over loopback connections.

use std::io;
use std::sync::Arc;

use kv_core::Kv;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::session;

/// The most connections that are served at once. Further connections wait.
const MAX_CONNECTIONS: usize = 256;

/// Serves a session to each connection concurrently until accepting fails.
///
/// There is no authentication: any process that can connect can read and write the store.
///
/// # Errors
/// The errors of accepting, and `InvalidInput` for a listener whose address is not loopback.
///
/// # Cancel safety
/// Running sessions continue after the future is dropped.
pub async fn listen(kv: &Kv, listener: TcpListener) -> io::Result<()> {
    let sessions = Sessions::new(kv, listener)?;
    loop {
        sessions.accept().await?;
    }
}

/// Serves like [`listen`], and returns when the session of the first connection ends. A
/// [`LinesStore`](crate::LinesStore) keeps its first connection open as long as it lives, so the server runs as long as
/// that client.
///
/// # Errors
/// The same as [`listen`], and a panic of the first session.
///
/// # Cancel safety
/// Running sessions continue after the future is dropped.
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
    permits: Arc<Semaphore>,
}

impl Sessions {
    fn new(kv: &Kv, listener: TcpListener) -> io::Result<Self> {
        if !listener.local_addr()?.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the listener is not on a loopback address"));
        }
        Ok(Self { kv: kv.clone(), listener, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) })
    }

    /// Accepts a connection, and spawns its session.
    async fn accept(&self) -> io::Result<JoinHandle<()>> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        let connection = self.next().await?;
        // Responses are small and latency matters. An error only leaves the delay in place.
        let _ = connection.set_nodelay(true);
        let kv = self.kv.clone();
        Ok(tokio::spawn(async move {
            let (reader, writer) = connection.into_split();
            // A broken connection ends only its own session.
            let _ = session(&kv, reader, writer).await;
            drop(permit);
        }))
    }

    async fn next(&self) -> io::Result<TcpStream> {
        loop {
            match self.listener.accept().await {
                Ok((connection, _)) => return Ok(connection),
                // The peer closed the connection before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
