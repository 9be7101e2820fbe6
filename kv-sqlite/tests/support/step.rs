//! The steps of a random history. A step is computed from a seed and a number, so that parent and child compute the
//! same steps.

use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, NewExpiry, Result,
    SetItem, SetOptions, SetOutcome, Transaction, Version, When,
};
use kv_sqlite::SqliteStore;

use super::Random;
use super::model::moment;

#[derive(Debug, Clone)]
pub enum Step {
    Set(Item),
    Delete { key: Key, when: Condition },
    Touch { key: Key, deadline: Option<u64> },
    Increment { key: Key, by: i64, deadline: Option<u64> },
    Commit { check: (Key, Condition), items: Vec<Item>, deleted: Key },
    SetMany(Vec<Item>),
    DeleteMany(Vec<Key>),
    Clear(KeyPrefix),
    Get(Key),
    Contains(Key),
    GetMany(Vec<Key>),
    List { prefix: KeyPrefix, reverse: bool, limit: usize },
    Sweep,
    Flush,
}

#[derive(Debug, Clone)]
pub struct Item {
    pub key: Key,
    pub value: Bytes,
    pub expiry: ItemExpiry,
    pub when: Condition,
}

#[derive(Debug, Clone, Copy)]
pub enum ItemExpiry {
    /// The deadline in milliseconds; `None` for no deadline.
    At(Option<u64>),
    Keep,
}

/// A condition of a write. If the condition needs a version or a value, the step reads the version or value from the
/// store when it runs.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    Always,
    Absent,
    Present,
    /// The current version.
    SameVersion,
    /// The current value.
    SameValue,
    /// A version that no entry has had.
    OtherVersion,
}

/// The result of a step: its outcome as text, and the versions of its writes in order.
#[derive(Debug, Default)]
pub struct StepResult {
    pub outcome: String,
    pub versions: Vec<Version>,
}

impl Step {
    /// Returns the step with this number of a task. `now` is the store's time in milliseconds.
    pub fn of(seed: u64, task: usize, number: u64, now: u64) -> Self {
        let mixed = seed ^ (number * 1_000 + task as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = Random::seeded(mixed);
        random.below(2);
        Generator { random, task, number, now }.step()
    }
}

struct Generator {
    random: Random,
    task: usize,
    number: u64,
    now: u64,
}

impl Generator {
    fn step(&mut self) -> Step {
        match self.random.below(100) {
            0..28 => Step::Set(self.item("k")),
            28..36 => Step::Delete { key: self.key("k"), when: self.condition() },
            36..43 => Step::Touch { key: self.key("k"), deadline: self.deadline() },
            43..53 => {
                // Some increments change an entry that is not a counter, and some exceed the range of a counter.
                let key = if self.random.below(5) == 0 { self.key("k") } else { self.key("count") };
                let by = if self.random.below(20) == 0 {
                    i64::MAX
                } else {
                    i64::try_from(self.random.below(9)).unwrap() - 4
                };
                Step::Increment { key, by, deadline: self.deadline() }
            }
            53..68 => Step::Commit {
                check: (self.key("k"), self.condition()),
                items: (0..=self.random.below(3)).map(|_| self.item("k")).collect(),
                deleted: self.key("nested"),
            },
            68..73 => Step::SetMany((0..4).map(|_| self.item("nested")).collect()),
            73..76 => Step::DeleteMany((0..3).map(|_| self.key("k")).collect()),
            76..79 => Step::Clear(self.prefix("nested")),
            79..84 => Step::Get(self.key("k")),
            84..87 => Step::Contains(self.key("k")),
            87..89 => Step::GetMany((0..3).map(|_| self.key("k")).collect()),
            89..95 => Step::List {
                prefix: if self.random.below(2) == 0 { self.prefix("nested") } else { self.prefix("k") },
                reverse: self.random.below(2) == 0,
                limit: 1 + self.random.index(12),
            },
            95..98 => Step::Sweep,
            _ => Step::Flush,
        }
    }

    fn key(&mut self, name: &str) -> Key {
        Key::new([&format!("t{}", self.task), name, &self.random.below(6).to_string()]).unwrap()
    }

    fn prefix(&self, name: &str) -> KeyPrefix {
        Key::new([&format!("t{}", self.task), name]).unwrap().into()
    }

    /// Returns a random deadline: none, in the past, before the next round, before the round after the next, or later.
    fn deadline(&mut self) -> Option<u64> {
        [
            None,
            None,
            None,
            Some(self.now - 1),
            Some(self.now + 30_000),
            Some(self.now + 90_000),
            Some(self.now + 600_000),
        ][self.random.index(7)]
    }

    fn condition(&mut self) -> Condition {
        use Condition::{Absent, Always, OtherVersion, Present, SameValue, SameVersion};
        [Always, Always, Always, Absent, Present, SameVersion, SameValue, OtherVersion][self.random.index(8)]
    }

