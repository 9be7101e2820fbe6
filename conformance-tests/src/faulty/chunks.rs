//! Batches and transactions that are processed in chunks, with defects at the borders of chunks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{
    CommitOutcome, DeleteOutcome, Entry, Error, Key, KvStore, Mutation, Result, SetItem, SetOutcome, Transaction,
    Version, When, delegate_store,
};

use super::faults;

faults! { chunks:
    /// Reads 500 keys with one statement that returns existing rows only, so all missing results move to the end of the
    /// chunk.
    holes_of_get_many_move_to_the_end: "B-1"
        ["large_batches/holes_in_get_many", "batch/a_thousand_keys"]
        |inner, _clock| MovedHoles { inner };
    /// Deletes 500 keys with one statement that returns only the number n of deleted keys, and reports the first n keys
    /// of the chunk as deleted.
    deleted_keys_are_counted_by_chunk: "B-1"
        ["large_batches/holes_in_delete_many"]
        |inner, _clock| CountedDeletes { inner };
    /// Writes 500 conditional items with one statement, and reports the first items of the chunk as stored and the last
    /// items as refused.
    refused_items_are_counted_by_chunk: "B-1"
        ["large_batches/refusals_in_set_many"]
        |inner, _clock| CountedRefusals { inner };
    /// Refuses 500 items of a large `set_many` together if one of them is invalid.
    invalid_item_fails_its_chunk: "B-1"
        ["large_batches/oversized_among_many"]
        |inner, _clock| FailingChunks { inner };
    /// Applies a transaction in parts of a hundred mutations.
    transactions_are_applied_in_hundreds: "X-1"
        ["large_transactions/are_seen_whole"]
        |inner, _clock| Hundreds { inner };
    /// Drops the mutations of a transaction after the first five hundred.
    later_mutations_are_dropped: "X-1"
        ["large_transactions/a_thousand_mutations"]
        |inner, _clock| Dropped { inner };
    /// Evaluates only the first hundred checks of a transaction.
    later_checks_are_ignored: "X-1"
        ["large_transactions/hundreds_of_checks"]
        |inner, _clock| FewChecks { inner };
    /// Collects the checks of a transaction in a map, so only the last check of a key is evaluated.
    last_check_of_a_key_counts: "X-1"
        ["transactions/first_failed_check_is_named"]
        |inner, _clock| LastCheckOfKey { inner };
    /// Refuses a transaction over more than 250 keys, as services with such a limit do.
    transactions_over_250_keys_are_refused: "X-1"
        ["large_transactions/a_thousand_mutations"]
        |inner, _clock| AtMost250 { inner };
    /// Gives all sets of a key in one transaction the same version.
    a_transaction_has_one_version_per_key: "S-3"
        ["large_transactions/each_set_has_its_own_version"]
        |inner, _clock| OneVersion { inner, of_batches: false };
    /// Gives all writes of a key in one `set_many` the same version.
    a_batch_has_one_version_per_key: "S-3"
        ["large_batches/each_write_has_its_own_version"]
        |inner, _clock| OneVersion { inner, of_batches: true };
    /// Compares the version of a condition in `set_many` with the bytes of the value, so such a condition never holds.
    versions_never_hold_in_a_batch: "B-1"
        ["large_batches/versions_in_set_many"]
        |inner, _clock| NoVersionsInBatches { inner };
}

/// The number of keys in one statement.
const CHUNK: usize = 500;

#[derive(Debug)]
struct MovedHoles {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for MovedHoles {
    delegate_store!(self.inner, except get_many);

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        if keys.len() <= CHUNK {
            return self.inner.get_many(keys).await;
        }
        let mut results = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let rows = self.inner.get_many(chunk).await;
            results.extend(rows.into_iter().filter(|row| !matches!(row, Ok(None))));
            results.resize_with(results.len().next_multiple_of(CHUNK).min(keys.len()), || Ok(None));
        }
        results
    }
}

#[derive(Debug)]
struct CountedDeletes {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for CountedDeletes {
    delegate_store!(self.inner, except delete_many);

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        if keys.len() <= CHUNK {
            return self.inner.delete_many(keys).await;
        }
        let mut results = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let mut outcomes = self.inner.delete_many(chunk).await;
            outcomes.sort_by_key(|outcome| !outcome.as_ref().is_ok_and(DeleteOutcome::is_deleted));
            results.extend(outcomes);
        }
        results
    }
}

#[derive(Debug)]
struct CountedRefusals {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for CountedRefusals {
    delegate_store!(self.inner, except set_many);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        if items.len() <= CHUNK {
            return self.inner.set_many(items).await;
        }
        let mut results = Vec::with_capacity(items.len());
        for chunk in items.chunks(CHUNK) {
            let mut outcomes = self.inner.set_many(chunk).await;
            outcomes.sort_by_key(|outcome| !outcome.as_ref().is_ok_and(SetOutcome::is_stored));
            results.extend(outcomes);
        }
        results
    }
}

