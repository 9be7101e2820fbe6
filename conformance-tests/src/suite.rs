//! The suite: a store under test, its capabilities, and the hooks that open it.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{BoxFuture, Capabilities, Error, Key, KvStore, Result};

use crate::alternating::Alternating;
use crate::backend::Address;
use crate::fresh::Fresh;
use crate::process;
use crate::switch::Switch;

/// Opens the store of one case. The same [`Fresh`] opens the same store.
type Open = dyn Fn(Fresh) -> BoxFuture<'static, Result<Arc<dyn KvStore>>> + Send + Sync;

/// Damages the stored bytes of an entry in the closed store that was opened with this [`Fresh`].
type Damage = dyn Fn(Fresh, Key) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// Puts an outer store over the store that was opened with this [`Fresh`].
pub(crate) type Wrap = dyn Fn(Arc<dyn KvStore>, Fresh) -> BoxFuture<'static, Result<Arc<dyn KvStore>>> + Send + Sync;

/// The optional abilities of the harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a hook of its own, and the builder methods set them by name")]
pub(crate) struct Hooks {
    pub(crate) clock: bool,
    pub(crate) reopen: bool,
    pub(crate) second_handle: bool,
    pub(crate) second_process: bool,
    pub(crate) outage: bool,
    pub(crate) crash: bool,
    pub(crate) damage: bool,
    pub(crate) full_disk: bool,
    pub(crate) in_namespaces: bool,
}

/// A store under test, and the settings of its test runs.
///
/// # Examples
/// ```
/// use conformance_tests::Suite;
/// use kv_memory::{CAPABILITIES, MemoryStore};
///
/// let suite = Suite::new("memory", CAPABILITIES, |fresh| async move {
///     MemoryStore::builder().clock(fresh.clock()).build()
/// })
/// .with_clock();
/// # let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
/// # rt.block_on(async {
/// let report = suite.run("basics/").await;
/// assert!(report.is_green(), "{report}");
/// # });
/// ```
#[derive(Clone)]
pub struct Suite {
    pub(crate) name: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) hooks: Hooks,
    pub(crate) seed: u64,
    pub(crate) time_limit: Duration,
    pub(crate) cases_at_once: usize,
    pub(crate) scripts: usize,
    pub(crate) rerun: Option<String>,
    pub(crate) optional: bool,
    open: Arc<Open>,
    open_in_other_process: Option<Arc<Open>>,
    pub(crate) address: Option<Address>,
    pub(crate) alternates: bool,
    outage: Option<Switch>,
    damage: Option<Arc<Damage>>,
    pub(crate) full_disk: Option<Switch>,
}

