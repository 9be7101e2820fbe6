//! Suites whose stores each have a link of their own to the backend, which cases cut and heal.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kv_core::{BoxFuture, Capabilities, Error, KvStore, Result};

use crate::fresh::Fresh;
use crate::suite::Suite;

impl Suite {
    /// A suite whose stores each have a link to the backend that can be cut. A link is a proxy between store and
    /// backend, or a server of the store's own that is killed and started again. `start` starts the link of a case's
    /// store. `open` opens each handle of the store over the link. `cut` stops all data, and `heal` lets data pass
    /// again. `heal` may be called on a link that is not cut. `start`, `cut` and `heal` may block.
    ///
    /// # Examples
    /// ```no_run
    /// use conformance_tests::{Fresh, Suite};
    /// # use kv_memory::{CAPABILITIES, MemoryStore};
    /// # struct Proxy;
    /// # impl Proxy {
    /// #     fn start() -> std::io::Result<Self> { Ok(Self) }
    /// #     fn url(&self) -> String { String::new() }
    /// #     fn black_hole(&mut self) -> std::io::Result<()> { Ok(()) }
    /// #     fn pass(&mut self) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// # async fn connect(url: String, name: String) -> kv_core::Result<MemoryStore> { unimplemented!() }
    ///
    /// let open = |proxy: &Proxy, fresh: Fresh| connect(proxy.url(), fresh.name().to_owned());
    /// Suite::over_links("mine", CAPABILITIES, Proxy::start, open, Proxy::black_hole, Proxy::pass).main();
    /// ```
    pub fn over_links<L, F, S>(
        name: impl Into<String>,
        capabilities: Capabilities,
        start: impl Fn() -> io::Result<L> + Send + Sync + 'static,
        open: impl Fn(&L, Fresh) -> F + Send + Sync + 'static,
        cut: impl Fn(&mut L) -> io::Result<()> + Send + Sync + 'static,
        heal: impl Fn(&mut L) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self
    where
        L: Send + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        let links = Arc::new(Links::new(start));
        let opening = opening(Arc::clone(&links), open);
        let (cutting, healing) = (acting(Arc::clone(&links), cut), acting(links, heal));
        Self::new(name, capabilities, opening).with_second_handle().with_outage(cutting, healing)
    }
}

/// The function that opens the store of a [`Fresh`] over its link.
pub(crate) fn opening<L, M, F, S>(
    links: Arc<Links<L, M>>,
    open: impl Fn(&L, Fresh) -> F + Send + Sync + 'static,
) -> impl Fn(Fresh) -> BoxFuture<'static, Result<S>> + Send + Sync + 'static
where
    L: Send + 'static,
    M: Fn() -> io::Result<L> + Send + Sync + 'static,
    F: Future<Output = Result<S>> + Send + 'static,
    S: KvStore,
{
    let open = Arc::new(open);
    move |fresh| {
        let (links, open) = (Arc::clone(&links), Arc::clone(&open));
        Box::pin(async move { blocking(move || links.with(&fresh.clone(), |link| Ok(open(link, fresh)))).await?.await })
    }
}

/// The function that acts on the link of the store of a [`Fresh`].
pub(crate) fn acting<L, M>(
    links: Arc<Links<L, M>>,
    act: impl Fn(&mut L) -> io::Result<()> + Send + Sync + 'static,
) -> impl Fn(Fresh) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static
where
    L: Send + 'static,
    M: Fn() -> io::Result<L> + Send + Sync + 'static,
{
    let act = Arc::new(act);
    move |fresh| {
        let (links, act) = (Arc::clone(&links), Arc::clone(&act));
        Box::pin(blocking(move || links.with(&fresh, |link| act(link))))
    }
}

/// The links or disks of all stores, by the name of the store.
pub(crate) struct Links<L, M> {
    start: M,
    started: Mutex<HashMap<String, Arc<Mutex<L>>>>,
}

impl<L, M: Fn() -> io::Result<L>> Links<L, M> {
    pub(crate) fn new(start: M) -> Self {
        Self { start, started: Mutex::default() }
    }

    /// Calls `act` with the link of a store. Starts the link first if the store has none.
    fn with<T>(&self, fresh: &Fresh, act: impl FnOnce(&mut L) -> io::Result<T>) -> io::Result<T> {
        let known = self.started.lock().unwrap_or_else(PoisonError::into_inner).get(fresh.name()).cloned();
        let link = if let Some(link) = known {
            link
        } else {
            // Starts the link without the lock: starting a server takes time, and other links may start at the same
            // time.
            let link = Arc::new(Mutex::new((self.start)()?));
            let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(started.entry(fresh.name().to_owned()).or_insert(link))
        };
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut link)
    }
}

/// Runs blocking work on a thread for blocking calls. An error of the work becomes `Unavailable`.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let failed = |error: &dyn std::fmt::Display| Error::unavailable(error.to_string());
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}
