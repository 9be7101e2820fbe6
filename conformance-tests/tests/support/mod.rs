//! A good store that can be reopened, disconnected, damaged and full: every handle uses a store in memory that stays in a registry.

mod damaged;
mod disk;
mod heartbeats;
mod link;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use conformance_tests::{Fresh, Suite};
use futures_util::StreamExt;
use kv_core::{
    ChangeSink, Clock, GapReason, KeyPrefix, KvStore, MessageStream, Registration, Result, WatchQuery, WatchStream,
    WatchTarget, delegate_store,
};
use kv_memory::{CAPABILITIES, MemoryStore};
use tokio::sync::watch;

use self::damaged::{Damaged, DamagedKeys};
use self::disk::{Disk, OnDisk};
use self::link::{Link, Remote};

/// The loss bound of stores whose sinks are called over their links.
const BOUND: Duration = Duration::from_millis(200);

/// A suite for good stores. `wrap` wraps each store when the store is opened.
pub(crate) fn suite<W>(name: &str, wrap: W) -> Suite
where
    W: Fn(Arc<dyn KvStore>, Arc<dyn Clock>) -> Arc<dyn KvStore> + Send + Sync + 'static,
{
    suite_with(name, None, wrap)
}

/// A suite for good stores whose sinks are called over their links, with heartbeats.
#[allow(dead_code, reason = "not every test program uses it")]
pub(crate) fn suite_with_heartbeats<W>(name: &str, wrap: W) -> Suite
where
    W: Fn(Arc<dyn KvStore>, Arc<dyn Clock>) -> Arc<dyn KvStore> + Send + Sync + 'static,
{
    suite_with(name, Some(BOUND), wrap)
}

fn suite_with<W>(name: &str, bound: Option<Duration>, wrap: W) -> Suite
where
    W: Fn(Arc<dyn KvStore>, Arc<dyn Clock>) -> Arc<dyn KvStore> + Send + Sync + 'static,
{
    let good: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let capabilities = wrap(good, Arc::new(kv_core::SystemClock)).info().capabilities;
    let (registry, wrap) = (Arc::new(Registry::default()), Arc::new(wrap));
    let [cut, heal, damage, fill, free] = std::array::from_fn(|_| Arc::clone(&registry));
    let open = move |fresh: Fresh| {
        let (registry, wrap) = (Arc::clone(&registry), Arc::clone(&wrap));
        async move { Ok(wrap(Arc::new(registry.open(&fresh, bound).await?), fresh.clock())) }
    };
    // The second process is only a handle in this process; `tests/processes.rs` has a real second process.
    Suite::new(name, capabilities, open.clone())
        .with_second_process(open)
        .with_clock()
        .with_reopen()
        .with_second_handle()
        .with_outage(
            move |fresh| {
                cut.link(&fresh).cut();
                async { Ok(()) }
            },
            move |fresh| {
                heal.link(&fresh).heal();
                async { Ok(()) }
            },
        )
        .with_damage(move |fresh, key| {
            damage.damaged_keys(&fresh).insert(key);
            async { Ok(()) }
        })
        .with_full_disk(
            move |fresh| {
                fill.disk(&fresh).fill();
                async { Ok(()) }
            },
            move |fresh| {
                free.disk(&fresh).free();
                async { Ok(()) }
            },
        )
}

/// The stores, links and disks of a run, by name.
#[derive(Debug, Default)]
struct Registry {
    stores: Mutex<HashMap<String, MemoryStore>>,
    links: Mutex<HashMap<String, Link>>,
    damaged: Mutex<HashMap<String, DamagedKeys>>,
    disks: Mutex<HashMap<String, Disk>>,
}

impl Registry {
    /// The link of the store of this name.
    fn link(&self, fresh: &Fresh) -> Link {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.entry(fresh.name().to_owned()).or_insert_with(Link::new).clone()
    }

    /// The damaged keys of the store of this name.
    fn damaged_keys(&self, fresh: &Fresh) -> DamagedKeys {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.entry(fresh.name().to_owned()).or_default().clone()
    }

    /// The disk of the store of this name.
    fn disk(&self, fresh: &Fresh) -> Disk {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.entry(fresh.name().to_owned()).or_default().clone()
    }

    async fn open(&self, fresh: &Fresh, bound: Option<Duration>) -> Result<Damaged<Remote<OnDisk<Handle>>>> {
        let closed = MemoryStore::new();
        closed.close().await?;
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let store = if let Some(store) = stores.get(fresh.name()) {
            store.clone()
        } else {
            let store = MemoryStore::builder().clock(fresh.clock()).build()?;
            assert_eq!(store.info().capabilities, CAPABILITIES);
            stores.insert(fresh.name().to_owned(), store.clone());
            store
        };
        let handle = Handle { store, closed, is_closed: watch::Sender::new(false), sinks: Mutex::default() };
        let inner = OnDisk { inner: handle, disk: self.disk(fresh) };
        Ok(Damaged { inner: Remote::new(inner, self.link(fresh), bound), keys: self.damaged_keys(fresh) })
    }
}

/// A handle whose `close` does not close the store.
#[derive(Debug)]
struct Handle {
    store: MemoryStore,
    /// A closed store, which gets the calls of the handle after its `close`.
    closed: MemoryStore,
    is_closed: watch::Sender<bool>,
    /// The sinks that were registered through this handle.
    sinks: Mutex<Vec<Weak<dyn ChangeSink>>>,
}

impl Handle {
    fn current(&self) -> &MemoryStore {
        if *self.is_closed.borrow() { &self.closed } else { &self.store }
    }

    /// Returns a future that completes when the handle is closed.
    fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut is_closed = self.is_closed.subscribe();
        async move {
            let _ = is_closed.wait_for(|is_closed| *is_closed).await;
        }
    }
}

#[async_trait]
impl KvStore for Handle {
    delegate_store!(self.current(), except watch watch_into subscribe close);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let closing = Box::pin(self.closing());
        Ok(Box::pin(self.current().watch(query).await?.take_until(closing)))
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let closing = Box::pin(self.closing());
        Ok(Box::pin(self.current().subscribe(channels).await?.take_until(closing)))
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let registration = self.current().watch_into(target, Arc::clone(&sink)).await?;
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&sink));
        Ok(registration)
    }

    async fn close(&self) -> Result<()> {
        self.is_closed.send_replace(true);
        for sink in self.sinks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(sink) = sink.upgrade() {
                sink.lost(GapReason::Closed);
            }
        }
        Ok(())
    }
}
