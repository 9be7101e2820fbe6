//! Makes the single calls of a script.

use std::sync::Arc;
use std::time::SystemTime;

use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expires, IncrementOptions, Key, Kv, KvStore, ListQuery,
    SetItem, SetOptions, SetOutcome, Transaction, Version, When,
};

use super::answer::{Answer, Deadline, SeenEntry};
use super::memory::Memory;
use super::model::prefix;
use super::step::{Change, Condition, KEYS, KeyIndex, Listing, Step, Write};

/// Converts steps to calls, and their results to answers.
pub(super) struct Caller {
    /// True if the script sets the clock, so that deadlines are compared to the millisecond.
    pub(super) is_exact: bool,
    /// The moment when the script began. Deadlines in steps and answers are relative to this moment.
    pub(super) start: SystemTime,
    pub(super) memory: Memory<Version>,
}

impl Caller {
    /// Makes the call of a step.
    pub(super) async fn call(&self, store: &Arc<dyn KvStore>, step: &Step) -> Result<Answer<Version>, Error> {
        Ok(match step {
            Step::Get(key) => Answer::Entry(self.seen(store.get(&key.key()).await?)),
            Step::Contains(key) => Answer::Found(store.contains(&key.key()).await?),
            Step::Set(write) => {
                let options = self.options(write);
                let outcome = store.set(&write.key.key(), write.value.text().into(), &options).await?;
                self.set_outcome(outcome)
            }
            Step::Delete { key, condition, previous } => {
                let mut options = DeleteOptions::default().with_when(self.when(*condition));
                options.return_previous = *previous;
                let outcome = store.delete(&key.key(), &options).await?;
                self.delete_outcome(outcome)
            }
            Step::GetMany(keys) => {
                let store_keys: Vec<Key> = keys.iter().map(|key| key.key()).collect();
                each(store.get_many(&store_keys).await, |entry| Answer::Entry(self.seen(entry)))
            }
            Step::SetMany(writes) => {
                let items: Vec<SetItem> = writes
                    .iter()
                    .map(|write| SetItem::new(write.key.key(), write.value.text()).with_options(self.options(write)))
                    .collect();
                each(store.set_many(&items).await, |outcome| self.set_outcome(outcome))
            }
            Step::DeleteMany(keys) => {
                let store_keys: Vec<Key> = keys.iter().map(|key| key.key()).collect();
                each(store.delete_many(&store_keys).await, |outcome| self.delete_outcome(outcome))
            }
            Step::List(listing) => self.list(store, listing).await?,
            Step::Clear(key) => Answer::Cleared(store.clear(&prefix(*key)).await?),
            Step::Touch(key, lifetime) => {
                Answer::Found(store.touch(&key.key(), lifetime.new_expiry(self.start)).await?)
            }
            Step::Increment { key, by, lifetime } => {
                let options = IncrementOptions::default().with_expiry(lifetime.new_expiry(self.start).into());
                Answer::Sum(store.increment(&key.key(), *by, &options).await?)
            }
            Step::Commit { checks, changes } => self.commit(store, checks, changes).await?,
            Step::Take(key) => Answer::Taken(Kv::new(Arc::clone(store)).take_bytes(key.key()).await?),
            Step::Publish(channel, payload) => {
                store.publish(&channel.key(), payload.text().into()).await?;
                Answer::Done
            }
            Step::Together(_)
            | Step::Watch(..)
            | Step::Unwatch(_)
            | Step::ReadEvents(_)
            | Step::Subscribe(_)
            | Step::ReadMessages
            | Step::Advance(_) => Answer::Failed("the step is not a single call".to_owned()),
            Step::Sweep => {
                store.sweep().await?;
                Answer::Done
            }
        })
    }

