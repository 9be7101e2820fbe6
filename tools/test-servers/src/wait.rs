//! Polling with a timeout.

use std::io;
use std::time::{Duration, Instant};

/// The timeout of a state change of a server. The timeout is long, because the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Calls `poll` until it returns a value. An inner `Err` means that polling continues. Its text is the reason, and
/// appears in the timeout error.
///
/// # Errors
/// `poll` failed, or `TimedOut` after `limit`.
#[expect(clippy::disallowed_methods, reason = "a private server runs on the system clock, which no test can move")]
pub(crate) fn until<T>(limit: Duration, mut poll: impl FnMut() -> io::Result<Result<T, String>>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match poll()? {
            Ok(found) => return Ok(found),
            Err(reason) if start.elapsed() > limit => {
                let text = format!("timed out after {limit:?}: {reason}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(_) => std::thread::sleep(POLL_INTERVAL),
        }
    }
}
