//! A replay from the prefill to the report.

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
use super::tally::Tally;
use super::workload::Workload;
use crate::progress::Progress;

/// How a workload is replayed.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many clients run side by side.
    pub clients: usize,
    /// How often the workload is run, each time from the same start.
    pub rounds: u32,
    /// What is loaded before.
    pub prefill: Option<Prefill>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { clients: 1, rounds: 1, prefill: None }
    }
}

/// A workload over a fresh namespace of a store.
#[derive(Debug)]
pub struct Replay {
    store: Arc<dyn KvStore>,
    namespace: Namespace,
    workload: Arc<Workload>,
    settings: Settings,
    /// The clients of a round. They outlive a dropped [`Replay::run`], and are ended before anything is cleared.
    running: Mutex<JoinSet<Tally>>,
}

impl Replay {
    /// Prepares a replay in a namespace with a random name.
    ///
    /// # Errors
    /// `Invalid` where the handle's own namespace leaves no room.
    pub fn new(kv: &Kv, workload: Workload, settings: Settings) -> Result<Self> {
        let namespace = Namespace::new(["kv-replay", &Version::random().to_string()])?;
        let store = Arc::clone(kv.in_namespace(&namespace)?.store());
        Ok(Self { store, namespace, workload: Arc::new(workload), settings, running: Mutex::default() })
    }

    /// Where the entries are, inside the handle's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Loads the prefill, runs every round and checks every answer.
    ///
    /// # Errors
    /// Those of the prefill and of cleaning up between rounds; operations that fail are part of the report.
    ///
    /// # Cancel safety
    /// After a dropped future its clients go on until [`Replay::clear`] ends them, or the replay is dropped.
    pub async fn run(&self, progress: &Progress) -> Result<Report> {
        let Settings { clients, rounds: wanted, prefill } = self.settings;
        let prefilled = match prefill {
            Some(prefill) => Some(self.prefill(prefill, progress).await?),
            None => None,
        };
        let mut tally = Tally::new();
        let mut rounds = Vec::new();
        for _ in 0..wanted {
            let may_evict = self.store.info().capabilities.may_evict;
            let models = Arc::new(Models::new(clients, may_evict, prefill));
            rounds.push(self.round(&models, &mut tally, progress).await);
            self.check_end(&models, &mut tally).await;
            self.forget(&models).await?;
        }
        Ok(Report::new(self.store.info().name.to_string(), clients, prefilled, rounds, tally))
    }

    /// Ends the clients that a dropped run left, and removes everything that the replay has written.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn clear(&self) -> Result<()> {
        self.running.lock().await.shutdown().await;
        if self.store.info().capabilities.has(Capability::List) {
            self.store.clear(&KeyPrefix::ALL).await?;
            return Ok(());
        }
        let operations = self.workload.operations.iter();
        // A list's own prefix may be no key, and then nothing was written there.
        let keys: Vec<Key> = operations.filter_map(|operation| Key::parse(operation.step.place()).ok()).collect();
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

    async fn round(&self, models: &Arc<Models>, tally: &mut Tally, progress: &Progress) -> Round {
        progress.stage("replaying", self.workload.len() as u64);
        let mut running = self.running.lock().await;
        let start = Instant::now();
        for (index, places) in self.partition().into_iter().enumerate() {
            let client = self.client(models, index);
            running.spawn(client.run(Arc::clone(&self.workload), places, progress.clone()));
        }
        while let Some(finished) = running.join_next().await {
            match finished {
                Ok(part) => tally.add(part),
                Err(stopped) => tally.wrong("a client", &stopped.to_string()),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let operations = self.workload.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
        let rate = operations as f64 / seconds;
        Round { operations, seconds, rate }
    }

    /// The places of each client's operations: all of one key, in order, with one client.
    fn partition(&self) -> Vec<Vec<usize>> {
        let mut parts = vec![Vec::new(); self.settings.clients];
        for (place, operation) in self.workload.operations.iter().enumerate() {
            let mut hasher = DefaultHasher::new();
            operation.step.place().hash(&mut hasher);
            let part = hasher.finish() % self.settings.clients.max(1) as u64;
            if let Some(part) = usize::try_from(part).ok().and_then(|part| parts.get_mut(part)) {
                part.push(place);
            }
        }
        parts
    }

    fn client(&self, models: &Arc<Models>, index: usize) -> Client {
        Client { store: Arc::clone(&self.store), models: Arc::clone(models), index, tally: Tally::new() }
    }

    /// Reads everything again when nobody writes any more. Its latencies are not those of the workload.
    async fn check_end(&self, models: &Arc<Models>, tally: &mut Tally) {
        for index in 0..models.clients() {
            let mut client = self.client(models, index);
            client.verify().await;
            let is_last = index + 1 == models.clients();
            let can_list = self.store.info().capabilities.has(Capability::List);
            if is_last && can_list && self.settings.prefill.is_none() {
                client.list("at the end, list of everything", &KeyPrefix::ALL).await;
            }
            client.tally.latencies.iter_mut().for_each(hdrhistogram::Histogram::reset);
            tally.add(client.tally);
        }
    }

    /// Deletes what the round has written, so that the next one starts as it did.
    async fn forget(&self, models: &Models) -> Result<()> {
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