    fn item(&mut self, name: &str) -> Item {
        let expiry = if self.random.below(5) == 0 { ItemExpiry::Keep } else { ItemExpiry::At(self.deadline()) };
        // Most values fit in the row, some are in the table of large values, and a few take several pages.
        let length = match self.random.below(20) {
            0 => self.random.index(40_000),
            1..6 => self.random.index(6_000),
            _ => self.random.index(300),
        };
        let text = format!("{}.{}.{}.", self.task, self.number, self.random.below(1_000));
        let value = text.bytes().cycle().take(length.max(text.len())).collect();
        Item { key: self.key(name), value, expiry, when: self.condition() }
    }
}

impl Item {
    async fn to_set(&self, store: &SqliteStore) -> Result<SetItem> {
        let options = SetOptions::default().with_expiry(self.expiry.to_expiry());
        let options = options.with_when(self.when.to_when(store, &self.key).await?);
        Ok(SetItem::new(self.key.clone(), self.value.clone()).with_options(options))
    }
}

impl ItemExpiry {
    fn to_expiry(self) -> Expiry {
        match self {
            Self::Keep => Expiry::Keep,
            Self::At(None) => Expiry::Never,
            Self::At(Some(millis)) => Expiry::At(moment(millis)),
        }
    }
}

impl Condition {
    async fn to_when(self, store: &SqliteStore, key: &Key) -> Result<When> {
        let current = store.get(key).await?;
        Ok(match (self, current) {
            (Self::Always, _) => When::Always,
            (Self::Absent, _) => When::Absent,
            (Self::SameVersion, Some(entry)) => When::Version(entry.version.unwrap()),
            (Self::SameValue, Some(entry)) => When::Value(entry.value),
            (Self::OtherVersion, _) => When::Version(Version::random()),
            (Self::Present | Self::SameVersion | Self::SameValue, _) => When::Present,
        })
    }
}

/// Runs a step on the store and returns its result, with the same texts for outcomes as [`plan`](super::model::plan).
pub async fn perform(store: &SqliteStore, step: &Step) -> Result<StepResult> {
    let mut result = StepResult::default();
    result.outcome = match step {
        Step::Set(item) => {
            let SetItem { key, value, options, .. } = item.to_set(store).await?;
            stored(&store.set(&key, value, &options).await?, &mut result.versions)
        }
        Step::Delete { key, when } => {
            let options = DeleteOptions::default().with_when(when.to_when(store, key).await?);
            deleted(&store.delete(key, &options).await?).into()
        }
        Step::Touch { key, deadline } => {
            let expiry = deadline.map_or(NewExpiry::Never, |millis| NewExpiry::At(moment(millis)));
            store.touch(key, expiry).await?.to_string()
        }
        Step::Increment { key, by, deadline } => {
            let options = IncrementOptions::default().with_expiry(ItemExpiry::At(*deadline).to_expiry());
            match store.increment(key, *by, &options).await {
                Err(error) if error.kind() == kv_core::ErrorKind::Invalid => "invalid".into(),
                count => count?.to_string(),
            }
        }
        Step::Commit { check: (key, condition), items, deleted } => {
            let transaction = Transaction::new().check(key.clone(), condition.to_when(store, key).await?);
            let transaction = items.iter().fold(transaction, |transaction, item| {
                transaction.set(item.key.clone(), item.value.clone(), item.expiry.to_expiry())
            });
            match store.commit(&transaction.delete(deleted.clone())).await? {
                kv_core::CommitOutcome::Committed { versions } => {
                    result.versions = versions.into_iter().flatten().collect();
                    "committed".into()
                }
                kv_core::CommitOutcome::Refused { check } => format!("refused{check}"),
            }
        }
        Step::SetMany(items) => {
            let mut sets = Vec::new();
            for item in items {
                // The items have no conditions, because the model does not support conditions on earlier items.
                sets.push(Item { when: Condition::Always, ..item.clone() }.to_set(store).await?);
            }
            let mut words = Vec::new();
            for outcome in store.set_many(&sets).await {
                words.push(stored(&outcome?, &mut result.versions));
            }
            words.join(",")
        }
        Step::DeleteMany(keys) => {
            let outcomes = store.delete_many(keys).await.into_iter().collect::<Result<Vec<_>>>()?;
            outcomes.iter().map(deleted).collect::<Vec<_>>().join(",")
        }
        Step::Clear(prefix) => store.clear(prefix).await?.to_string(),
        Step::Get(key) => digest(store.get(key).await?.map(|entry| entry.value)),
        Step::Contains(key) => store.contains(key).await?.to_string(),
        Step::GetMany(keys) => {
            let entries = store.get_many(keys).await.into_iter().collect::<Result<Vec<_>>>()?;
            entries.into_iter().map(|entry| digest(entry.map(|entry| entry.value))).collect::<Vec<_>>().join(",")
        }
        Step::List { prefix, reverse, limit } => {
            let query = ListQuery::new(prefix.clone()).with_limit(*limit);
            let query = if *reverse { query.with_reverse() } else { query };
            let page = store.list(&query).await?;
            page.items.iter().map(|item| item.key.to_string()).collect::<Vec<_>>().join(",")
        }
        // The number of removed entries is not part of the outcome, because it depends on the other tasks.
        Step::Sweep => store.sweep().await.map(|_| "swept".into())?,
        Step::Flush => store.flush().await.map(|()| "flushed".into())?,
    };
    Ok(result)
}

fn stored(outcome: &SetOutcome, versions: &mut Vec<Version>) -> String {
    versions.extend(outcome.version());
    if outcome.is_stored() { "stored".into() } else { "refused".into() }
}

fn deleted(outcome: &DeleteOutcome) -> &'static str {
    match outcome {
        DeleteOutcome::Deleted { .. } => "deleted",
        DeleteOutcome::Missing => "missing",
        DeleteOutcome::Refused { .. } => "refused",
    }
}

/// Returns the length and the checksum of a value as one word.
pub fn digest(value: Option<Bytes>) -> String {
    value.map_or_else(|| "none".into(), |value| format!("{}:{:08x}", value.len(), crc32c::crc32c(&value)))
}
