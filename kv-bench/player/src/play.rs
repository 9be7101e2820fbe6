//! A turn of traffic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::peer::Peer;
use crate::trace::{Step, Trace};

/// What a turn came to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Played {
    /// How many operations were done.
    pub operations: u64,
    /// How long they took.
    pub seconds: f64,
    /// Answers that were wrong.
    pub wrong: u64,
}

/// Plays the trace, all clients at once: again and again for a tenth of the time at least. A peer that is slow stops when the time
/// is over, and is rated by what it did.
///
/// # Panics
/// The peer failed.
pub async fn play(peer: &Arc<dyn Peer>, trace: &Arc<Trace>, at_most: Duration) -> Played {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..trace.clients.len() {
        let (peer, trace) = (Arc::clone(peer), Arc::clone(trace));
        running.spawn(async move { run(&*peer, &trace.clients[client], start, at_most).await });
    }
    let parts = running.join_all().await;
    let seconds = start.elapsed().as_secs_f64();
    let (operations, wrong) = parts.iter().fold((0, 0), |(done, wrong), part| (done + part.0, wrong + part.1));
    Played { operations, seconds, wrong }
}

async fn run(peer: &dyn Peer, steps: &[Step], start: Instant, at_most: Duration) -> (u64, u64) {
    let (mut operations, mut wrong) = (0, 0);
    while start.elapsed() < at_most / 10 || operations == 0 {
        let pass = once(peer, steps, start, at_most).await;
        operations += pass.0;
        wrong += pass.1;
        if steps.is_empty() {
            break;
        }
    }
    (operations, wrong)
}

async fn once(peer: &dyn Peer, steps: &[Step], start: Instant, at_most: Duration) -> (u64, u64) {
    // Nothing is known of a key before its first write of this turn, because turns before have left entries.
    let mut known: HashMap<&[String], Option<&Bytes>> = HashMap::new();
    let (mut operations, mut wrong) = (0, 0);
    for step in steps {
        if start.elapsed() > at_most {
            break;
        }
        let is_right = match step {
            Step::Get { key } => {
                let found = peer.get(key).await;
                known.get(key.as_slice()).is_none_or(|known| is_same(found.as_ref(), *known))
            }
            Step::Set { key, value, ttl } => {
                peer.set(key, value.clone(), *ttl).await;
                known.insert(key, Some(value));
                true
            }
            Step::Delete { key } => {
                peer.delete(key).await;
                known.insert(key, None);
                true
            }
            Step::Cas { key, expected, value, ttl } => {
                let swapped = peer.cas(key, expected.as_ref(), value.as_ref(), *ttl).await;
                let is_right =
                    known.get(key.as_slice()).is_none_or(|known| is_same(*known, expected.as_ref()) == swapped);
                if swapped {
                    known.insert(key, value.as_ref());
                }
                is_right
            }
            Step::List { prefix } => {
                peer.list(prefix).await;
                true
            }
        };
        operations += 1;
        wrong += u64::from(!is_right);
        // A store in memory never waits, and the other clients have their turn.
        if operations % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    (operations, wrong)
}

/// Whether two JSON texts are one value: a database may have written it anew.
fn is_same(one: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let decode = |text: &Bytes| serde_json::from_slice::<serde_json::Value>(text).ok();
            one == other || decode(one).is_some_and(|value| decode(other) == Some(value))
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}
