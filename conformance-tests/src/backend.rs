//! Suites for stores on a backend that processes share.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kv_core::{BoxFuture, Capabilities, Error, Key, KvStore, Result};

use crate::fresh::Fresh;
use crate::link::blocking;
use crate::process::{self, ChildProcess};
use crate::suite::Suite;

impl Suite {
    /// A suite for a store on a backend that processes share. `start` starts the backend before the first case and
    /// returns a guard that keeps it running, and its address. The guard is dropped after the last case. `open` opens
    /// the store of a case there. The suite has second handles in this process and in a second process, which is this
    /// program started again.
    ///
    /// In the second process, this function does not return: it serves stores until the first process ends. So call it
    /// in the `main` of a test program (`harness = false`), before anything that must happen only once.
    ///
    /// # Examples
    /// ```no_run
    /// use conformance_tests::{Fresh, Suite};
    /// # use kv_core::{Capabilities, Result};
    /// # fn start() -> (String, String) { Default::default() }
    /// # async fn connect(address: String, name: String) -> Result<kv_memory::MemoryStore> { unimplemented!() }
    /// # const CAPABILITIES: Capabilities = kv_memory::CAPABILITIES.with_shared();
    ///
    /// // The guard stops the server on drop; the string is its URL.
    /// let open = |url: String, fresh: Fresh| connect(url, fresh.name().to_owned());
    /// Suite::on_backend("mine", CAPABILITIES, start, open).main();
    /// ```
    ///
    /// # Panics
    /// Panics if the second process cannot serve.
    pub fn on_backend<B, F, S>(
        name: impl Into<String>,
        capabilities: Capabilities,
        start: impl FnOnce() -> (B, String) + Send + Sync + 'static,
        open: impl Fn(String, Fresh) -> F + Send + Sync + 'static,
    ) -> Self
    where
        B: Send + Sync + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        let name = name.into();
        if let Some(address) = process::served_backend(&name) {
            process::serve_all(|fresh| open(address.clone(), fresh))
        }
        let backend = Arc::new(Backend { start: Mutex::new(Some(start)), started: OnceLock::new() });
        let second = Arc::new(SecondProcess { suite: name.clone(), running: Mutex::default() });
        let (open, same_backend, asked) = (Arc::new(open), Arc::clone(&backend), Arc::clone(&backend));
        let open_here = move |fresh| {
            let (open, backend) = (Arc::clone(&open), Arc::clone(&backend));
            async move {
                let address = blocking(move || Ok(backend.address())).await?;
                open(address, fresh).await
            }
        };
        let open_in_second = move |fresh: Fresh| {
            let (second, backend) = (Arc::clone(&second), Arc::clone(&same_backend));
            async move {
                let response = blocking(move || second.request(&backend.address(), fresh.name())).await?;
                process::connect(&response).await
            }
        };
        let mut suite = Self::new(name, capabilities, open_here);
        suite.address = Some(Arc::new(move || {
            let backend = Arc::clone(&asked);
            Box::pin(blocking(move || Ok(backend.address())))
        }));
        suite.with_second_handle().with_second_process(open_in_second)
    }

    /// Sets the function that damages an entry, as [`Suite::with_damage`] does, for a suite on a backend. The function
    /// also gets the address of the backend, to change the stored bytes through a driver.
    #[must_use]
    pub fn with_damage_on_backend<D>(self, damage: impl Fn(String, Fresh, Key) -> D + Send + Sync + 'static) -> Self
    where
        D: Future<Output = Result<()>> + Send + 'static,
    {
        let (address, damage) = (self.address.clone(), Arc::new(damage));
        self.with_damage(move |fresh, key| {
            let (address, damage) = (address.clone(), Arc::clone(&damage));
            async move {
                let Some(address) = address else {
                    return Err(Error::invalid("`with_damage_on_backend` needs a suite of `Suite::on_backend`"));
                };
                damage(address().await?, fresh, key).await
            }
        })
    }
}

/// Returns the address of the backend, which starts if it does not run yet.
pub(crate) type Address = Arc<dyn Fn() -> BoxFuture<'static, Result<String>> + Send + Sync>;

/// The backend. It starts when the first store is opened, so that listing the cases starts no backend.
struct Backend<B, S> {
    start: Mutex<Option<S>>,
    started: OnceLock<(B, String)>,
}

impl<B, S: FnOnce() -> (B, String)> Backend<B, S> {
    fn address(&self) -> String {
        // `start` can be called only once. If it panicked, every later case panics here.
        let start = || self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = self.started.get_or_init(|| match start() {
            Some(start) => start(),
            None => panic!("the backend did not start for an earlier case"),
        });
        started.1.clone()
    }
}

/// The second process, which starts when the first store is opened in it.
struct SecondProcess {
    suite: String,
    running: Mutex<Option<ChildProcess>>,
}

impl SecondProcess {
    fn request(&self, backend: &str, name: &str) -> io::Result<String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let process = match &mut *running {
            Some(process) => process,
            none => none.insert(ChildProcess::start(&self.suite, backend)?),
        };
        process.request(name)
    }
}
