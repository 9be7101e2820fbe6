//! Serves each connection of a listener as a session.

use std::io;
use std::time::Duration;

use kv_core::{Clock, Kv, SystemClock};
use tokio::task::JoinHandle;

use super::admission::{Admission, Stranger};
use super::config::ServeConfig;
use super::listener::{Halves, Listener};
use super::rules::Rules;
use super::session;

/// The delay after a failed accept. Most failures are temporary: the system is out of file descriptors, or the peer has
/// closed the connection.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

/// Serves a session to each connection concurrently. A failed accept is repeated after a delay, so this function does
/// not return.
///
/// All sessions together hold at most 4 request lines longer than 64 KiB, and at most 128 MiB of responses and events
/// longer than 64 KiB. At most 64 connections wait for their session. If more connections arrive, those that have not
/// sent `hello` are disconnected, the oldest first.
///
/// A session ends if its first line does not arrive within 5 seconds or is not `hello`. A session also ends if it waits
/// for 5 seconds with a request line longer than 64 KiB while other sessions hold 4 such lines, if such a request line
/// does not end within 30 seconds, or if the peer does not read a response longer than 64 KiB in time.
///
/// # Errors
/// Never at present, because a failed accept is repeated.
///
/// # Cancel safety
/// Running sessions continue after the future is dropped.
pub async fn listen(kv: &Kv, listener: Listener, config: &ServeConfig) -> io::Result<()> {
    let sessions = Sessions::new(kv, listener, config);
    loop {
        sessions.accept().await;
    }
}

/// Serves like [`listen`], and returns when the session of the first connection ends. A
/// [`LinesStore`](crate::LinesStore) keeps its first connection open until it is closed or dropped, so a server with
/// one client ends when this client ends.
///
/// # Errors
/// An error if the first session panics.
///
/// # Cancel safety
/// Running sessions continue after the future is dropped.
pub async fn serve(kv: &Kv, listener: Listener, config: &ServeConfig) -> io::Result<()> {
    let sessions = Sessions::new(kv, listener, config);
    let mut first_session = sessions.accept().await;
    loop {
        tokio::select! {
            ended = &mut first_session => return match ended {
                Err(error) if error.is_panic() => Err(io::Error::other(error)),
                _ => Ok(()),
            },
            accepted = sessions.accept() => drop(accepted),
        }
    }
}

struct Sessions {
    kv: Kv,
    listener: Listener,
    rules: Rules,
    admission: Admission,
}

impl Sessions {
    fn new(kv: &Kv, listener: Listener, config: &ServeConfig) -> Self {
        let rules = Rules::socket(listener.token(), config.idle_timeout);
        let (sessions, waiting) = config.connection_limits();
        Self { kv: kv.clone(), listener, rules, admission: Admission::new(sessions, waiting) }
    }

    /// Accepts a connection and spawns its session.
    async fn accept(&self) -> JoinHandle<()> {
        let (reader, writer) = self.next_connection().await;
        let (kv, rules) = (self.kv.clone(), self.rules.clone());
        let serve = |stranger: Stranger| async move {
            // A broken connection ends only its own session.
            let _ = session::run(&kv, reader, writer, rules, stranger.admit()).await;
        };
        self.admission.spawn(serve).await
    }

    async fn next_connection(&self) -> Halves {
        loop {
            match self.listener.accept().await {
                Ok(connection) => return connection,
                Err(_) => SystemClock.sleep(ACCEPT_DELAY).await,
            }
        }
    }
}
