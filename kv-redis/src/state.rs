//! The state that all clones of a store and its tasks share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use kv_core::{Error, Result, StoreInfo, Version};
use redis::Value;
use tokio::task::AbortHandle;

use crate::codec::Format;
use crate::error::{Failure, read_error};
use crate::get_queue::GetQueue;
use crate::index_trust::IndexTrust;
use crate::layout::{Layout, Shape};
use crate::listener::hubs::Hubs;
use crate::script::Scripts;
use crate::server::router::{Request, Router};
use crate::write_gate::WriteGate;

/// The state of an open store. Each operation is a method of this type, in the file that is named after the operation.
///
/// Background tasks hold only weak references to the state. Therefore the state is dropped with the last clone of the
/// store, which closes the store.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) info: StoreInfo,
    pub(crate) router: Router,
    pub(crate) layout: Arc<Layout>,
    pub(crate) format: Format,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) hubs: Hubs,
    pub(crate) get_queue: GetQueue,
    /// The number of consecutive unconditional sets that found no entry to overwrite or did not try to overwrite one.
    pub(crate) misses: AtomicU32,
    /// True if a task has found the record of another layout in the database.
    pub(crate) is_layout_changed: AtomicBool,
    /// Records if the indexes may lack members.
    pub(crate) index_trust: IndexTrust,
    /// Refuses writes that would be weaker than the capabilities.
    pub(crate) write_gate: WriteGate,
    /// The number of connections when the settings of the servers were last read.
    pub(crate) settings_connections: AtomicU64,
    is_closed: AtomicBool,
    /// The task that reads the settings, and with an index the sweeper.
    tasks: OnceLock<Vec<AbortHandle>>,
}

impl State {
    pub(crate) fn new(
        info: StoreInfo,
        router: Router,
        layout: Layout,
        format: Format,
        scripts: Arc<Scripts>,
        channel_prefix: String,
    ) -> Arc<Self> {
        let layout = Arc::new(layout);
        let wake = Arc::clone(router.connections().listener_wake());
        Arc::new(Self {
            hubs: Hubs::new(Arc::clone(&layout), channel_prefix, info.watch_loss_bound, wake),
            info,
            router,
            layout,
            format,
            scripts,
            get_queue: GetQueue::default(),
            misses: AtomicU32::new(0),
            is_layout_changed: AtomicBool::new(false),
            index_trust: IndexTrust::default(),
            write_gate: WriteGate::default(),
            settings_connections: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            tasks: OnceLock::new(),
        })
    }

    /// Stores the abort handles of the background tasks, which `close` ends. The store calls this method once, when it
    /// is opened.
    pub(crate) fn set_tasks(&self, tasks: Vec<AbortHandle>) {
        let _ = self.tasks.set(tasks);
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.layout.shape == Shape::Plain
    }

    /// Returns the version that callers get: `None` in plain format, which stores no versions.
    pub(crate) fn visible_version(&self, version: Version) -> Option<Version> {
        (!self.is_plain()).then_some(version)
    }

    /// Checks that the store is open.
    ///
    /// # Errors
    /// `Closed` after the store was closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    /// Fails if the store was closed, or if its namespace has another layout now.
    fn check_usable(&self) -> Result<(), Failure> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::Closed);
        }
        if self.is_layout_changed.load(Ordering::Acquire) { Err(Failure::LayoutChanged) } else { Ok(()) }
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn call(&self, request: &Request) -> Result<Value, Failure> {
        self.check_usable()?;
        self.router.call(request).await
    }

    /// Sends several requests and waits for all replies. No two requests may concern the same key, see
    /// [`Router::call_many`].
    pub(crate) async fn call_many(&self, requests: &[Request]) -> Vec<Result<Value, Failure>> {
        if let Err(failure) = self.check_usable() {
            return vec![Err(failure); requests.len()];
        }
        match requests {
            [] => Vec::new(),
            [request] => vec![self.router.call(request).await],
            requests => self.router.call_many(requests).await,
        }
    }

    /// Sends `PING` to every master.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.check_open()?;
        for node in self.router.masters() {
            self.router.call_node(&node, &redis::cmd("PING")).await.map_err(read_error)?;
        }
        Ok(())
    }

    /// Returns the latest time that the clock of a master can show. Measures the clocks that are not measured yet.
    pub(crate) async fn time(&self) -> Result<SystemTime> {
        self.check_open()?;
        if !self.router.masters().iter().all(|node| node.is_measured()) {
            // A new connection measures the clock of its server.
            self.ping().await?;
        }
        let latest = self.router.masters().iter().map(|node| node.now().latest).max();
        latest.ok_or_else(|| Error::unavailable("no master is known"))
    }

    /// Ends the background tasks, the streams of subscribers and the connections.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
        self.hubs.close();
        self.router.close();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.close();
    }
}