impl Suite {
    /// A suite for a store of this name and with these declared capabilities. `open` opens the store of each case.
    ///
    /// The seed is random unless the environment sets `CONFORMANCE_SEED`.
    pub fn new<F, S, O>(name: impl Into<String>, capabilities: Capabilities, open: O) -> Self
    where
        O: Fn(Fresh) -> F + Send + Sync + 'static,
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        Self {
            name: name.into(),
            capabilities,
            hooks: Hooks::default(),
            seed: number_from_environment("CONFORMANCE_SEED").unwrap_or_else(rand::random::<u32>).into(),
            time_limit: Duration::from_secs(180),
            cases_at_once: 4,
            scripts: number_from_environment("CONFORMANCE_SCRIPTS").unwrap_or(32),
            rerun: None,
            optional: false,
            open: erased(open),
            open_in_other_process: None,
            address: None,
            alternates: false,
            outage: None,
            damage: None,
            full_disk: None,
        }
    }

    /// Declares that the store takes its time from [`Fresh::clock`]. Cases then advance the clock instead of waiting.
    #[must_use]
    pub fn with_clock(mut self) -> Self {
        self.hooks.clock = true;
        self
    }

    /// Declares that a closed store can be reopened with the same [`Fresh`] and still has its entries.
    #[must_use]
    pub fn with_reopen(mut self) -> Self {
        self.hooks.reopen = true;
        self
    }

    /// Declares that a store can be opened a second time with the same [`Fresh`] while the first handle is in use.
    #[must_use]
    pub fn with_second_handle(mut self) -> Self {
        self.hooks.second_handle = true;
        self
    }

    /// Sets the function that opens the store of a [`Fresh`] in another process. The function starts a process and
    /// returns a store that forwards its calls to that process, such as a `LinesStore` of the crate `kv-lines` that is
    /// connected to a `kv serve`. [`Suite::on_backend`] already sets such a function.
    #[must_use]
    pub fn with_second_process<F, S>(mut self, open: impl Fn(Fresh) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        self.hooks.second_process = true;
        self.open_in_other_process = Some(erased(open));
        self
    }

    /// Runs every case on two handles that alternate call by call, the second one in another process. Each handle sees
    /// the acknowledged writes of the other, so every case must pass as with one handle. Without
    /// [`Suite::with_second_process`], every case fails.
    #[must_use]
    pub fn in_two_processes(mut self) -> Self {
        self.alternates = true;
        self
    }

    /// Sets the functions that cut the link between a store and its backend, so that no data passes, and heal it again.
    /// Both get the [`Fresh`] of the store. Each store needs a link of its own, such as its own proxy, because other
    /// cases run at the same time. `heal` may be called on a link that is not cut.
    #[must_use]
    pub fn with_outage<C, H>(
        mut self,
        cut: impl Fn(Fresh) -> C + Send + Sync + 'static,
        heal: impl Fn(Fresh) -> H + Send + Sync + 'static,
    ) -> Self
    where
        C: Future<Output = Result<()>> + Send + 'static,
        H: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.outage = true;
        self.outage = Some(Switch::new(cut, heal));
        self
    }

    /// Declares that the entries of a store in files survive the end of the process, as the declared durability says.
    /// Cases then open the store in a child process, which is this program started again, kill the child, and open the
    /// store here. Use [`Fresh::folder`] for the files, which is the same in the child.
    ///
    /// In the child, this function does not return: it serves stores until it is killed. So call it in the `main` of a
    /// test program (`harness = false`), after all methods that change how the store is opened.
    ///
    /// # Panics
    /// Panics if the child cannot serve.
    #[must_use]
    pub fn with_crash(mut self) -> Self {
        if process::served_backend(&self.name).is_some() {
            process::serve_all(|fresh| (self.open)(fresh))
        }
        self.hooks.crash = true;
        self
    }

    /// Sets the function that damages the stored bytes of one entry, so that the store cannot read the value of this
    /// entry any more. The store is closed during the call.
    #[must_use]
    pub fn with_damage<D>(mut self, damage: impl Fn(Fresh, Key) -> D + Send + Sync + 'static) -> Self
    where
        D: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.damage = true;
        self.damage = Some(Arc::new(move |fresh, key| Box::pin(damage(fresh, key))));
        self
    }

    /// Declares that each opened store is itself a namespace of another store, as in `kv conformance`. Cases with the
    /// longest namespace are then skipped, because the outer namespace already uses some of the
    /// [`Namespace::MAX_KEY_BYTES`](kv_core::Namespace::MAX_KEY_BYTES) of a stored key.
    #[must_use]
    pub fn in_namespaces(mut self) -> Self {
        self.hooks.in_namespaces = true;
        self
    }

    /// Sets the seed of the random choices, such as the seed that a failure printed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed & u64::from(u32::MAX);
        self
    }

    /// Sets the number of scripts that each case of `random/` runs, each with fewer than fifty random steps. The
    /// default is 32, or the value of `CONFORMANCE_SCRIPTS` in the environment.
    #[must_use]
    pub fn with_scripts(mut self, scripts: usize) -> Self {
        self.scripts = scripts;
        self
    }

    /// Sets the time limit of a case. The default is three minutes, because some cases make 8,000 writes in sequence,
    /// which takes more than one minute on a store that flushes each write to the medium.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Sets the number of cases that [`Suite::run`] runs at a time. The default is four. A backend that accepts only
    /// one handle at a time needs one.
    #[must_use]
    pub fn with_cases_at_once(mut self, cases: usize) -> Self {
        self.cases_at_once = cases.max(1);
        self
    }

    /// Sets the command that runs one case again, for failure texts. It may contain `{case}` and `{seed}`.
    #[must_use]
    pub fn with_rerun(mut self, command: impl Into<String>) -> Self {
        self.rerun = Some(command.into());
        self
    }

    /// Reports an unreachable backend as one visible NOT RUN line instead of a failure.
    #[must_use]
    pub fn with_optional_backend(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The name of the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The capabilities that the store declares.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Opens the store of one case.
    pub(crate) async fn open(&self, fresh: &Fresh) -> Result<Arc<dyn KvStore>> {
        let here = self.within_limit((self.open)(fresh.clone())).await?;
        if !self.alternates {
            return Ok(here);
        }
        Ok(Arc::new(Alternating::new(here, self.open_in_other_process(fresh).await?)))
    }

    /// Opens the store of one case in another process.
    pub(crate) async fn open_in_other_process(&self, fresh: &Fresh) -> Result<Arc<dyn KvStore>> {
        match &self.open_in_other_process {
            Some(open) => self.within_limit(open(fresh.clone())).await,
            None => Err(Error::unavailable("the harness has no second process")),
        }
    }

    async fn within_limit(&self, opening: BoxFuture<'static, Result<Arc<dyn KvStore>>>) -> Result<Arc<dyn KvStore>> {
        match tokio::time::timeout(self.time_limit, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::unavailable(format!("the store did not open within {:?}", self.time_limit))),
        }
    }

    /// Cuts the link between the store and its backend.
    pub(crate) async fn cut(&self, fresh: &Fresh) -> Result<()> {
        match &self.outage {
            Some(outage) => outage.begin(fresh).await,
            None => Ok(()),
        }
    }

    /// Damages the entry of a key in the closed store.
    pub(crate) async fn damage(&self, fresh: &Fresh, key: &Key) -> Result<()> {
        match &self.damage {
            Some(damage) => damage(fresh.clone(), key.clone()).await,
            None => Err(Error::unavailable("the harness cannot damage an entry")),
        }
    }

    /// The same suite with another name and capabilities, whose stores are wrapped.
    pub(crate) fn map_stores(self, name: String, capabilities: Capabilities, wrap: Arc<Wrap>) -> Self {
        Self {
            name,
            capabilities,
            open_in_other_process: self.open_in_other_process.map(|open| wrapped(open, Arc::clone(&wrap))),
            open: wrapped(self.open, wrap),
            ..self
        }
    }

    /// Heals the link between the store and its backend.
    pub(crate) async fn heal(&self, fresh: &Fresh) -> Result<()> {
        match &self.outage {
            Some(outage) => outage.end(fresh).await,
            None => Ok(()),
        }
    }
}

/// Boxes the function and its stores, so that a suite can hold stores of any type.
fn erased<F, S>(open: impl Fn(Fresh) -> F + Send + Sync + 'static) -> Arc<Open>
where
    F: Future<Output = Result<S>> + Send + 'static,
    S: KvStore,
{
    Arc::new(move |fresh| {
        let opening = open(fresh);
        Box::pin(async move { Ok(Arc::new(opening.await?) as Arc<dyn KvStore>) })
    })
}

/// The function that opens a store and wraps it.
fn wrapped(open: Arc<Open>, wrap: Arc<Wrap>) -> Arc<Open> {
    Arc::new(move |fresh| {
        let (opening, wrap) = (open(fresh.clone()), Arc::clone(&wrap));
        Box::pin(async move { wrap(opening.await?, fresh).await })
    })
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suite({})", self.name)
    }
}

/// A number from an environment variable: the seed that a failure printed, or the number of scripts.
fn number_from_environment<N: FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok()?.parse().ok()
}
