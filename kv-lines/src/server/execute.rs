//! Executes requests.

use kv_core::{Error, Kv, KvStore, Result, SetItem, SetOutcome, When};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::budget::{Outcome, ValueBudget};
use crate::request::Request;
use crate::shape::{Batch, Commit, Delete, Entry, Info, Item, Page, Segments, Set, encode_entry};

/// The number of keys that are read before their values count against the budget.
const CHUNK_KEYS: usize = 64;

/// Executes a request that has one response. Returns `None` for requests about streams, which the session handles.
pub(super) async fn execute(kv: &Kv, request: Request) -> Result<Option<Box<RawValue>>> {
    let store = kv.store();
    let default = kv.default_expiry();
    match request {
        Request::Info {} => json(&Info::from(store.info())),
        Request::Get { key } => json(&encode_entry(store.get(&key.key()?).await?.as_ref())),
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
            json(&deleted.into_iter().map(|one| Outcome::of(one, |one| Delete::from(&one))).collect::<Vec<_>>())
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
            // Decimal text, because a JSON number may be read as a double, which cannot hold every counter.
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
    to_raw_value(result).map(Some).map_err(|error| Error::invalid(format!("cannot encode the result as JSON: {error}")))
}

/// Reads keys until the budget of the response is used up.
async fn get_many(kv: &Kv, keys: Batch<Segments>) -> Result<Vec<Outcome<Option<Entry>>>> {
    let keys = Segments::keys(&keys.into_vec())?;
    let (mut results, mut budget) = (Vec::with_capacity(keys.len()), ValueBudget::new());
    for part in keys.chunks(CHUNK_KEYS) {
        if budget.is_spent() {
            results.extend(part.iter().map(|_| Outcome::over_budget()));
            continue;
        }
        for found in kv.store().get_many(part).await {
            let fits = budget.take(found.iter().flatten().map(|entry| entry.value.len()).sum());
            results.push(if fits {
                Outcome::of(found, |found| encode_entry(found.as_ref()))
            } else {
                Outcome::over_budget()
            });
        }
    }
    Ok(results)
}

/// Writes items. If their results may contain values, it stops when the budget of the response is used up.
async fn set_many(kv: &Kv, items: &[SetItem]) -> Vec<Outcome<Set>> {
    let has_no_value = |item: &SetItem| item.options.when == When::Always && !item.options.return_previous;
    let chunk = if items.iter().all(has_no_value) { items.len().max(1) } else { CHUNK_KEYS };
    let (mut results, mut budget) = (Vec::with_capacity(items.len()), ValueBudget::new());
    for part in items.chunks(chunk) {
        if budget.is_spent() {
            results.extend(part.iter().map(|_| Outcome::over_budget()));
            continue;
        }
        for outcome in kv.store().set_many(part).await {
            // The result of a completed write is always reported, so the response may exceed the budget by one chunk.
            if let Ok(SetOutcome::Stored { previous: entry, .. } | SetOutcome::Refused { current: entry }) = &outcome {
                budget.take(entry.as_ref().map_or(0, |entry| entry.value.len()));
            }
            results.push(Outcome::of(outcome, |outcome| Set::from(&outcome)));
        }
    }
    results
}
