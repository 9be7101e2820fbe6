//! Executes requests.

use kv_core::{
    CommitOutcome, DeleteOutcome, Entry, Kv, KvStore, ListItem, ListPage, Result, SetItem, SetOutcome, When,
};

use super::budget::ValueBudget;
use super::response::{Outcome, Response};
use crate::request::Request;
use crate::shape::{Batch, Commit, Delete, Info, Page, Segments, Set, encode_entry, unix_millis};

/// The number of keys in the first read of a `get_many`, and in each write of a `set_many` whose results may contain
/// values. This number is small, because all values of a read or write are in memory before they count against the
/// budget of the response.
const CHUNK_KEYS: usize = 8;

/// The maximum number of keys in a read of a `get_many`. The number doubles after a read of small values.
const MAX_CHUNK_KEYS: usize = 64;

/// The number of bytes of values in a read below which the next read has twice as many keys.
const CHUNK_BYTES: usize = 1 << 20;

/// The estimated number of bytes of an element of a batch or page, without its key and value.
const ELEMENT_BYTES: usize = 128;

/// Executes a request. The session itself executes the requests that start or stop a stream.
pub(super) async fn execute(kv: &Kv, request: Request) -> Result<Response> {
    let store = kv.store();
    let default = kv.default_expiry();
    Ok(match request {
        Request::Info {} => {
            let info = Info::from(store.info());
            Response::new(0, move || info)
        }
        Request::Get { key } => {
            let found = store.get(&key.key()?).await?;
            Response::new(entry_bytes(found.as_ref()), move || encode_entry(found.as_ref()))
        }
        Request::Contains { key } => scalar(store.contains(&key.key()?).await?),
        Request::Set(set) => {
            let SetItem { key, value, options, .. } = set.into_item(default)?;
            let outcome = store.set(&key, value, &options).await?;
            Response::new(set_bytes(&outcome), move || Set::from(&outcome))
        }
        Request::Delete(delete) => {
            let (key, options) = delete.into_parts()?;
            let outcome = store.delete(&key, &options).await?;
            Response::new(delete_bytes(&outcome), move || Delete::from(&outcome))
        }
        Request::GetMany { keys } => get_many(kv, keys).await?,
        Request::SetMany { items } => {
            let items = items.into_vec().into_iter().map(|item| item.into_item(default));
            set_many(kv, &items.collect::<Result<Vec<_>>>()?).await
        }
        Request::DeleteMany { keys } => {
            let deleted = store.delete_many(&Segments::keys(&keys.into_vec())?).await;
            let bytes = deleted.iter().flatten().map(delete_bytes).sum::<usize>() + deleted.len() * ELEMENT_BYTES;
            let encode = |outcome: Result<DeleteOutcome>| Outcome::of(outcome, |outcome| Delete::from(&outcome));
            Response::new(bytes, move || deleted.into_iter().map(encode).collect::<Vec<_>>())
        }
        Request::List(list) => {
            let page = store.list(&list.query()?).await?;
            Response::new(page_bytes(&page), move || Page::from(&page))
        }
        Request::Clear(clear) => scalar(store.clear(&clear.prefix()?).await?),
        Request::Touch { key, expiry } => scalar(store.touch(&key.key()?, expiry.new_expiry()?).await?),
        Request::Increment(increment) => {
            let (key, by) = (increment.key.key()?, increment.by());
            // The result is decimal text, because a peer may read a JSON number as a double, which cannot hold every
            // counter.
            scalar(store.increment(&key, by, &increment.options(default)).await?.to_string())
        }
        Request::Commit(commit) => {
            let outcome = store.commit(&commit.into_transaction(default)?).await?;
            let versions = match &outcome {
                CommitOutcome::Committed { versions } => versions.len(),
                CommitOutcome::Refused { .. } => 0,
            };
            Response::new(versions * ELEMENT_BYTES, move || Commit::from(outcome))
        }
        Request::Publish(publish) => {
            let (channel, message) = publish.into_parts()?;
            store.publish(&channel, message).await?;
            Response::null()
        }
        Request::Time {} => scalar(unix_millis(store.time().await?)),
        Request::Ping {} => {
            store.ping().await?;
            Response::null()
        }
        Request::Flush {} => {
            store.flush().await?;
            Response::null()
        }
        Request::Sweep {} => scalar(store.sweep().await?),
        Request::Close {} => {
            store.close().await?;
            Response::null()
        }
        // Not reached: `Session::handle` executes these requests.
        Request::Watch(_) | Request::Unwatch { .. } | Request::Subscribe(_) | Request::Unsubscribe { .. } => {
            Response::null()
        }
    })
}

