//! Gets that are made at the same time, put together where there are many.
//!
//! As long as few gets are under way, each is sent at once and alone. Of many, those that are ready within one turn of the
//! scheduler go as one `MGET`: the server and both ends of the connection have one command to read where they had a hundred.
//! None waits for the answer to another, so a slow network makes none slower, and none joins a command that was sent already.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kv_core::{Entry, Key, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::store::Shared;

/// From how many gets under way on they are put together. Below, a command of one's own is answered sooner.
const MANY: usize = 32;

/// How many keys go into one command at most, and about how many bytes come back.
const MAX_KEYS: usize = 128;
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct Gather {
    under_way: AtomicUsize,
    /// About how long the last values were.
    value_bytes: AtomicUsize,
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    key: Key,
    reply: oneshot::Sender<Result<Option<Entry>>>,
}

/// A get that is under way, for as long as its caller waits.
struct UnderWay<'g>(&'g Gather);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gather {
    /// Counts a get, and says whether it is one of many.
    fn begin(&self) -> (UnderWay<'_>, bool) {
        let others = self.under_way.fetch_add(1, Ordering::Relaxed);
        (UnderWay(self), others >= MANY)
    }

    /// Remembers how long a value was. What is written at the same time may be lost: it is a guess.
    fn learn(&self, found: &Result<Option<Entry>>) {
        let Ok(Some(entry)) = found else { return };
        let (before, now) = (self.value_bytes.load(Ordering::Relaxed), entry.value.len());
        if before != now {
            // A long one counts at once, and is forgotten slowly.
            self.value_bytes.store(now.max(before - before.div_ceil(16)), Ordering::Relaxed);
        }
    }

    /// How many keys one command may have.
    fn room(&self) -> usize {
        (MAX_BYTES / self.value_bytes.load(Ordering::Relaxed).max(1)).min(MAX_KEYS)
    }
}

/// The entry of a key.
pub(crate) async fn get(shared: &Arc<Shared>, key: &Key) -> Result<Option<Entry>> {
    let (_under_way, is_one_of_many) = shared.gather.begin();
    if is_one_of_many && !shared.is_plain() && !shared.link.is_cluster() && shared.gather.room() > 1 {
        // If whoever was to send it has ended, with its runtime, it is sent alone.
        if let Ok(found) = Box::pin(join(shared, key)).await {
            return found;
        }
    }
    let found = shared.get(key).await;
    shared.gather.learn(&found);
    found
}

/// Waits with others until all that are ready have come, and for the answer.
async fn join(shared: &Arc<Shared>, key: &Key) -> Result<Result<Option<Entry>>, oneshot::error::RecvError> {
    let (reply, answer) = oneshot::channel();
    let is_first = {
        let mut waiting = shared.gather.waiting.lock();
        waiting.push(Waiting { key: key.clone(), reply });
        waiting.len() == 1
    };
    if is_first {
        // A task of its own: whoever is first may be dropped, and the others have their answers nevertheless.
        tokio::spawn(send(Turn { shared: Arc::clone(shared), is_owed: true }));
    }
    answer.await
}

/// The duty to send what has come together. Where it ends with its runtime, those who wait are told.
struct Turn {
    shared: Arc<Shared>,
    is_owed: bool,
}

impl Turn {
    fn take(&mut self) -> Vec<Waiting> {
        self.is_owed = false;
        std::mem::take(&mut *self.shared.gather.waiting.lock())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_owed {
            drop(self.take());
        }
    }
}

async fn send(mut turn: Turn) {
    tokio::task::yield_now().await;
    let mut waiting = turn.take();
    let shared = Arc::clone(&turn.shared);
    // Whose caller has gone meanwhile needs no answer.
    waiting.retain(|waiting| !waiting.reply.is_closed());
    let mut parts = Vec::new();
    while !waiting.is_empty() {
        let rest = waiting.split_off(shared.gather.room().clamp(1, waiting.len()));
        parts.push(std::mem::replace(&mut waiting, rest));
    }
    let Some(last) = parts.pop() else { return };
    for part in parts {
        tokio::spawn(send_part(Arc::clone(&shared), part));
    }
    send_part(shared, last).await;
}

async fn send_part(shared: Arc<Shared>, part: Vec<Waiting>) {
    let (keys, replies): (Vec<_>, Vec<_>) = part.into_iter().map(|Waiting { key, reply }| (key, reply)).unzip();
    for (found, reply) in shared.get_many(&keys).await.into_iter().zip(replies) {
        shared.gather.learn(&found);
        let _ = reply.send(found);
    }
}
