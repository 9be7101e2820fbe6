//! The subjects of a benchmark.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use anykv::{Bytes, Key, Result};
use async_trait::async_trait;

use super::dataset::Dataset;
use super::operation::Operation;
use super::traffic::Traffic;

/// A store, a driver or another layer to measure.
///
/// Operations come in batches, so that the cost of a call through this trait is negligible. A subject runs the
/// operations of a batch one after the other inside one future, like an application that awaits each call before the
/// next call.
#[async_trait]
pub trait Subject: Debug + Send + Sync + 'static {
    /// Returns the name for reports.
    fn name(&self) -> &str;

    /// Describes the failures that an acknowledged write survives, in a few words.
    fn durability(&self) -> String;

    /// True if the subject supports the operation.
    fn can(&self, operation: Operation) -> bool;

    /// Writes the entries.
    ///
    /// # Errors
    /// An error if an entry was not stored.
    async fn load(&self, entries: Vec<(Key, Bytes)>) -> Result<()>;

    /// Runs the operation `count` times, one after the other.
    ///
    /// # Errors
    /// An error if an operation fails or returns a wrong result.
    async fn operate(&self, operation: Operation, traffic: &mut Traffic, count: usize) -> Result<()>;

    /// Removes the written entries: the entries of the data set, and the entries of the keys of [`Dataset::fresh`].
    ///
    /// # Errors
    /// An error if entries may remain.
    async fn clear(&self, dataset: &Dataset) -> Result<()>;
}

/// Counters of a backend, such as commands or syncs. They never decrease.
pub trait Counters: Debug + Send + Sync + 'static {
    /// Returns the current values by name.
    fn read(&self) -> BTreeMap<String, u64>;
}

/// One side of a comparison: a subject, its data set, and the counters of its backend.
#[derive(Debug, Clone)]
pub struct Side {
    /// The measured subject.
    pub subject: Arc<dyn Subject>,
    /// The data set of the subject.
    pub dataset: Arc<Dataset>,
    /// The counters to report.
    pub counters: Option<Arc<dyn Counters>>,
}

impl Side {
    /// Creates a side without counters.
    pub fn new(subject: Arc<dyn Subject>, dataset: Arc<Dataset>) -> Self {
        Self { subject, dataset, counters: None }
    }

    /// Adds counters, which are read before and after each time slice.
    #[must_use]
    pub fn with_counters(mut self, counters: Arc<dyn Counters>) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Returns the current values of the counters; empty without counters.
    pub(super) fn read_counters(&self) -> BTreeMap<String, u64> {
        self.counters.as_ref().map(|counters| counters.read()).unwrap_or_default()
    }
}
