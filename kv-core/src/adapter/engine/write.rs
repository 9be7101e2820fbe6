//! The writes of a store, sent to the writer.

use bytes::Bytes;

use super::super::evaluate;
use super::super::records::Records;
use super::super::writer::Pending;
use super::Engine;
use super::store::Shared;
use crate::error::Result;
use crate::expiry::NewExpiry;
use crate::key::{Key, KeyPrefix};
use crate::list::ListQuery;
use crate::options::{DeleteOptions, DeleteOutcome, IncrementOptions, SetOptions, SetOutcome};
use crate::transaction::{CommitOutcome, Mutation, Transaction};
use crate::version::Version;

/// The maximum number of entries that one transaction of `clear` removes, and of items that one of `sweep` reads. Other
/// writes wait for one such transaction only.
const MAX_REMOVED: usize = 1_000;

/// About the number of bytes that a record of any kind adds to a transaction, beyond its key and value.
const RECORD_BYTES: usize = 64;

impl<E: Engine> Shared<E> {
    pub(super) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<Pending<SetOutcome>> {
        self.visible.check_open()?;
        options.check(&self.info.capabilities)?;
        self.info.limits.check_value(value.len())?;
        let (key, options, version) = (key.clone(), options.clone(), Version::random());
        let bytes = RECORD_BYTES + key.as_str().len() + value.len();
        let evaluate = move |records: &mut dyn Records| evaluate::set(records, &key, &value, version, &options);
        self.writer.send(Some(version), bytes, evaluate).await
    }

    pub(super) async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<Pending<DeleteOutcome>> {
        self.visible.check_open()?;
        options.check(&self.info.capabilities)?;
        let (key, options) = (key.clone(), options.clone());
        let bytes = RECORD_BYTES + key.as_str().len();
        self.writer.send(None, bytes, move |records| evaluate::delete(records, &key, &options)).await
    }

    pub(super) async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.visible.check_open()?;
        let key = key.clone();
        self.writer.write(None, RECORD_BYTES, move |records| evaluate::touch(records, &key, expiry)).await
    }

    pub(super) async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.visible.check_open()?;
        options.check(&self.info.capabilities)?;
        let (key, options, version) = (key.clone(), options.clone(), Version::random());
        let evaluate = move |records: &mut dyn Records| evaluate::increment(records, &key, by, version, &options);
        self.writer.write(Some(version), RECORD_BYTES, evaluate).await
    }

    pub(super) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.visible.check_open()?;
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        let transaction = transaction.clone();
        let versions: Vec<_> = transaction.mutations.iter().map(|_| Version::random()).collect();
        let value_bytes = |mutation: &Mutation| match mutation {
            Mutation::Set { value, .. } => value.len(),
            Mutation::Delete { .. } => 0,
        };
        let bytes = transaction.mutations.iter().map(|mutation| RECORD_BYTES + value_bytes(mutation)).sum();
        let first = versions.first().copied();
        self.writer.write(first, bytes, move |records| evaluate::commit(records, &transaction, &versions)).await
    }

    pub(super) async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.visible.check_open()?;
        let Some(mut range) = ListQuery::new(prefix.clone()).range() else { return Ok(0) };
        let mut removed = 0;
        loop {
            let part = range.clone();
            let evaluate = move |records: &mut dyn Records| evaluate::clear(records, &part, MAX_REMOVED);
            let (removed_now, rest) = self.writer.write(None, MAX_REMOVED * RECORD_BYTES, evaluate).await?;
            removed += removed_now;
            match rest {
                Some(rest) => range = rest,
                None => return Ok(removed),
            }
        }
    }

    pub(super) async fn sweep(&self) -> Result<u64> {
        self.visible.check_open()?;
        let mut removed = 0;
        loop {
            let evaluate = |records: &mut dyn Records| evaluate::sweep(records, MAX_REMOVED);
            let (removed_now, has_more) = self.writer.write(None, MAX_REMOVED * RECORD_BYTES, evaluate).await?;
            removed += removed_now;
            if !has_more {
                return Ok(removed);
            }
        }
    }
}

/// Waits for the responses of writes that were sent, in their order.
pub(super) async fn responses<T: Send>(sent: Vec<Result<Pending<T>>>) -> Vec<Result<T>> {
    let mut responses = Vec::with_capacity(sent.len());
    for sent in sent {
        responses.push(match sent {
            Ok(pending) => pending.response().await,
            Err(error) => Err(error),
        });
    }
    responses
}
