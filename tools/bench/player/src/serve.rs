//! Serves requests from standard input, one line of JSON each, and answers each request on standard output.

use std::io::{Write, stdin, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::play::play;
use crate::prefill::prefill;
use crate::trace::Trace;

/// A request to a program. The program exits at the end of its input.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Writes this share of the entries that a production store holds. The answer is a [`Prefilled`].
    Prefill(f64),
    /// Plays the traffic for at most this many seconds. The answer is a [`Played`](crate::Played).
    Play(f64),
}

/// The result of a prefill.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Prefilled {
    /// The number of written entries.
    pub entries: u64,
    /// The elapsed time, in seconds.
    pub seconds: f64,
}

/// Serves requests until the end of the input.
///
/// # Panics
/// The peer failed, or a request is invalid.
pub async fn serve(peer: Arc<dyn Peer>, trace: Trace) {
    let trace = Arc::new(trace);
    // Blocking this thread is fine, because no other task runs between requests.
    for line in stdin().lines() {
        let answer = match serde_json::from_str(&line.unwrap()).unwrap() {
            Request::Prefill(share) => {
                let start = Instant::now();
                let entries = prefill(&peer, share).await;
                serde_json::to_string(&Prefilled { entries, seconds: start.elapsed().as_secs_f64() })
            }
            Request::Play(seconds) => {
                let played = play(&peer, &trace, Duration::from_secs_f64(seconds)).await;
                serde_json::to_string(&played)
            }
        };
        let mut out = stdout().lock();
        writeln!(out, "{}", answer.unwrap()).unwrap();
        out.flush().unwrap();
    }
}