    async fn list(&self, store: &Arc<dyn KvStore>, listing: &Listing) -> Result<Answer<Version>, Error> {
        let Listing { prefix: prefix_key, after, before, reverse, limit, keys_only } = listing;
        let mut query = ListQuery::new(prefix(*prefix_key));
        query.after = after.map(KeyIndex::key);
        query.before = before.map(KeyIndex::key);
        query.limit = *limit;
        query.reverse = *reverse;
        query.keys_only = *keys_only;
        let mut items = Vec::new();
        // Stops a list whose pages never end. The answer to such a list is a failure.
        for _ in 0..4 * KEYS.len() {
            let page = store.list(&query).await?;
            for item in page.items {
                items.push((KeyIndex::of(&item.key), self.seen(item.entry)));
            }
            match page.next {
                Some(next) => query = query.resume(next),
                None => return Ok(Answer::Items(items)),
            }
        }
        Ok(Answer::Failed("the list does not end".to_owned()))
    }

    async fn commit(
        &self,
        store: &Arc<dyn KvStore>,
        checks: &[(KeyIndex, Condition)],
        changes: &[Change],
    ) -> Result<Answer<Version>, Error> {
        let transaction = checks.iter().fold(Transaction::new(), |transaction, (key, condition)| {
            transaction.check(key.key(), self.when(*condition))
        });
        let transaction = changes.iter().fold(transaction, |transaction, change| match change {
            Change::Set(key, value, lifetime) => transaction.set(key.key(), value.text(), lifetime.expiry(self.start)),
            Change::Delete(key) => transaction.delete(key.key()),
        });
        Ok(match store.commit(&transaction).await? {
            CommitOutcome::Committed { versions } => Answer::Committed(versions),
            CommitOutcome::Refused { check } => Answer::RefusedAt(check),
        })
    }

    fn options(&self, write: &Write) -> SetOptions {
        let mut options =
            SetOptions::default().with_expiry(write.lifetime.expiry(self.start)).with_when(self.when(write.condition));
        options.return_previous = write.previous;
        options
    }

    fn when(&self, condition: Condition) -> When {
        match condition {
            Condition::Always => When::Always,
            Condition::Absent => When::Absent,
            Condition::Present => When::Present,
            Condition::Value(value) => When::Value(value.text().into()),
            Condition::SeenVersion(key) => When::Version(self.memory.last(key).unwrap_or(Version::from([0; 16]))),
        }
    }

    fn set_outcome(&self, outcome: SetOutcome) -> Answer<Version> {
        match outcome {
            SetOutcome::Stored { version, previous } => Answer::Stored { version, previous: self.seen(previous) },
            SetOutcome::Refused { current } => Answer::Refused { current: self.seen(current) },
        }
    }

    fn delete_outcome(&self, outcome: DeleteOutcome) -> Answer<Version> {
        match outcome {
            DeleteOutcome::Deleted { previous } => Answer::Deleted { previous: self.seen(previous) },
            DeleteOutcome::Missing => Answer::Missing,
            DeleteOutcome::Refused { current } => Answer::Refused { current: self.seen(current) },
        }
    }

    /// Converts an entry of the store to an entry of the script.
    pub(super) fn seen(&self, entry: Option<Entry>) -> Option<SeenEntry<Version>> {
        let Entry { value, version, expires, .. } = entry?;
        let deadline = match expires {
            Expires::Never => Deadline::Never,
            Expires::At(moment) if self.is_exact => {
                let since = moment.duration_since(self.start).unwrap_or_default();
                Deadline::At(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Expires::At(_) => Deadline::AtUnknownTime,
            _ => Deadline::NotShown,
        };
        Some(SeenEntry { value, version, deadline })
    }
}

/// The answer to a batch: an answer for each item.
fn each<T>(results: Vec<Result<T, Error>>, mut answer: impl FnMut(T) -> Answer<Version>) -> Answer<Version> {
    let answers = results.into_iter().map(|result| match result {
        Ok(found) => answer(found),
        Err(error) => failed(&error),
    });
    Answer::Each(answers.collect())
}

pub(super) fn failed<V>(error: &Error) -> Answer<V> {
    Answer::Failed(error.kind().to_string())
}
