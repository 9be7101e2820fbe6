//! Orders on standard input, a line of JSON each, and an answer for each on standard output.

use std::io::{Write, stdin, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::play::play;
use crate::prefill::prefill;
use crate::trace::Trace;

/// What a program is told to do. It ends when there are no more orders.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Write this share of what production holds; answered by a [`Prefilled`].
    Prefill(f64),
    /// Play the traffic for so many seconds at most; answered by a [`Played`](crate::Played).
    Play(f64),
}

/// What was written before.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Prefilled {
    /// How many entries.
    pub entries: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Does what it is told, until there are no more orders.
///
/// # Panics
/// The peer failed, or an order is none.
pub async fn serve(peer: Arc<dyn Peer>, trace: Trace) {
    let trace = Arc::new(trace);
    // Nothing else runs meanwhile: waiting on this thread is fine.
    for line in stdin().lines() {
        let answer = match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Prefill(share) => {
                let start = Instant::now();
                let entries = prefill(&peer, share).await;
                serde_json::to_string(&Prefilled { entries, seconds: start.elapsed().as_secs_f64() })
            }
            Order::Play(seconds) => {
                let played = play(&peer, &trace, Duration::from_secs_f64(seconds)).await;
                serde_json::to_string(&played)
            }
        };
        let mut out = stdout().lock();
        writeln!(out, "{}", answer.unwrap()).unwrap();
        out.flush().unwrap();
    }
}
