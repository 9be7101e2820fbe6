//! What can be measured.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use anykv::{Bytes, Key, Result};
use async_trait::async_trait;

use super::dataset::Dataset;
use super::operation::Operation;
use super::traffic::Traffic;

/// A store, a driver or another layer, as the measurements call it.
///
/// Operations come in batches, so that the call through this trait is no part of their cost: a subject does each of the
/// batch in turn, inside of one future, exactly as an application would that awaits one after another.
#[async_trait]
pub trait Subject: Debug + Send + Sync + 'static {
    /// What it is called in reports.
    fn name(&self) -> &str;

    /// What an acknowledged write survives, in a few words.
    fn durability(&self) -> String;

    /// Whether it can do this.
    fn can(&self, operation: Operation) -> bool;

    /// Writes these entries.
    ///
    /// # Errors
    /// An entry was not stored.
    async fn load(&self, entries: Vec<(Key, Bytes)>) -> Result<()>;

    /// Does the operation so many times, one after another.
    ///
    /// # Errors
    /// One of them failed, or had another answer than this operation has.
    async fn operate(&self, operation: Operation, traffic: &mut Traffic, count: usize) -> Result<()>;

    /// Removes what was written: the entries of the set and the keys that it gave out.
    ///
    /// # Errors
    /// Something may be left.
    async fn clear(&self, dataset: &Dataset) -> Result<()>;
}

/// What a backend counts by itself, such as commands or syncs; numbers only grow.
pub trait Counters: Debug + Send + Sync + 'static {
    /// The numbers now.
    fn read(&self) -> BTreeMap<String, u64>;
}

/// A subject, the entries in it, and what its backend counts.
#[derive(Debug, Clone)]
pub struct Side {
    /// What is measured.
    pub subject: Arc<dyn Subject>,
    /// What was loaded into it.
    pub dataset: Arc<Dataset>,
    /// What stands beside its figures.
    pub counters: Option<Arc<dyn Counters>>,
}

impl Side {
    /// A subject with the entries that it has or will have.
    pub fn new(subject: Arc<dyn Subject>, dataset: Arc<Dataset>) -> Self {
        Self { subject, dataset, counters: None }
    }

    /// Reads these counters before and after each of its turns.
    #[must_use]
    pub fn with_counters(mut self, counters: Arc<dyn Counters>) -> Self {
        self.counters = Some(counters);
        self
    }

    /// The counters now; none where nothing counts.
    pub(super) fn counted(&self) -> BTreeMap<String, u64> {
        self.counters.as_ref().map(|counters| counters.read()).unwrap_or_default()
    }
}
