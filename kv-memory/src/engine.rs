//! The two engines behind one type.

use kv_core::{Entry, Key};

use crate::bounded::Bounded;
use crate::context::Context;
use crate::decide::Decision;
use crate::order::Order;
use crate::slot::{Now, Slot};
use crate::stats::MemoryStats;
use crate::unbounded::Unbounded;

/// Where the entries are. All that is said about keys, options and outcomes stands above it, once for both.
///
/// The futures of the bounded engine are boxed, for they are large: a caller of the other one would carry them along.
#[derive(Debug)]
pub(crate) enum Engine {
    Unbounded(Unbounded),
    Bounded(Bounded),
}

impl Engine {
    pub(crate) fn context(&self) -> &Context {
        match self {
            Self::Unbounded(engine) => &engine.context,
            Self::Bounded(engine) => &engine.context,
        }
    }

    /// Whether a key has a live entry.
    pub(crate) async fn contains(&self, key: &Key) -> bool {
        match self {
            Self::Unbounded(engine) => engine.contains(key),
            Self::Bounded(engine) => Box::pin(engine.get(key)).await.is_some(),
        }
    }

    /// Reads the live entries of several keys. Not a snapshot.
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        match self {
            Self::Unbounded(engine) => engine.get_many(keys),
            Self::Bounded(engine) => {
                let mut entries = Vec::with_capacity(keys.len());
                for key in keys {
                    entries.push(Box::pin(engine.get(key)).await);
                }
                entries
            }
        }
    }

    /// Which of several keys have a live entry. Not a snapshot.
    pub(crate) async fn contains_many(&self, keys: &[Key]) -> Vec<bool> {
        match self {
            Self::Unbounded(engine) => engine.contains_many(keys),
            Self::Bounded(_) => self.get_many(keys).await.iter().map(Option::is_some).collect(),
        }
    }

    /// Decides over the slot of a key, and does it, as one atomic step; tells the watchers and the sweeper.
    pub(crate) async fn mutate<T: Send>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<&Slot>, &Now<'_>) -> Decision<T> + Send,
    ) -> T {
        match self {
            Self::Unbounded(engine) => engine.mutate(key, decide),
            Self::Bounded(engine) => Box::pin(engine.mutate(key, decide)).await,
        }
    }

    /// Every key that has an entry, in order; in the bounded engine some have none any more.
    pub(crate) fn order(&self) -> &Order {
        match self {
            Self::Unbounded(engine) => engine.order(),
            Self::Bounded(engine) => engine.order(),
        }
    }

    /// Removes what has expired and tells how much it was.
    pub(crate) async fn sweep(&self) -> u64 {
        match self {
            Self::Unbounded(engine) => engine.sweep().await,
            Self::Bounded(engine) => Box::pin(engine.sweep()).await,
        }
    }

    /// Whether the sweeping task has nothing to wait for.
    pub(crate) fn is_swept(&self) -> bool {
        match self {
            Self::Unbounded(engine) => engine.is_swept(),
            Self::Bounded(engine) => engine.is_swept(),
        }
    }

    /// Drops everything and tells nobody.
    pub(crate) async fn clear(&self) {
        match self {
            Self::Unbounded(engine) => engine.clear(),
            Self::Bounded(engine) => Box::pin(engine.clear()).await,
        }
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let (entries, deadlines) = match self {
            Self::Unbounded(engine) => engine.count(),
            Self::Bounded(engine) => engine.count(),
        };
        MemoryStats { entries, deadlines, ordered_keys: self.order().len() }
    }
}
