//! Runs the steps of a script as calls of a store.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expires, IncrementOptions, Key, KvStore, ListQuery,
    SetItem, SetOptions, SetOutcome, Transaction, Version, When,
};

use super::answer::{Answer, Deadline, SeenEntry, VersionNumber, VersionNumbers};
use super::model::prefix;
use super::step::{Change, Condition, KEYS, KeyIndex, Listing, Step, Write};
use crate::context::Context;

/// A store that a script runs on.
pub(super) struct ScriptRunner<'c, S> {
    cx: &'c Context,
    store: S,
    /// True if the script sets the clock, so that deadlines are compared to the millisecond.
    is_exact: bool,
    /// The moment when the script began. Deadlines in steps and answers are relative to it.
    start: SystemTime,
    /// For each key, the version that the script saw last.
    seen: HashMap<KeyIndex, Version>,
    version_numbers: VersionNumbers<Version>,
}

impl<'c, S: KvStore> ScriptRunner<'c, S> {
    pub(super) fn new(cx: &'c Context, store: S) -> Self {
        let is_exact = cx.moves_clock();
        let start = cx.now();
        Self { cx, store, is_exact, start, seen: HashMap::new(), version_numbers: VersionNumbers::default() }
    }

    pub(super) async fn step(&mut self, step: &Step) -> Answer {
        self.try_step(step).await.unwrap_or_else(|error| failed(&error))
    }

    async fn try_step(&mut self, step: &Step) -> Result<Answer, Error> {
        Ok(match step {
            Step::Get(key) => {
                let found = self.store.get(&key.key()).await?;
                Answer::Entry(self.record_entry(*key, found))
            }
            Step::Contains(key) => Answer::Found(self.store.contains(&key.key()).await?),
            Step::Set(write) => {
                let options = self.options(write);
                let outcome = self.store.set(&write.key.key(), write.value.text().into(), &options).await?;
                self.set_outcome(write.key, outcome)
            }
            Step::Delete { key, condition, previous } => {
                let mut options = DeleteOptions::default().with_when(self.when(*condition));
                options.return_previous = *previous;
                let outcome = self.store.delete(&key.key(), &options).await?;
                self.delete_outcome(*key, outcome)
            }
            Step::GetMany(keys) => {
                let store_keys: Vec<Key> = keys.iter().map(|key| key.key()).collect();
                let found = self.store.get_many(&store_keys).await;
                self.each(keys, found, |runner, key, entry| Answer::Entry(runner.record_entry(key, entry)))
            }
            Step::SetMany(writes) => {
                let items: Vec<SetItem> = writes
                    .iter()
                    .map(|write| SetItem::new(write.key.key(), write.value.text()).with_options(self.options(write)))
                    .collect();
                let keys: Vec<KeyIndex> = writes.iter().map(|write| write.key).collect();
                let outcomes = self.store.set_many(&items).await;
                self.each(&keys, outcomes, Self::set_outcome)
            }
            Step::DeleteMany(keys) => {
                let store_keys: Vec<Key> = keys.iter().map(|key| key.key()).collect();
                let outcomes = self.store.delete_many(&store_keys).await;
                self.each(keys, outcomes, Self::delete_outcome)
            }
            Step::List(listing) => self.list(listing).await?,
            Step::Clear(key) => Answer::Cleared(self.store.clear(&prefix(*key)).await?),
            Step::Touch(key, lifetime) => {
                Answer::Found(self.store.touch(&key.key(), lifetime.new_expiry(self.start)).await?)
            }
            Step::Increment { key, by, lifetime } => {
                let options = IncrementOptions::default().with_expiry(lifetime.new_expiry(self.start).into());
                Answer::Sum(self.store.increment(&key.key(), *by, &options).await?)
            }
            Step::Commit { checks, changes } => self.commit(checks, changes).await?,
            Step::Advance(millis) => {
                self.cx.advance(Duration::from_millis(*millis)).await;
                Answer::Done
            }
            Step::Sweep => {
                self.store.sweep().await?;
                Answer::Done
            }
        })
    }

    fn each<T>(
        &mut self,
        keys: &[KeyIndex],
        results: Vec<Result<T, Error>>,
        mut answer: impl FnMut(&mut Self, KeyIndex, T) -> Answer,
    ) -> Answer {
        // If the store returns too many or too few results, the length of the answer is wrong.
        let keys = keys.iter().copied().chain(std::iter::repeat(KeyIndex(0)));
        let answers = results.into_iter().zip(keys).map(|(result, key)| match result {
            Ok(found) => answer(self, key, found),
            Err(error) => failed(&error),
        });
        Answer::Each(answers.collect())
    }

