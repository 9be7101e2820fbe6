//! From a request to its result.

use kv_core::{Kv, KvStore, Result, SetItem};
use serde::Serialize;
use serde_json::{Value, json};

use crate::request::Request;
use crate::shape::{Commit, Delete, Failure, Info, Item, Page, Segments, Set, shown};

/// Runs a request that is answered once. Watches and subscriptions live in the session and are `None` here.
pub(super) async fn execute(kv: &Kv, request: Request) -> Result<Option<Value>> {
    let store = kv.store();
    let default = kv.default_expiry();
    Ok(Some(match request {
        Request::Info {} => json!(Info::from(store.info())),
        Request::Get { key } => json!(shown(store.get(&key.key()?).await?.as_ref())),
        Request::Contains { key } => json!(store.contains(&key.key()?).await?),
        Request::Set(set) => {
            let SetItem { key, value, options, .. } = set.into_item(default)?;
            json!(Set::from(&store.set(&key, value, &options).await?))
        }
        Request::Delete(delete) => {
            let (key, options) = delete.into_parts()?;
            json!(Delete::from(&store.delete(&key, &options).await?))
        }
        Request::GetMany { keys } => each(store.get_many(&Segments::keys(&keys)?).await, |found| shown(found.as_ref())),
        Request::SetMany { items } => {
            let items: Vec<SetItem> = items.into_iter().map(|item| item.into_item(default)).collect::<Result<_>>()?;
            each(store.set_many(&items).await, |outcome| Set::from(&outcome))
        }
        Request::DeleteMany { keys } => {
            each(store.delete_many(&Segments::keys(&keys)?).await, |outcome| Delete::from(&outcome))
        }
        Request::List(list) => {
            let page = store.list(&list.query()?).await?;
            json!(Page {
                items: page.items.iter().map(Item::from).collect(),
                next: page.next.as_ref().map(Segments::from),
            })
        }
        Request::Clear { prefix } => json!(store.clear(&prefix.prefix()?).await?),
        Request::Touch { key, expiry } => json!(store.touch(&key.key()?, expiry.new_expiry()?).await?),
        Request::Increment(increment) => {
            let (key, by) = (increment.key.key()?, increment.by()?);
            // As text: a double cannot hold every counter.
            json!(store.increment(&key, by, &increment.options(default)).await?.to_string())
        }
        Request::Commit(commit) => {
            json!(Commit::from(store.commit(&commit.into_transaction(default)?).await?))
        }
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

/// One `{"result": …}` or `{"error": …}` for each.
fn each<T, S: Serialize>(results: Vec<Result<T>>, show: impl Fn(T) -> S) -> Value {
    let shown = results.into_iter().map(|result| match result {
        Ok(result) => json!({"result": show(result)}),
        Err(error) => json!({"error": Failure::from(&error)}),
    });
    Value::Array(shown.collect())
}
