//! Stores that have a link of their own to the backend, which is cut and healed.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kv_core::{Capabilities, Error, KvStore, Result};

use crate::suite::{Fresh, Suite};

impl Suite {
    /// A store whose link to the backend can be cut: a proxy that was put between, or a server of its own that is killed and
    /// started again. `lay` makes the link of a case's store, `open` opens a store over it, once or twice, `cut` lets nothing
    /// through any more, and `heal` makes it whole again; healing what is whole is fine. All but `open` may block.
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
        lay: impl Fn() -> io::Result<L> + Send + Sync + 'static,
        open: impl Fn(&L, Fresh) -> F + Send + Sync + 'static,
        cut: impl Fn(&mut L) -> io::Result<()> + Send + Sync + 'static,
        heal: impl Fn(&mut L) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self
    where
        L: Send + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        let links = Arc::new(Links { lay, laid: Mutex::default() });
        let (open, cut, heal) = (Arc::new(open), Arc::new(cut), Arc::new(heal));
        let opening = {
            let links = Arc::clone(&links);
            move |fresh: Fresh| {
                let (links, open) = (Arc::clone(&links), Arc::clone(&open));
                async move { blocking(move || links.with(&fresh.clone(), |link| Ok(open(link, fresh)))).await?.await }
            }
        };
        let cutting = {
            let links = Arc::clone(&links);
            move |fresh: Fresh| {
                let (links, cut) = (Arc::clone(&links), Arc::clone(&cut));
                blocking(move || links.with(&fresh, |link| cut(link)))
            }
        };
        let healing = move |fresh: Fresh| {
            let (links, heal) = (Arc::clone(&links), Arc::clone(&heal));
            blocking(move || links.with(&fresh, |link| heal(link)))
        };
        Self::new(name, capabilities, opening).with_second_handle().with_outage(cutting, healing)
    }
}

/// The links, each by the name of its store.
struct Links<L, M> {
    lay: M,
    laid: Mutex<HashMap<String, Arc<Mutex<L>>>>,
}

impl<L, M: Fn() -> io::Result<L>> Links<L, M> {
    /// Does something with the link of a store, which is laid where it is not there.
    fn with<T>(&self, fresh: &Fresh, act: impl FnOnce(&mut L) -> io::Result<T>) -> io::Result<T> {
        let known = self.laid.lock().unwrap_or_else(PoisonError::into_inner).get(fresh.name()).cloned();
        let link = if let Some(link) = known {
            link
        } else {
            // Outside of the lock: a server takes its time to start, and others start beside it.
            let link = Arc::new(Mutex::new((self.lay)()?));
            let mut laid = self.laid.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(laid.entry(fresh.name().to_owned()).or_insert(link))
        };
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut link)
    }
}

/// Does what blocks, off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let failed = |error: &dyn std::fmt::Display| Error::unavailable(error.to_string());
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}
