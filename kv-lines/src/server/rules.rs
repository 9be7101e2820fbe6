//! The limits that a session applies to its peer, and the memory that all sessions of a server share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::output::SHARED_BYTES;
use crate::token::Token;

/// The most request lines above [`LARGE_LINE_BYTES`] in memory at once, over all sessions.
const MAX_LARGE_LINES: usize = 4;

/// A longer request line takes one of the places for large lines.
pub(super) const LARGE_LINE_BYTES: usize = 64 << 10;

/// The time that a session waits for a place for its large line. Then it ends.
pub(super) const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time to receive a line after it has a place. Then the session ends.
pub(super) const LINE_TIMEOUT: Duration = Duration::from_secs(30);

/// The time until the first line. Then the session ends.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The limits of a session.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The token that the first line must have, if any.
    pub(super) token: Option<Token>,
    /// The time without a request and without a stream after which the session ends.
    pub(super) idle_timeout: Option<Duration>,
    /// True for a socket, whose peer may be slow or hostile; false for stdin and stdout, which belong to the user.
    pub(super) is_socket: bool,
    /// Places for large request lines.
    pub(super) large_lines: Arc<Semaphore>,
    /// Bytes for large answers.
    pub(super) shared_output: Arc<Semaphore>,
}

impl Rules {
    /// The rules for a session on streams that belong to the user: no token and no timeouts.
    pub(super) fn streams() -> Self {
        Self {
            token: None,
            idle_timeout: None,
            is_socket: false,
            large_lines: Arc::new(Semaphore::new(MAX_LARGE_LINES)),
            shared_output: Arc::new(Semaphore::new(SHARED_BYTES)),
        }
    }

    /// The rules for the sessions on a listener.
    pub(super) fn socket(token: Option<Token>, idle_timeout: Option<Duration>) -> Self {
        Self { token, idle_timeout, is_socket: true, ..Self::streams() }
    }
}
