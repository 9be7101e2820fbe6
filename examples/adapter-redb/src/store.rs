//! The store and its builder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::adapter::engine::{self, EngineOptions, EngineStore};
use kv_core::adapter::io_error;
use kv_core::{Capabilities, Clock, Durability, Error, KvStore, Result, Survives, delegate_store};
use redb::{Builder, Database, StorageBackend};

use crate::engine::RedbEngine;
use crate::error;

const DURABILITY: Durability = Durability::surviving(Survives::Power);

/// The capabilities of this store. A write is flushed to the disk before it is acknowledged: `tests/storage.rs` shows it.
pub const CAPABILITIES: Capabilities = engine::CAPABILITIES.with_durability(DURABILITY);

/// A store in one file of redb. Only one store may have the file open at a time. Clones share one store.
#[derive(Debug, Clone)]
pub struct RedbStore {
    inner: EngineStore<RedbEngine>,
}

impl RedbStore {
    /// Opens the file, or creates it together with its folder.
    ///
    /// # Errors
    /// `Unavailable` if another store has the file open, `Corrupt` if the file is damaged or belongs to another program.
    pub async fn open(path: impl AsRef<Path> + Send) -> Result<Self> {
        Self::builder().open(path).await
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> RedbBuilder {
        RedbBuilder::default()
    }
}

#[async_trait]
impl KvStore for RedbStore {
    delegate_store!(self.inner);
}

/// The settings of a store.
#[derive(Debug, Clone)]
pub struct RedbBuilder {
    options: EngineOptions,
    create: bool,
    cache_bytes: usize,
}

impl RedbBuilder {
    /// Sets whether a missing file is created. The default is true. With false, a missing file is `Invalid`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the size of redb's cache, in bytes. The default is 64 MiB.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets the clock, for tests that move the time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options = self.options.with_clock(clock);
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// The errors of [`RedbStore::open`], and `Invalid` if the file is missing and must not be created.
    pub async fn open(self, path: impl AsRef<Path> + Send) -> Result<RedbStore> {
        let (path, create, cache_bytes) = (path.as_ref().to_owned(), self.create, self.cache_bytes);
        let open = move || RedbEngine::new(open_file(path, create, cache_bytes)?);
        Ok(RedbStore { inner: EngineStore::open(self.options, open).await? })
    }

    /// Opens a database in another storage than a file, for tests that make the storage fail.
    ///
    /// # Errors
    /// The errors of [`RedbStore::open`].
    pub async fn open_in(self, storage: impl StorageBackend) -> Result<RedbStore> {
        let cache_bytes = self.cache_bytes;
        let open = move || {
            let database = Builder::new().set_cache_size(cache_bytes).create_with_backend(storage);
            RedbEngine::new(database.map_err(error::open)?)
        };
        Ok(RedbStore { inner: EngineStore::open(self.options, open).await? })
    }
}

impl Default for RedbBuilder {
    fn default() -> Self {
        Self { options: EngineOptions::new("redb", DURABILITY), create: true, cache_bytes: 64 << 20 }
    }
}

fn open_file(path: PathBuf, create: bool, cache_bytes: usize) -> Result<Database> {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    if !create {
        if !path.try_exists().map_err(io_error)? {
            return Err(Error::invalid("the file of the store does not exist"));
        }
        return builder.open(path).map_err(error::open);
    }
    let is_new = !path.try_exists().map_err(io_error)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    std::fs::create_dir_all(&folder).map_err(io_error)?;
    let database = builder.create(path).map_err(error::open)?;
    if is_new {
        // fsync the folder after creating a file: otherwise a loss of power can lose the file with its first writes.
        std::fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(io_error)?;
    }
    Ok(database)
}
