//! Performing a call on a store.

use anykv::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Expires, Expiry, IncrementOptions, Key, Kv, KvStore, NewExpiry,
    Result, SetItem, SetOptions, SetOutcome, Transaction, When,
};
use std::time::{Duration, SystemTime};

use crate::operation::{Answer, Call, Change, Condition, Life, Operation, Seen, SharedCall, Value, Write};
use crate::shared::{GROUP, TOGETHER};

/// Performs the operation of a task. `group` is the first segment of the task's own keys.
pub(crate) async fn perform(kv: &Kv, group: &str, operation: &Operation) -> Answer {
    let answer = match operation {
        Operation::Own(call) => own(kv, group, call).await,
        Operation::Shared(call) => shared(kv, call).await,
    };
    answer.unwrap_or_else(Answer::from)
}

impl From<Entry> for Seen {
    fn from(entry: Entry) -> Self {
        let deadline = match entry.expires {
            Expires::At(deadline) => {
                let since = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            _ => None,
        };
        Self { value: Value::from_bytes(&entry.value), version: entry.version, deadline }
    }
}

async fn own(kv: &Kv, group: &str, call: &Call) -> Result<Answer> {
    let store = kv.store();
    let key = |name: &str| Key::new([group, name]);
    let keys = |names: &[String]| names.iter().map(|name| key(name)).collect::<Result<Vec<_>>>();
    Ok(match call {
        Call::Get(name) => Answer::Found(store.get(&key(name)?).await?.map(Seen::from)),
        Call::GetMany(names) => {
            let found = store.get_many(&keys(names)?).await.into_iter();
            Answer::FoundMany(found.map(|found| found.map(|entry| entry.map(Seen::from))).collect::<Result<_>>()?)
        }
        Call::List { reverse } => {
            let listing = kv.entries([group]).page_size(7);
            let listing = if *reverse { listing.reverse() } else { listing };
            Answer::Listed(
                listing.all().await?.into_iter().map(|(key, entry)| (last(&key), Seen::from(entry))).collect(),
            )
        }
        Call::Set { write, when } => set(store, key(&write.key)?, write, when).await?,
        Call::SetMany(writes) => {
            let item = |write: &Write| Ok(item(key(&write.key)?, write));
            let outcomes = store.set_many(&writes.iter().map(item).collect::<Result<Vec<_>>>()?).await;
            Answer::Many(outcomes.into_iter().map(|outcome| outcome.map_or_else(Answer::from, stored)).collect())
        }
        Call::Delete { key: name, when } => {
            let options = DeleteOptions::default().with_when(condition(when));
            deleted(store.delete(&key(name)?, &options).await?)
        }
        Call::DeleteMany(names) => {
            let outcomes = store.delete_many(&keys(names)?).await;
            Answer::Many(outcomes.into_iter().map(|outcome| outcome.map_or_else(Answer::from, deleted)).collect())
        }
        Call::Take(name) => {
            let options = DeleteOptions::default().with_previous();
            match store.delete(&key(name)?, &options).await? {
                DeleteOutcome::Deleted { previous } => Answer::Found(previous.map(Seen::from)),
                DeleteOutcome::Missing => Answer::Found(None),
                other @ DeleteOutcome::Refused { .. } => deleted(other),
            }
        }
        Call::Touch { key: name, life } => {
            let life = match life {
                Life::Millis(millis) => NewExpiry::After(Duration::from_millis(*millis)),
                Life::Unlimited | Life::Keep => NewExpiry::Never,
            };
            Answer::Touched(store.touch(&key(name)?, life).await?)
        }
        Call::Increment { key: name, by, life } => {
            let options = IncrementOptions::default().with_expiry(expiry(*life));
            Answer::Sum(store.increment(&key(name)?, *by, &options).await?)
        }
        Call::Commit { checks, changes } => {
            let mut transaction = Transaction::new();
            for (name, when) in checks {
                transaction = transaction.check(key(name)?, condition(when));
            }
            for change in changes {
                let key = key(change.key())?;
                transaction = match change {
                    Change::Set(write) => transaction.set(key, write.value.to_bytes(), expiry(write.life)),
                    Change::Delete(_) => transaction.delete(key),
                };
            }
            committed(store.commit(&transaction).await?)
        }
    })
}

async fn shared(kv: &Kv, call: &SharedCall) -> Result<Answer> {
    let store = kv.store();
    let key = |name: &str| Key::new([GROUP, name]);
    Ok(match call {
        SharedCall::Add { key: name, by } => {
            Answer::Sum(store.increment(&key(name)?, *by, &IncrementOptions::default()).await?)
        }
        SharedCall::Swap { key: name, version, to } => {
            let when = version.map_or(When::Absent, When::Version);
            let options = SetOptions::default().with_when(when);
            stored(store.set(&key(name)?, to.to_string().into(), &options).await?)
        }
        SharedCall::WriteAll { writer, number, size } => {
            let value = Value::Written { writer: *writer, number: *number, size: *size }.to_bytes();
            let mut transaction = Transaction::new();
            for name in TOGETHER {
                transaction = transaction.set(key(name)?, value.clone(), Expiry::Never);
            }
            committed(store.commit(&transaction).await?)
        }
        SharedCall::RemoveAll => {
            let mut transaction = Transaction::new();
            for name in TOGETHER {
                transaction = transaction.delete(key(name)?);
            }
            committed(store.commit(&transaction).await?)
        }
    })
}

async fn set(store: &impl KvStore, key: Key, write: &Write, when: &Condition) -> Result<Answer> {
    let options = SetOptions::default().with_expiry(expiry(write.life)).with_when(condition(when));
    Ok(stored(store.set(&key, write.value.to_bytes().into(), &options).await?))
}

fn item(key: Key, write: &Write) -> SetItem {
    let options = SetOptions::default().with_expiry(expiry(write.life));
    SetItem::new(key, write.value.to_bytes()).with_options(options)
}

fn stored(outcome: SetOutcome) -> Answer {
    match outcome {
        SetOutcome::Stored { version, .. } => Answer::Stored(version),
        SetOutcome::Refused { current } => Answer::Refused(current.map(Seen::from)),
    }
}

fn deleted(outcome: DeleteOutcome) -> Answer {
    match outcome {
        DeleteOutcome::Deleted { .. } => Answer::Deleted(true),
        DeleteOutcome::Missing => Answer::Deleted(false),
        DeleteOutcome::Refused { current } => Answer::Refused(current.map(Seen::from)),
    }
}

fn committed(outcome: CommitOutcome) -> Answer {
    match outcome {
        CommitOutcome::Committed { versions } => Answer::Committed(versions),
        CommitOutcome::Refused { check } => Answer::RefusedCheck(check),
    }
}

fn condition(when: &Condition) -> When {
    match when {
        Condition::Always => When::Always,
        Condition::Absent => When::Absent,
        Condition::Present => When::Present,
        Condition::Value(value) => When::Value(value.to_bytes().into()),
        Condition::Version(version) => When::Version(*version),
    }
}

fn expiry(life: Life) -> Expiry {
    match life {
        Life::Unlimited => Expiry::Never,
        Life::Keep => Expiry::Keep,
        Life::Millis(millis) => Expiry::After(Duration::from_millis(millis)),
    }
}

/// The last segment of a key.
pub(crate) fn last(key: &Key) -> String {
    key.segments().next_back().unwrap_or_default().into_owned()
}