/// Creates a response with a result that contains neither keys nor values.
fn scalar<T: serde::Serialize + Send + 'static>(result: T) -> Response {
    Response::new(0, move || result)
}

fn entry_bytes(entry: Option<&Entry>) -> usize {
    entry.map_or(0, |entry| entry.value.len())
}

fn set_bytes(outcome: &SetOutcome) -> usize {
    match outcome {
        SetOutcome::Stored { previous: entry, .. } | SetOutcome::Refused { current: entry } => {
            entry_bytes(entry.as_ref())
        }
    }
}

fn delete_bytes(outcome: &DeleteOutcome) -> usize {
    match outcome {
        DeleteOutcome::Deleted { previous: entry } | DeleteOutcome::Refused { current: entry } => {
            entry_bytes(entry.as_ref())
        }
        DeleteOutcome::Missing => 0,
    }
}

fn page_bytes(page: &ListPage) -> usize {
    let item = |item: &ListItem| item.key.as_str().len() + entry_bytes(item.entry.as_ref()) + ELEMENT_BYTES;
    let damaged = page.damaged.len() * (ELEMENT_BYTES + kv_core::Key::MAX_BYTES);
    page.items.iter().map(item).sum::<usize>() + damaged
}

/// Reads keys until the budget of the response is used up.
async fn get_many(kv: &Kv, keys: Batch<Segments>) -> Result<Response> {
    let keys = Segments::keys(&keys.into_vec())?;
    let (mut results, mut budget, mut bytes) = (Vec::with_capacity(keys.len()), ValueBudget::new(), 0);
    let (mut rest, mut chunk) = (keys.as_slice(), CHUNK_KEYS);
    while !rest.is_empty() && !budget.is_spent() {
        let (part, later) = rest.split_at(chunk.min(rest.len()));
        rest = later;
        let before = bytes;
        for found in kv.store().get_many(part).await {
            let length = found.iter().flatten().map(|entry| entry.value.len()).sum();
            results.push(budget.take(length).then_some(found));
            bytes += length;
        }
        if bytes - before < CHUNK_BYTES {
            chunk = (chunk * 2).min(MAX_CHUNK_KEYS);
        }
    }
    results.extend(rest.iter().map(|_| None));
    let encode = |found: Option<Result<Option<Entry>>>| match found {
        Some(found) => Outcome::of(found, |found| encode_entry(found.as_ref())),
        None => Outcome::over_budget(),
    };
    Ok(Response::new(bytes + results.len() * ELEMENT_BYTES, move || {
        results.into_iter().map(encode).collect::<Vec<_>>()
    }))
}

/// Writes items. If their results may contain values, stops when the budget of the response is used up.
async fn set_many(kv: &Kv, items: &[SetItem]) -> Response {
    let has_no_value = |item: &SetItem| item.options.when == When::Always && !item.options.return_previous;
    let chunk = if items.iter().all(has_no_value) { items.len().max(1) } else { CHUNK_KEYS };
    let (mut results, mut budget, mut bytes) = (Vec::with_capacity(items.len()), ValueBudget::new(), 0);
    for part in items.chunks(chunk) {
        if budget.is_spent() {
            results.extend(part.iter().map(|_| None));
            continue;
        }
        for outcome in kv.store().set_many(part).await {
            // The result of a completed write is always reported, so the response may exceed the budget by one chunk.
            let length = outcome.as_ref().map_or(0, set_bytes);
            if outcome.is_ok() {
                budget.take(length);
            }
            bytes += length;
            results.push(Some(outcome));
        }
    }
    let encode = |outcome: Option<Result<SetOutcome>>| match outcome {
        Some(outcome) => Outcome::of(outcome, |outcome| Set::from(&outcome)),
        None => Outcome::over_budget(),
    };
    Response::new(bytes + results.len() * ELEMENT_BYTES, move || results.into_iter().map(encode).collect::<Vec<_>>())
}
