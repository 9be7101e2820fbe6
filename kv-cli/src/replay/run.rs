//! Runs a replay: the prefill, the rounds, the checks and the cleanup.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use anykv::{Capability, Key, KeyPrefix, Kv, KvStore, Namespace, Result, Version};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::Client;
use super::model::Models;
use super::prefill::Prefill;
use super::report::{Prefilled, Report, Round};
use super::stats::Stats;
use super::workload::Workload;
use crate::progress::Progress;

/// The settings of a replay.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The number of concurrent clients.
    pub clients: usize,
    /// The number of rounds. Each round runs the whole workload from the same initial state.
    pub rounds: u32,
    /// The data set to load first.
    pub prefill: Option<Prefill>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { clients: 1, rounds: 1, prefill: None }
    }
}

/// A replay of a workload in a new namespace of a store.
#[derive(Debug)]
pub struct Replay {
    store: Arc<dyn KvStore>,
    namespace: Namespace,
    workload: Arc<Workload>,
    settings: Settings,
    /// The clients of the current round. The clients continue after a dropped [`Replay::run`]. [`Replay::clear`] stops
    /// these clients first.
    running: Mutex<JoinSet<Stats>>,
}

impl Replay {
    /// Prepares a replay in a namespace with a random name.
    ///
    /// # Errors
    /// `Invalid` if the namespace of the handle is too long to add another segment.
    pub fn new(kv: &Kv, workload: Workload, settings: Settings) -> Result<Self> {
        let namespace = Namespace::new(["kv-replay", &Version::random().to_string()])?;
        let store = Arc::clone(kv.in_namespace(&namespace)?.store());
        Ok(Self { store, namespace, workload: Arc::new(workload), settings, running: Mutex::default() })
    }

    /// Returns the namespace of the entries, inside the namespace of the handle.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Loads the prefill, runs every round and checks every result.
    ///
    /// # Errors
    /// The errors of the prefill and of the cleanup between rounds. Failed operations are counted in the report.
    ///
    /// # Cancel safety
    /// The clients continue after the future is dropped, until [`Replay::clear`] stops them or the replay is dropped.
    pub async fn run(&self, progress: &Progress) -> Result<Report> {
        let Settings { clients, rounds: round_count, prefill } = self.settings;
        let prefilled = match prefill {
            Some(prefill) => Some(self.prefill(prefill, progress).await?),
            None => None,
        };
        let mut stats = Stats::new();
        let mut rounds = Vec::new();
        for _ in 0..round_count {
            let may_evict = self.store.info().capabilities.may_evict;
            let models = Arc::new(Models::new(clients, may_evict, prefill));
            rounds.push(self.round(&models, &mut stats, progress).await);
            self.check_end(&models, &mut stats).await;
            self.delete_written(&models).await?;
        }
        Ok(Report::new(self.store.info().name.to_string(), clients, prefilled, rounds, stats))
    }

    /// Stops the clients of a dropped run, and removes everything that the replay has written.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn clear(&self) -> Result<()> {
        self.running.lock().await.shutdown().await;
        if self.store.info().capabilities.has(Capability::List) {
            self.store.clear(&KeyPrefix::ALL).await?;
            return Ok(());
        }
        let operations = self.workload.operations.iter();
        // The prefix of a `list` need not be a valid key. Such a prefix has no entry to delete.
        let keys: Vec<Key> =
            operations.filter_map(|operation| Key::parse(operation.step.partition_key()).ok()).collect();
        self.delete(&keys).await?;
        match self.settings.prefill {
            Some(prefill) => prefill.remove(&self.store).await,
            None => Ok(()),
        }
    }

    async fn prefill(&self, prefill: Prefill, progress: &Progress) -> Result<Prefilled> {
        progress.stage("loading", prefill.len());
        let start = Instant::now();
        prefill.load(&self.store, progress).await?;
        Ok(Prefilled { entries: prefill.len(), seconds: start.elapsed().as_secs_f64() })
    }

    async fn round(&self, models: &Arc<Models>, stats: &mut Stats, progress: &Progress) -> Round {
        progress.stage("replaying", self.workload.len() as u64);
        let mut running = self.running.lock().await;
        let start = Instant::now();
        for (index, indices) in self.partition().into_iter().enumerate() {
            let client = self.client(models, index);
            running.spawn(client.run(Arc::clone(&self.workload), indices, progress.clone()));
        }
        while let Some(finished) = running.join_next().await {
            match finished {
                Ok(part) => stats.add(part),
                Err(error) => stats.wrong("a client", &error.to_string()),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let operations = self.workload.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
        let rate = operations as f64 / seconds;
        Round { operations, seconds, rate }
    }

    /// Assigns the operations to clients, by index. One client gets all operations of a key, in order.
    fn partition(&self) -> Vec<Vec<usize>> {
        let mut parts = vec![Vec::new(); self.settings.clients];
        for (index, operation) in self.workload.operations.iter().enumerate() {
            let mut hasher = DefaultHasher::new();
            operation.step.partition_key().hash(&mut hasher);
            let part = hasher.finish() % self.settings.clients.max(1) as u64;
            if let Some(part) = usize::try_from(part).ok().and_then(|part| parts.get_mut(part)) {
                part.push(index);
            }
        }
        parts
    }

    fn client(&self, models: &Arc<Models>, index: usize) -> Client {
        Client { store: Arc::clone(&self.store), models: Arc::clone(models), index, stats: Stats::new() }
    }

    /// Reads everything again after the writes of a round. Discards the latencies, which do not belong to the workload.
    async fn check_end(&self, models: &Arc<Models>, stats: &mut Stats) {
        for index in 0..models.clients() {
            let mut client = self.client(models, index);
            client.verify().await;
            let is_last = index + 1 == models.clients();
            let can_list = self.store.info().capabilities.has(Capability::List);
            if is_last && can_list && self.settings.prefill.is_none() {
                client.list("at the end, list of everything", &KeyPrefix::ALL).await;
            }
            client.stats.latencies.iter_mut().for_each(hdrhistogram::Histogram::reset);
            stats.add(client.stats);
        }
    }

    /// Deletes the entries of a round, so that the next round starts from the same state.
    async fn delete_written(&self, models: &Models) -> Result<()> {
        for index in 0..models.clients() {
            self.delete(&models.keys(index)).await?;
        }
        Ok(())
    }

    async fn delete(&self, keys: &[Key]) -> Result<()> {
        for keys in keys.chunks(256) {
            for outcome in self.store.delete_many(keys).await {
                let _ = outcome?;
            }
        }
        Ok(())
    }
}
