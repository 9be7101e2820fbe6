//! Sessions over loopback connections.

use std::io;
use std::sync::Arc;

use anykv::Kv;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::session;

/// How many connections are served at once; more wait.
const MAX_CONNECTIONS: usize = 256;

/// Serves a session to each connection, side by side, until accepting fails.
///
/// There is no authentication: whoever can connect can read and write the store. Give it a loopback listener.
///
/// # Errors
/// What accepting gives, and `InvalidInput` for a listener that others than this machine can reach.
pub async fn listen(kv: &Kv, listener: TcpListener) -> io::Result<()> {
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the listener is not on a loopback address"));
    }
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let (connection, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The peer changed its mind while it waited.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        // Small responses are waited for; where this fails they only come later.
        let _ = connection.set_nodelay(true);
        let kv = kv.clone();
        tokio::spawn(async move {
            let (reader, writer) = connection.into_split();
            // A connection that breaks concerns its own session alone.
            let _ = session(&kv, reader, writer).await;
            drop(permit);
        });
    }
}
