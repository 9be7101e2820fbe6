//! From a request to its result.

use anykv::{CommitOutcome, DeleteOutcome, Entry, Error, ErrorKind, Key, Kv, ListItem, Result, SetItem, SetOutcome};
use serde_json::{Map, Value, json};

use super::info;
use super::request::{Request, Segments};
use crate::json::ShownEntry;

/// Runs a request that is answered once. Watches and subscriptions live in the session and are `None` here.
pub(super) async fn execute(kv: &Kv, request: Request) -> Result<Option<Value>> {
    let store = kv.store();
    let default = kv.default_expiry();
    Ok(Some(match request {
        Request::Info {} => info::shown(store.info()),
        Request::Get { key } => entry(store.get(&key.key()?).await?.as_ref()),
        Request::Contains { key } => json!(store.contains(&key.key()?).await?),
        Request::Set(set) => {
            let SetItem { key, value, options, .. } = set.into_item(default)?;
            set_outcome(&store.set(&key, value, &options).await?)
        }
        Request::Delete(delete) => {
            let (key, options) = delete.into_parts()?;
            delete_outcome(&store.delete(&key, &options).await?)
        }
        Request::GetMany { keys } => each(store.get_many(&Segments::keys(&keys)?).await, |found| entry(found.as_ref())),
        Request::SetMany { items } => {
            let items: Vec<SetItem> = items.into_iter().map(|item| item.into_item(default)).collect::<Result<_>>()?;
            each(store.set_many(&items).await, |outcome| set_outcome(&outcome))
        }
        Request::DeleteMany { keys } => {
            each(store.delete_many(&Segments::keys(&keys)?).await, |outcome| delete_outcome(&outcome))
        }
        Request::List(list) => {
            let page = store.list(&list.query()?).await?;
            let items: Vec<Value> = page.items.iter().map(item).collect();
            json!({"items": items, "next": page.next.as_ref().map(segments)})
        }
        Request::Clear { prefix } => json!(store.clear(&prefix.prefix()?).await?),
        Request::Touch { key, expiry } => json!(store.touch(&key.key()?, expiry.new_expiry()?).await?),
        Request::Increment(increment) => {
            let (key, by) = (increment.key.key()?, increment.by()?);
            // As text: a double cannot hold every counter.
            json!(store.increment(&key, by, &increment.options(default)).await?.to_string())
        }
        Request::Commit(commit) => commit_outcome(&store.commit(&commit.into_transaction(default)?).await?),
        Request::Publish(publish) => {
            let (channel, message) = publish.into_parts()?;
            store.publish(&channel, message).await?;
            Value::Null
        }
        Request::Ping {} => {
            store.ping().await?;
            Value::Null
        }
        Request::Flush {} => {
            store.flush().await?;
            Value::Null
        }
        Request::Sweep {} => json!(store.sweep().await?),
        Request::Close {} => {
            store.close().await?;
            Value::Null
        }
        Request::Watch(_) | Request::Unwatch { .. } | Request::Subscribe { .. } | Request::Unsubscribe { .. } => {
            return Ok(None);
        }
    }))
}

/// An error as it stands in a response.
pub(super) fn error(error: &Error) -> Value {
    let mut shown = Map::new();
    shown.insert("kind".to_owned(), json!(error.kind().to_string()));
    match error.kind() {
        ErrorKind::Unsupported { capability } => {
            shown.insert("capability".to_owned(), json!(capability.to_string()));
        }
        ErrorKind::Indeterminate { version: Some(version) } => {
            shown.insert("version".to_owned(), json!(version));
        }
        _ => {}
    }
    shown.insert("message".to_owned(), json!(error.to_string()));
    shown.into()
}

/// A key as its segments.
pub(super) fn segments(key: &Key) -> Vec<String> {
    key.segments().map(std::borrow::Cow::into_owned).collect()
}

fn entry(entry: Option<&Entry>) -> Value {
    json!(entry.map(ShownEntry::from))
}

fn item(ListItem { key, entry }: &ListItem) -> Value {
    let mut shown = json!(entry.as_ref().map(ShownEntry::from));
    if shown.is_null() {
        shown = json!({});
    }
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("key".to_owned(), json!(segments(key)));
    }
    shown
}

fn set_outcome(outcome: &SetOutcome) -> Value {
    match outcome {
        SetOutcome::Stored { version, previous } => {
            json!({"outcome": "stored", "version": version, "previous": entry(previous.as_ref())})
        }
        SetOutcome::Refused { current } => json!({"outcome": "refused", "current": entry(current.as_ref())}),
    }
}

fn delete_outcome(outcome: &DeleteOutcome) -> Value {
    match outcome {
        DeleteOutcome::Deleted { previous } => json!({"outcome": "deleted", "previous": entry(previous.as_ref())}),
        DeleteOutcome::Missing => json!({"outcome": "missing"}),
        DeleteOutcome::Refused { current } => json!({"outcome": "refused", "current": entry(current.as_ref())}),
    }
}

fn commit_outcome(outcome: &CommitOutcome) -> Value {
    match outcome {
        CommitOutcome::Committed { versions } => json!({"outcome": "committed", "versions": versions}),
        CommitOutcome::Refused { check } => json!({"outcome": "refused", "check": check}),
    }
}

/// One `{"result": …}` or `{"error": …}` for each.
fn each<T>(results: Vec<Result<T>>, show: impl Fn(T) -> Value) -> Value {
    let shown = results.into_iter().map(|result| match result {
        Ok(result) => json!({"result": show(result)}),
        Err(failure) => json!({"error": error(&failure)}),
    });
    Value::Array(shown.collect())
}
