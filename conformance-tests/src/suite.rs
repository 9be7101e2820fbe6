//! A store under test: what it declares, and how it is opened.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{BoxFuture, Capabilities, Error, KvStore, ManualClock, Result};

use crate::turns::Turns;

/// Opens the store of one case; the same [`Fresh`] again means the same store.
type Open = dyn Fn(Fresh) -> BoxFuture<'static, Result<Arc<dyn KvStore>>> + Send + Sync;

/// Cuts or heals the link of the store that was opened with this [`Fresh`].
type Relink = dyn Fn(Fresh) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// What one case gets to itself.
///
/// A store on a shared backend takes the name as its namespace, table or file; a store in memory needs neither. A store
/// with a clock takes this one, where the suite was told so by [`Suite::with_clock`].
#[derive(Debug, Clone)]
pub struct Fresh {
    name: String,
    clock: ManualClock,
}

impl Fresh {
    pub(crate) fn new(case: &str, seed: u64) -> Self {
        // Unique among runs and among cases, short enough for an identifier, and legible where it is left behind.
        let hash = case.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { name: format!("ct_{seed:08x}_{hash:016x}"), clock: ManualClock::new() }
    }

    /// What the case of this name has, in another process.
    pub(crate) fn named(name: String) -> Self {
        Self { name, clock: ManualClock::new() }
    }

    /// A name that no other case or run has: letters, digits and `_`, at most 28 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The clock that the case moves.
    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::new(self.clock.clone())
    }
}

/// What the harness around a store can do beside opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a hook of its own, and the builders name them")]
pub(crate) struct Hooks {
    pub(crate) clock: bool,
    pub(crate) reopen: bool,
    pub(crate) second_handle: bool,
    pub(crate) second_process: bool,
    pub(crate) outage: bool,
}

/// How the link between a store and its backend is cut and healed.
#[derive(Clone)]
struct Outage {
    cut: Arc<Relink>,
    heal: Arc<Relink>,
}

/// A store under test.
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
    open_elsewhere: Option<Arc<Open>>,
    turns: bool,
    outage: Option<Outage>,
}

impl Suite {
    /// A store of this name, with the capabilities that it declares, opened by this for each case.
    ///
    /// The seed is new each time, unless the environment has `CONFORMANCE_SEED`.
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
            open_elsewhere: None,
            turns: false,
            outage: None,
        }
    }

    /// The store takes its time from [`Fresh::clock`], so that cases move it instead of waiting.
    #[must_use]
    pub fn with_clock(mut self) -> Self {
        self.hooks.clock = true;
        self
    }

    /// A store that was closed can be opened again with the same [`Fresh`], and has what it had.
    #[must_use]
    pub fn with_reopen(mut self) -> Self {
        self.hooks.reopen = true;
        self
    }

    /// A store can be opened a second time with the same [`Fresh`] while the first handle is in use.
    #[must_use]
    pub fn with_second_handle(mut self) -> Self {
        self.hooks.second_handle = true;
        self
    }

    /// The store that was opened with a [`Fresh`] can also be opened with it in another process, as this does: it starts one,
    /// and gives a store that speaks to it, such as the `LinesStore` of the crate `kv-lines` to a `kv serve`.
    /// [`Suite::on_backend`] does it for a test program without a word more.
    #[must_use]
    pub fn with_second_process<F, S>(mut self, open: impl Fn(Fresh) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
        S: KvStore,
    {
        self.hooks.second_process = true;
        self.open_elsewhere = Some(erased(open));
        self
    }

    /// Gives every case one store by two handles, of which the second is in another process, and which take turns call by call.
    /// Each handle sees what the other was acknowledged, so every case must pass as it does with one. Without
    /// [`Suite::with_second_process`] the cases fail.
    #[must_use]
    pub fn in_two_processes(mut self) -> Self {
        self.turns = true;
        self
    }

    /// The link between a store and its backend can be cut, so that nothing gets through, and healed again; both are called
    /// with the [`Fresh`] that the store was opened with. A link is one store's own, such as a proxy that was started for
    /// it, because other cases run beside the one that cuts. Healing what is whole is fine.
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
        self.outage = Some(Outage {
            cut: Arc::new(move |fresh| Box::pin(cut(fresh))),
            heal: Arc::new(move |fresh| Box::pin(heal(fresh))),
        });
        self
    }

    /// Uses this seed, which a failure printed, for random keys and sequences.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed & u64::from(u32::MAX);
        self
    }

    /// How many scripts of up to fifty random steps each case of `random/` plays; 32 unless said, here or as
    /// `CONFORMANCE_SCRIPTS` in the environment.
    #[must_use]
    pub fn with_scripts(mut self, scripts: usize) -> Self {
        self.scripts = scripts;
        self
    }

    /// How long a case may take before it counts as hung; three minutes unless said. Some make 8,000 writes one after another,
    /// which a store that flushes each to the medium does not do in one.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How many cases [`Suite::run`] has open at a time; four unless said, one for a store that only one handle may open.
    #[must_use]
    pub fn with_cases_at_once(mut self, cases: usize) -> Self {
        self.cases_at_once = cases.max(1);
        self
    }

    /// The command that runs one case again, with `{case}` and `{seed}` in it, for failure texts.
    #[must_use]
    pub fn with_rerun(mut self, command: impl Into<String>) -> Self {
        self.rerun = Some(command.into());
        self
    }

    /// A backend that cannot be reached is one visible NOT RUN line instead of a failure.
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
        if !self.turns {
            return Ok(here);
        }
        Ok(Arc::new(Turns::new(here, self.open_elsewhere(fresh).await?)))
    }

    /// Opens the store of one case in another process.
    pub(crate) async fn open_elsewhere(&self, fresh: &Fresh) -> Result<Arc<dyn KvStore>> {
        match &self.open_elsewhere {
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

    /// Lets nothing through between the store and its backend.
    pub(crate) async fn cut(&self, fresh: &Fresh) -> Result<()> {
        match &self.outage {
            Some(outage) => (outage.cut)(fresh.clone()).await,
            None => Ok(()),
        }
    }

    /// Lets everything through again.
    pub(crate) async fn heal(&self, fresh: &Fresh) -> Result<()> {
        match &self.outage {
            Some(outage) => (outage.heal)(fresh.clone()).await,
            None => Ok(()),
        }
    }
}

/// The same, for stores of any type.
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

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suite({})", self.name)
    }
}

/// A setting of the run: the seed that a failure printed, for running it again, or a number of scripts.
fn number_from_environment<N: FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok()?.parse().ok()
}
