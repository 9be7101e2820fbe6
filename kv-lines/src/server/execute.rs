//! From a request to its result.

use kv_core::{Error, Kv, KvStore, Result, SetItem, SetOutcome, When};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::room::{Each, Room};
use crate::request::Request;
use crate::shape::{Commit, Delete, Entry, Info, Item, Many, Page, Segments, Set, shown};

/// How many keys of a batch are read before their values are counted.
const PART: usize = 64;

/// Runs a request that is answered once. Watches and subscriptions live in the session and are `None` here.
pub(super) async fn execute(kv: &Kv, request: Request) -> Result<Option<Box<RawValue>>> {
    let store = kv.store();
    let default = kv.default_expiry();
    match request {
        Request::Info {} => json(&Info::from(store.info())),
        Request::Get { key } => json(&shown(store.get(&key.key()?).await?.as_ref())),
        Request::Contains { key } => json(&store.contains(&key.key()?).await?),
        Request::Set(set) => {
            let SetItem { key, value, options, .. } = set.into_item(default)?;
            json(&Set::from(&store.set(&key, value, &options).await?))
        }
        Request::Delete(delete) => {
            let (key, options) = delete.into_parts()?;
            json(&Delete::from(&store.delete(&key, &options).await?))
        }
        Request::GetMany { keys } => json(&get_many(kv, keys).await?),
        Request::SetMany { items } => {
            let items = items.into_vec().into_iter().map(|item| item.into_item(default));
            json(&set_many(kv, &items.collect::<Result<Vec<_>>>()?).await)
        }
        Request::DeleteMany { keys } => {
            let deleted = store.delete_many(&Segments::keys(&keys.into_vec())?).await;
            json(&deleted.into_iter().map(|one| Each::of(one, |one| Delete::from(&one))).collect::<Vec<_>>())
        }
        Request::List(list) => {
            let page = store.list(&list.query()?).await?;
            json(&Page {
                items: page.items.iter().map(Item::from).collect(),
                next: page.next.as_ref().map(Segments::from),
            })
        }
        Request::Clear { prefix } => json(&store.clear(&prefix.prefix()?).await?),
        Request::Touch { key, expiry } => json(&store.touch(&key.key()?, expiry.new_expiry()?).await?),
        Request::Increment(increment) => {
            let (key, by) = (increment.key.key()?, increment.by());
            // As text: a double cannot hold every counter.
            json(&store.increment(&key, by, &increment.options(default)).await?.to_string())
        }
        Request::Commit(commit) => json(&Commit::from(store.commit(&commit.into_transaction(default)?).await?)),
        Request::Publish(publish) => {
            let (channel, message) = publish.into_parts()?;
            store.publish(&channel, message).await?;
            json(&Value::Null)
        }
        Request::Ping {} => {
            store.ping().await?;
            json(&Value::Null)
        }
        Request::Flush {} => {
            store.flush().await?;
            json(&Value::Null)
        }
        Request::Sweep {} => json(&store.sweep().await?),
        Request::Close {} => {
            store.close().await?;
            json(&Value::Null)
        }
        Request::Watch(_) | Request::Unwatch { .. } | Request::Subscribe { .. } | Request::Unsubscribe { .. } => {
            Ok(None)
        }
    }
}

fn json(result: &impl Serialize) -> Result<Option<Box<RawValue>>> {
    to_raw_value(result).map(Some).map_err(|error| Error::invalid(format!("the result is no JSON: {error}")))
}

/// Reads as many as one answer has room for.
async fn get_many(kv: &Kv, keys: Many<Segments>) -> Result<Vec<Each<Option<Entry>>>> {
    let keys = Segments::keys(&keys.into_vec())?;
    let (mut answers, mut room) = (Vec::with_capacity(keys.len()), Room::new());
    for part in keys.chunks(PART) {
        if room.is_full() {
            answers.extend(part.iter().map(|_| Each::no_room()));
            continue;
        }
        for found in kv.store().get_many(part).await {
            let fits = room.take(found.iter().flatten().map(|entry| entry.value.len()).sum());
            answers.push(if fits { Each::of(found, |found| shown(found.as_ref())) } else { Each::no_room() });
        }
    }
    Ok(answers)
}

/// Writes all, or, where each answer may have a value in it, as many as one answer has room for.
async fn set_many(kv: &Kv, items: &[SetItem]) -> Vec<Each<Set>> {
    let is_brief = |item: &SetItem| item.options.when == When::Always && !item.options.return_previous;
    let part = if items.iter().all(is_brief) { items.len().max(1) } else { PART };
    let (mut answers, mut room) = (Vec::with_capacity(items.len()), Room::new());
    for part in items.chunks(part) {
        if room.is_full() {
            answers.extend(part.iter().map(|_| Each::no_room()));
            continue;
        }
        for outcome in kv.store().set_many(part).await {
            // What was written is told, and what it overflows by is less than a part.
            if let Ok(SetOutcome::Stored { previous: told, .. } | SetOutcome::Refused { current: told }) = &outcome {
                room.take(told.as_ref().map_or(0, |entry| entry.value.len()));
            }
            answers.push(Each::of(outcome, |outcome| Set::from(&outcome)));
        }
    }
    answers
}
