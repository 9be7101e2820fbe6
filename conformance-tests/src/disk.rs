//! Suites whose stores each have a disk, or another medium, that cases fill.

use std::future::Future;
use std::io;
use std::sync::Arc;

use kv_core::{Capabilities, KvStore, Result};

use crate::fresh::Fresh;
use crate::link::{Links, acting, opening};
use crate::suite::Suite;
use crate::switch::Switch;

impl Suite {
    /// Sets the functions that fill the disk of an open store, and make room again. The disk stands for any medium
    /// that limits the store: a file system, a quota, the memory of a server. Both functions get the [`Fresh`] of the
    /// store. Each store needs a disk of its own, because other cases run at the same time. `fill` may leave room for
    /// less than 16 MiB of values, which the cases use up. `free` may be called on a disk that is not full.
    #[must_use]
    pub fn with_full_disk<A, B>(
        mut self,
        fill: impl Fn(Fresh) -> A + Send + Sync + 'static,
        free: impl Fn(Fresh) -> B + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Result<()>> + Send + 'static,
        B: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.full_disk = true;
        self.full_disk = Some(Switch::new(fill, free));
        self
    }

    /// A suite whose stores each have a disk that can be full, such as a small mounted file system or a server with
    /// little memory. `start` makes the disk of a case's store, which is dropped after the last case. `open` opens each
    /// handle of the store on the disk. `fill` and `free` do what [`Suite::with_full_disk`] says. `start`, `fill` and
    /// `free` may block.
    ///
    /// # Examples
    /// ```no_run
    /// use conformance_tests::{Fresh, Suite};
    /// # use kv_memory::{CAPABILITIES, MemoryStore};
    /// # struct SmallDisk;
    /// # impl SmallDisk {
    /// #     fn mount() -> std::io::Result<Self> { Ok(Self) }
    /// #     fn path(&self) -> std::path::PathBuf { Default::default() }
    /// # }
    /// # async fn open_store(path: std::path::PathBuf) -> kv_core::Result<MemoryStore> { unimplemented!() }
    ///
    /// let open = |disk: &SmallDisk, _: Fresh| open_store(disk.path().join("store"));
    /// let fill = |disk: &mut SmallDisk| std::fs::write(disk.path().join("filler"), vec![0; 10 << 20]);
    /// let free = |disk: &mut SmallDisk| std::fs::write(disk.path().join("filler"), []);
    /// Suite::on_disks("mine", CAPABILITIES, SmallDisk::mount, open, fill, free).main();
    /// ```
    pub fn on_disks<D, F, S>(
        name: impl Into<String>,
        capabilities: Capabilities,
        start: impl Fn() -> io::Result<D> + Send + Sync + 'static,
        open: impl Fn(&D, Fresh) -> F + Send + Sync + 'static,
        fill: impl Fn(&mut D) -> io::Result<()> + Send + Sync + 'static,
        free: impl Fn(&mut D) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self
    where
        D: Send + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        let disks = Arc::new(Links::new(start));
        let opening = opening(Arc::clone(&disks), open);
        Self::new(name, capabilities, opening).with_full_disk(acting(Arc::clone(&disks), fill), acting(disks, free))
    }

    /// Fills the disk of the store.
    pub(crate) async fn fill_disk(&self, fresh: &Fresh) -> Result<()> {
        match &self.full_disk {
            Some(full_disk) => full_disk.begin(fresh).await,
            None => Ok(()),
        }
    }

    /// Makes room on the disk of the store.
    pub(crate) async fn free_disk(&self, fresh: &Fresh) -> Result<()> {
        match &self.full_disk {
            Some(full_disk) => full_disk.end(fresh).await,
            None => Ok(()),
        }
    }
}
