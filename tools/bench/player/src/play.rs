//! Plays a trace.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::peer::Peer;
use crate::trace::{Step, Trace};

/// The result of playing a trace.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Played {
    /// The number of completed operations.
    pub operations: u64,
    /// The elapsed time, in seconds.
    pub seconds: f64,
    /// The number of wrong answers.
    pub wrong: u64,
}

/// Plays the trace with all clients at once, and repeats the trace until at least a tenth of `limit` has passed. A slow
/// peer stops after `limit`, and its throughput counts the completed operations.
///
/// # Panics
/// The peer failed.
pub async fn play(peer: &Arc<dyn Peer>, trace: &Arc<Trace>, limit: Duration) -> Played {
    let start = Instant::now();
    let (mut operations, mut wrong) = (0, 0);
    while operations == 0 || start.elapsed() < limit / 10 {
        let mut running = JoinSet::new();
        for client in 0..trace.clients.len() {
            let (peer, trace) = (Arc::clone(peer), Arc::clone(trace));
            running.spawn(async move { play_client(&*peer, &trace.clients[client], start, limit).await });
        }
        for (completed, mistakes) in running.join_all().await {
            operations += completed;
            wrong += mistakes;
        }
    }
    Played { operations, seconds: start.elapsed().as_secs_f64(), wrong }
}

async fn play_client(peer: &dyn Peer, steps: &[Step], start: Instant, limit: Duration) -> (u64, u64) {
    // The value of a key is unknown before its first write in this run, because earlier runs have left entries.
    let mut known: HashMap<&[String], Option<&Bytes>> = HashMap::new();
    let (mut operations, mut wrong) = (0, 0);
    for step in steps {
        if start.elapsed() > limit {
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
        // An in-memory store never yields. Without this yield, it would block the other clients.
        if operations % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    (operations, wrong)
}

/// True if two JSON texts are the same value. A database may have reformatted the text.
fn is_same(one: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let decode = |text: &Bytes| serde_json::from_slice::<serde_json::Value>(text).ok();
            one == other || decode(one).is_some_and(|value| decode(other) == Some(value))
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// A map that, if `forgets` is set, ignores writes of some keys.
    #[derive(Debug, Default)]
    struct Map {
        entries: Mutex<HashMap<Vec<String>, Bytes>>,
        forgets: bool,
    }

    #[async_trait]
    impl Peer for Map {
        async fn get(&self, key: &[String]) -> Option<Bytes> {
            self.entries.lock().unwrap().get(key).cloned()
        }

        async fn set(&self, key: &[String], value: Bytes, _: Option<Duration>) {
            if !(self.forgets && key.join("").len().is_multiple_of(7)) {
                self.entries.lock().unwrap().insert(key.to_vec(), value);
            }
        }

        async fn delete(&self, key: &[String]) {
            self.entries.lock().unwrap().remove(key);
        }

        async fn list(&self, _: &[String]) -> Option<usize> {
            None
        }
    }

    async fn play_on(map: Map) -> Played {
        let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../workloads/federation.jsonl.gz");
        let peer: Arc<dyn Peer> = Arc::new(map);
        play(&peer, &Arc::new(Trace::read(&recording, 16)), Duration::from_secs(10)).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_correct_map_has_no_wrong_answers_and_a_forgetful_map_has_some() {
        let right = play_on(Map::default()).await;
        assert_eq!((right.operations % 10_714, right.wrong), (0, 0), "{right:?}");
        assert!(play_on(Map { forgets: true, ..Map::default() }).await.wrong > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn prefill_writes_the_requested_share() {
        let map: Arc<dyn Peer> = Arc::new(Map::default());
        assert_eq!(crate::prefill(&map, 0.001).await, 315);
        let key = ["_fedify", "publicKey", "https://h7.prefill.example/0000007"].map(str::to_owned);
        let value = map.get(&key).await.unwrap();
        assert!((600..=1_000).contains(&value.len()) && serde_json::from_slice::<String>(&value).is_ok());
    }
}
