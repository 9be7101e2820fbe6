//! Entries that production stores of the recorded framework hold in addition to the traffic.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::peer::Peer;

/// The name and the number of entries of each family, and the minimum and maximum size of a value in bytes: 200,000
/// public keys of 0.6 to 1 KB, 15,000 small strings and 100,000 documents of 6 KB.
const FAMILIES: [(&str, u64, u64, u64); 3] = [
    ("publicKey", 200_000, 600, 1_000),
    ("httpMessageSignaturesSpec", 15_000, 9, 30),
    ("remoteDocument", 100_000, 5_700, 6_300),
];

/// The number of concurrent writers.
const WRITERS: u64 = 64;

/// Writes this share of each family. Returns the number of entries.
///
/// # Panics
/// The peer failed.
pub async fn prefill(peer: &Arc<dyn Peer>, share: f64) -> u64 {
    let mut running = JoinSet::new();
    for writer in 0..WRITERS {
        let peer = Arc::clone(peer);
        running.spawn(async move {
            let mut written = 0;
            for (family, count, min, max) in FAMILIES {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of entries")]
                #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
                let count = (count as f64 * share).ceil() as u64;
                for number in (writer..count).step_by(usize::try_from(WRITERS).unwrap()) {
                    let host = number % 997;
                    let key = ["_fedify", family, &format!("https://h{host}.prefill.example/{number:07}")];
                    let key = key.map(str::to_owned);
                    peer.set(&key, value(number, min, max), None).await;
                    written += 1;
                    if written % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            written
        });
    }
    running.join_all().await.into_iter().sum()
}

/// Returns a JSON string of random characters with `min` to `max` bytes.
fn value(seed: u64, min: u64, max: u64) -> Bytes {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let bytes = usize::try_from(min + next() % (max - min + 1)).unwrap();
    let mut text = Vec::with_capacity(bytes);
    text.push(b'"');
    while text.len() + 1 < bytes {
        let number = next();
        text.extend((0..10).map(|position| CHARACTERS[usize::try_from((number >> (6 * position)) & 63).unwrap()]));
    }
    text.truncate(bytes - 1);
    text.push(b'"');
    text.into()
}
