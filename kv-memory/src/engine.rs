//! The engine of a store: unbounded or bounded.

use kv_core::{Entry, Key};

use crate::bounded::Bounded;
use crate::order::Order;
use crate::services::Services;
use crate::slot::{Now, Slot};
use crate::stats::MemoryStats;
use crate::unbounded::Unbounded;
use crate::update::Update;
use crate::yielding::charge;

/// The storage of entries. [`State`](crate::state::State) checks options and sizes before it calls an engine.
///
/// The futures of the bounded engine are large. They are boxed, because otherwise each future of a method here would be
/// as large, even for the unbounded engine.
#[derive(Debug)]
pub(crate) enum Engine {
    Unbounded(Unbounded),
    Bounded(Bounded),
}

impl Engine {
    pub(crate) fn services(&self) -> &Services {
        match self {
            Self::Unbounded(engine) => &engine.services,
            Self::Bounded(engine) => &engine.services,
        }
    }

    /// The cost of a call over one key, as a multiple of the cost of `get` in the unbounded engine.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Unbounded(_) => 1,
            Self::Bounded(_) => Bounded::COST,
        }
    }

    /// True if the key has a live entry.
    pub(crate) async fn contains(&self, key: &Key) -> bool {
        match self {
            Self::Unbounded(engine) => engine.contains(key),
            Self::Bounded(engine) => Box::pin(engine.get(key)).await.is_some(),
        }
    }

    /// Reads the live entries of several keys. The reads are not one snapshot.
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        match self {
            Self::Unbounded(engine) => engine.get_many(keys).await,
            Self::Bounded(engine) => {
                let mut entries = Vec::with_capacity(keys.len());
                for key in keys {
                    charge(Bounded::COST).await;
                    entries.push(Box::pin(engine.get(key)).await);
                }
                entries
            }
        }
    }

    /// Returns for each key true if it has a live entry. The reads are not one snapshot.
    pub(crate) async fn contains_many(&self, keys: &[Key]) -> Vec<bool> {
        match self {
            Self::Unbounded(engine) => engine.contains_many(keys).await,
            Self::Bounded(_) => self.get_many(keys).await.iter().map(Option::is_some).collect(),
        }
    }

    /// Computes an update from the slot of a key and applies it, as one atomic step. After a change, notifies the
    /// watchers and wakes the sweeper if the new slot has a deadline.
    pub(crate) async fn update<T: Send>(
        &self,
        key: &Key,
        update: impl FnOnce(Option<&Slot>, &Now<'_>) -> Update<T> + Send,
    ) -> T {
        match self {
            Self::Unbounded(engine) => engine.update(key, update),
            Self::Bounded(engine) => Box::pin(engine.update(key, update)).await,
        }
    }

    /// Returns the ordered index of the keys. The index has every key that has an entry. In the bounded engine, the
    /// index may also have keys without an entry.
    pub(crate) fn order(&self) -> &Order {
        match self {
            Self::Unbounded(engine) => engine.order(),
            Self::Bounded(engine) => engine.order(),
        }
    }

    /// Removes the expired entries and returns their number.
    pub(crate) async fn sweep(&self) -> u64 {
        match self {
            Self::Unbounded(engine) => engine.sweep().await,
            Self::Bounded(engine) => Box::pin(engine.sweep()).await,
        }
    }

    /// True if the sweeper has nothing to do, so that its task can end.
    pub(crate) fn is_swept(&self) -> bool {
        match self {
            Self::Unbounded(engine) => engine.is_swept(),
            Self::Bounded(engine) => engine.is_swept(),
        }
    }

    /// Removes all entries without notifying the watchers.
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
