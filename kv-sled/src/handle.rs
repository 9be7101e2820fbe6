//! The store's handle and what its handles and threads share.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use kv_core::hub::{Changes, Hub, Messages};
use kv_core::{Clock, Result, StoreInfo};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::behind::Behind;
use crate::builder::SledBuilder;
use crate::config::SledDurability;
use crate::health::Health;
use crate::request::Message;
use crate::stats::{Counts, SledStats};

/// A store in a folder, by sled. Clones are handles on the same store.
///
/// # Examples
/// ```
/// use kv_core::{Key, KvStore, SetOptions};
/// use kv_sled::SledStore;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("data");
/// # let rt = tokio::runtime::Builder::new_current_thread().build()?;
/// # rt.block_on(async {
/// let store = SledStore::open(path).await?;
/// let key = Key::new(["users", "1"])?;
/// store.set(&key, "ada".into(), &SetOptions::default()).await?;
/// assert_eq!(store.get(&key).await?.unwrap().value, "ada");
/// store.close().await
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SledStore {
    pub(crate) inner: Arc<Inner>,
}

impl SledStore {
    /// Opens the store in this folder as it is by default, and makes it where there is none.
    ///
    /// # Errors
    /// As [`SledBuilder::open`].
    pub async fn open(path: impl AsRef<Path> + Send) -> Result<Self> {
        Self::builder().open(path).await
    }

    /// Chooses how a store is opened.
    pub fn builder() -> SledBuilder {
        SledBuilder::default()
    }

    /// What the store has done since it was opened.
    pub fn stats(&self) -> SledStats {
        self.inner.shared.counts.read()
    }
}

/// What the clones of a handle share; the worker ends with it.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) info: StoreInfo,
    pub(crate) shared: Arc<Shared>,
    pub(crate) messages: mpsc::Sender<Message>,
}

/// What the handles share with the store's threads.
pub(crate) struct Shared {
    pub(crate) health: Health,
    /// The tree for reads, from opening to closing.
    pub(crate) tree: RwLock<Option<sled::Tree>>,
    /// sled's settings, which know of errors in its background threads.
    pub(crate) settings: OnceLock<sled::Config>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) operation_timeout: Duration,
    pub(crate) changes: Hub<Changes>,
    pub(crate) letters: Hub<Messages>,
    pub(crate) counts: Counts,
    /// Where writes may be acknowledged before sled has them.
    pub(crate) behind: Option<Behind>,
}

impl Shared {
    pub(crate) fn new(clock: Arc<dyn Clock>, operation_timeout: Duration, durability: SledDurability) -> Self {
        let is_behind = matches!(durability, SledDurability::Interval(_));
        Self {
            health: Health::new(),
            tree: RwLock::new(None),
            settings: OnceLock::new(),
            clock,
            operation_timeout,
            changes: Hub::new(),
            letters: Hub::new(),
            counts: Counts::default(),
            behind: is_behind.then(Behind::new),
        }
    }
}

/// Without the tree, whose `Debug` shows everything that is stored.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { health, tree: _, settings: _, clock, operation_timeout, changes: _, letters: _, counts, behind: _ } =
            self;
        f.debug_struct("Shared")
            .field("health", health)
            .field("clock", clock)
            .field("operation_timeout", operation_timeout)
            .field("counts", counts)
            .finish_non_exhaustive()
    }
}