#[derive(Debug)]
struct FailingChunks {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for FailingChunks {
    delegate_store!(self.inner, except set_many);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let limits = self.info().limits;
        let is_valid = |item: &SetItem| limits.check_value(item.value.len()).is_ok();
        if items.len() <= CHUNK {
            return self.inner.set_many(items).await;
        }
        let mut results = Vec::with_capacity(items.len());
        for chunk in items.chunks(CHUNK) {
            if chunk.iter().all(is_valid) {
                results.extend(self.inner.set_many(chunk).await);
            } else {
                results
                    .extend(chunk.iter().map(|item| Err(Error::invalid("the value is too long").with_key(&item.key))));
            }
        }
        results
    }
}

#[derive(Debug)]
struct Hundreds {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Hundreds {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        if transaction.mutations.len() <= 100 {
            return self.inner.commit(transaction).await;
        }
        transaction.validate(&self.info().capabilities, &self.info().limits)?;
        let mut part = transaction.clone();
        let mut all = Vec::new();
        for mutations in transaction.mutations.chunks(100) {
            part.mutations = mutations.to_vec();
            match self.inner.commit(&part).await? {
                CommitOutcome::Committed { versions } => all.extend(versions),
                refused @ CommitOutcome::Refused { .. } => return Ok(refused),
            }
            part.checks.clear();
            tokio::task::yield_now().await;
        }
        Ok(CommitOutcome::Committed { versions: all })
    }
}

#[derive(Debug)]
struct Dropped {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Dropped {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut first = transaction.clone();
        first.mutations.truncate(500);
        let mut outcome = self.inner.commit(&first).await?;
        if let CommitOutcome::Committed { versions } = &mut outcome {
            let rest = transaction.mutations.iter().skip(500);
            versions.extend(rest.map(|one| matches!(one, Mutation::Set { .. }).then(Version::random)));
        }
        Ok(outcome)
    }
}

#[derive(Debug)]
struct FewChecks {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for FewChecks {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut fewer = transaction.clone();
        fewer.checks.truncate(100);
        self.inner.commit(&fewer).await
    }
}

#[derive(Debug)]
struct LastCheckOfKey {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LastCheckOfKey {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let last: HashMap<&Key, usize> =
            transaction.checks.iter().enumerate().map(|(at, check)| (&check.key, at)).collect();
        let mut fewer = transaction.clone();
        // Replace an earlier check of a key by a check that always holds, so that the indexes of the other checks stay
        // the same.
        for (at, check) in fewer.checks.iter_mut().enumerate() {
            if last.get(&check.key) != Some(&at) {
                check.when = When::Always;
            }
        }
        self.inner.commit(&fewer).await
    }
}

#[derive(Debug)]
struct AtMost250 {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for AtMost250 {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        if transaction.mutations.iter().map(Mutation::key).collect::<HashSet<_>>().len() > 250 {
            return Err(Error::invalid("the transaction has too many items"));
        }
        self.inner.commit(transaction).await
    }
}

/// Gives all writes of a key in one call the version of the last write.
#[derive(Debug)]
struct OneVersion {
    inner: Arc<dyn KvStore>,
    /// True for the writes of `set_many`, false for those of a transaction.
    of_batches: bool,
}

#[async_trait]
impl KvStore for OneVersion {
    delegate_store!(self.inner, except set_many commit);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = self.inner.set_many(items).await;
        if !self.of_batches {
            return outcomes;
        }
        let mut last = HashMap::new();
        for (item, outcome) in items.iter().zip(&outcomes) {
            if let Ok(SetOutcome::Stored { version, .. }) = outcome {
                last.insert(&item.key, *version);
            }
        }
        for (item, outcome) in items.iter().zip(&mut outcomes) {
            if let (Ok(SetOutcome::Stored { version, .. }), Some(last)) = (outcome, last.get(&item.key)) {
                *version = *last;
            }
        }
        outcomes
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut outcome = self.inner.commit(transaction).await?;
        if let (CommitOutcome::Committed { versions }, false) = (&mut outcome, self.of_batches) {
            let keys = || transaction.mutations.iter().map(Mutation::key);
            let last: HashMap<&Key, Option<Version>> =
                keys().zip(versions.iter().copied()).filter(|(_, version)| version.is_some()).collect();
            for (key, version) in keys().zip(versions).filter(|(_, version)| version.is_some()) {
                *version = last.get(key).copied().flatten();
            }
        }
        Ok(outcome)
    }
}

#[derive(Debug)]
struct NoVersionsInBatches {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NoVersionsInBatches {
    delegate_store!(self.inner, except set_many);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut altered = items.to_vec();
        for item in &mut altered {
            if let When::Version(version) = item.options.when {
                item.options.when = When::Value(version.as_bytes().to_vec().into());
            }
        }
        self.inner.set_many(&altered).await
    }
}
