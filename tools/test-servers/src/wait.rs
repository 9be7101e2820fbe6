//! Asking until there is an answer.

use std::io;
use std::time::{Duration, Instant};

/// How long a server may take to start, on a machine that is busy with other things.
pub(crate) const START: Duration = Duration::from_secs(60);

const STEP: Duration = Duration::from_millis(5);

/// Asks again and again until there is something, `ask` fails, or `limit` has passed. What has kept it waiting is told then.
#[expect(
    clippy::disallowed_methods,
    reason = "a server of its own lives in the machine's time, which no test can move"
)]
pub(crate) fn until<T>(limit: Duration, mut ask: impl FnMut() -> io::Result<Result<T, String>>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match ask()? {
            Ok(found) => return Ok(found),
            Err(why) if begun.elapsed() > limit => {
                let text = format!("waited {limit:?} in vain: {why}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}
