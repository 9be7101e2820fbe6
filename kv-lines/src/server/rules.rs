//! The limits that a session applies to its peer, and the memory that all sessions of a server share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::output::SHARED_BYTES;
use crate::token::Token;

/// The maximum number of large request lines that all sessions of a server hold at once.
const MAX_LARGE_LINES: usize = 4;

/// The maximum length in bytes of a small request line. A longer line needs a permit of [`Rules::large_lines`].
pub(super) const LARGE_LINE_BYTES: usize = 64 << 10;

/// The time that a session waits for the permit of a large line. After this time the session ends.
pub(super) const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that a peer has to send the rest of a large line that has a permit. After this time the session ends.
pub(super) const LINE_TIMEOUT: Duration = Duration::from_secs(30);

/// The time that a peer has to send the first line. After this time the session ends.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The limits of a session.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The token that the first line must have. `None` if the first line needs no token.
    pub(super) token: Option<Token>,
    /// The time without a request after which a session without streams ends.
    pub(super) idle_timeout: Option<Duration>,
    /// True for a socket, because its peer may be slow or hostile. False for stdin and stdout, which belong to the
    /// user.
    pub(super) is_socket: bool,
    /// One permit for each large request line.
    pub(super) large_lines: Arc<Semaphore>,
    /// One permit for each byte of large responses and events.
    pub(super) shared_output: Arc<Semaphore>,
}

impl Rules {
    /// Returns the rules for a session with a trusted peer: no token and no timeouts.
    pub(super) fn trusted() -> Self {
        Self {
            token: None,
            idle_timeout: None,
            is_socket: false,
            large_lines: Arc::new(Semaphore::new(MAX_LARGE_LINES)),
            shared_output: Arc::new(Semaphore::new(SHARED_BYTES)),
        }
    }

    /// Returns the rules for the sessions of a listener.
    pub(super) fn socket(token: Option<Token>, idle_timeout: Option<Duration>) -> Self {
        Self { token, idle_timeout, is_socket: true, ..Self::trusted() }
    }
}