    async fn list(&mut self, listing: &Listing) -> Result<Answer, Error> {
        let Listing { prefix: prefix_key, after, before, reverse, limit, keys_only } = listing;
        let mut query = ListQuery::new(prefix(*prefix_key));
        query.after = after.map(KeyIndex::key);
        query.before = before.map(KeyIndex::key);
        query.limit = *limit;
        query.reverse = *reverse;
        query.keys_only = *keys_only;
        let mut items = Vec::new();
        // Stops a list that never ends. Its answer is a failure.
        for _ in 0..4 * KEYS.len() {
            let page = self.store.list(&query).await?;
            for item in page.items {
                let key = (0..KEYS.len()).map(KeyIndex).find(|key| key.key() == item.key);
                let entry = match key {
                    Some(key) => self.record_entry(key, item.entry),
                    None => None,
                };
                items.push((key, entry));
            }
            match page.next {
                Some(next) => query = query.resume(next),
                None => return Ok(Answer::Items(items)),
            }
        }
        Ok(Answer::Failed("the list does not end".to_owned()))
    }

    async fn commit(&mut self, checks: &[(KeyIndex, Condition)], changes: &[Change]) -> Result<Answer, Error> {
        let transaction = checks.iter().fold(Transaction::new(), |transaction, (key, condition)| {
            transaction.check(key.key(), self.when(*condition))
        });
        let transaction = changes.iter().fold(transaction, |transaction, change| match change {
            Change::Set(key, value, lifetime) => transaction.set(key.key(), value.text(), lifetime.expiry(self.start)),
            Change::Delete(key) => transaction.delete(key.key()),
        });
        Ok(match self.store.commit(&transaction).await? {
            CommitOutcome::Committed { versions } => {
                let keys = changes.iter().map(|change| match change {
                    Change::Set(key, ..) | Change::Delete(key) => *key,
                });
                for (key, version) in keys.zip(&versions) {
                    self.seen.extend(version.map(|version| (key, version)));
                }
                Answer::Committed(versions.into_iter().map(|version| self.version_number(version)).collect())
            }
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
            Condition::SeenVersion(key) => {
                When::Version(self.seen.get(&key).copied().unwrap_or(Version::from([0; 16])))
            }
        }
    }

    fn set_outcome(&mut self, key: KeyIndex, outcome: SetOutcome) -> Answer {
        match outcome {
            SetOutcome::Stored { version, previous } => {
                let answer = Answer::Stored {
                    version: self.version_number(version),
                    previous: previous.map(|entry| self.seen_entry(entry)),
                };
                self.seen.extend(version.map(|version| (key, version)));
                answer
            }
            SetOutcome::Refused { current } => Answer::Refused { current: self.record_entry(key, current) },
        }
    }

    fn delete_outcome(&mut self, key: KeyIndex, outcome: DeleteOutcome) -> Answer {
        match outcome {
            DeleteOutcome::Deleted { previous } => {
                Answer::Deleted { previous: previous.map(|entry| self.seen_entry(entry)) }
            }
            DeleteOutcome::Missing => Answer::Missing,
            DeleteOutcome::Refused { current } => Answer::Refused { current: self.record_entry(key, current) },
        }
    }

    /// Returns the entry as the script sees it, and remembers its version as seen.
    fn record_entry(&mut self, key: KeyIndex, entry: Option<Entry>) -> Option<SeenEntry> {
        let entry = entry?;
        self.seen.extend(entry.version.map(|version| (key, version)));
        Some(self.seen_entry(entry))
    }

    fn seen_entry(&mut self, entry: Entry) -> SeenEntry {
        let deadline = match entry.expires {
            Expires::Never => Deadline::Never,
            Expires::At(moment) if self.is_exact => {
                let since = moment.duration_since(self.start).unwrap_or_default();
                Deadline::At(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Expires::At(_) => Deadline::AtUnknownTime,
            _ => Deadline::NotShown,
        };
        SeenEntry { version: self.version_number(entry.version), value: entry.value, deadline }
    }

    fn version_number(&mut self, version: Option<Version>) -> Option<VersionNumber> {
        version.map(|version| self.version_numbers.number(version))
    }
}

fn failed(error: &Error) -> Answer {
    Answer::Failed(error.kind().to_string())
}
