//! Serves sessions over connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Kv, SystemClock};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::config::ServeConfig;
use super::listener::{Halves, Listener};
use super::rules::Rules;
use super::session;

/// The delay after a failed accept. Most failures pass: another process has the descriptors, or the peer is gone.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

/// Serves a session to each connection concurrently. A failed accept is repeated after a delay, so this function does
/// not return.
///
/// The sessions share the memory for large lines: 4 unfinished request lines above 64 KiB, and 128 MiB of answers above
/// 64 KiB. A session ends if its first line does not arrive within 5 seconds or is not `hello`, if there is no room for
/// its unfinished line, and if it does not read a large answer in time.
///
/// # Errors
/// None at present.
///
/// # Cancel safety
/// Running sessions continue after the future is dropped.
pub async fn listen(kv: &Kv, listener: Listener, config: &ServeConfig) -> io::Result<()> {
    let sessions = Sessions::new(kv, listener, config);
    loop {
        sessions.accept().await?;
    }
}

/// Serves like [`listen`], and returns when the session of the first connection ends. A
/// [`LinesStore`](crate::LinesStore) keeps its first connection open as long as it lives, so the server runs as long as
/// that client.
///
/// # Errors
/// A panic of the first session.
///
/// # Cancel safety
/// Running sessions continue after the future is dropped.
pub async fn serve(kv: &Kv, listener: Listener, config: &ServeConfig) -> io::Result<()> {
    let sessions = Sessions::new(kv, listener, config);
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
    listener: Listener,
    rules: Rules,
    permits: Arc<Semaphore>,
}

impl Sessions {
    fn new(kv: &Kv, listener: Listener, config: &ServeConfig) -> Self {
        let rules = Rules::socket(listener.token(), config.idle_timeout);
        Self { kv: kv.clone(), listener, rules, permits: Arc::new(Semaphore::new(config.connections())) }
    }

    /// Accepts a connection, and spawns its session.
    async fn accept(&self) -> io::Result<JoinHandle<()>> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        let (reader, writer) = self.next().await;
        let (kv, rules) = (self.kv.clone(), self.rules.clone());
        Ok(tokio::spawn(async move {
            // A broken connection ends only its own session.
            let _ = session::run(&kv, reader, writer, rules).await;
            drop(permit);
        }))
    }

    async fn next(&self) -> Halves {
        loop {
            match self.listener.accept().await {
                Ok(connection) => return connection,
                Err(_) => SystemClock.sleep(ACCEPT_DELAY).await,
            }
        }
    }
}
