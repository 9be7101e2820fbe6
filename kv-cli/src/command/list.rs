//! The command `kv list`.

use std::sync::Arc;

use anykv::{Key, KeyPrefix, Kv, ListItem, ListQuery};
use kv_lines::shape;
use serde::Serialize;

use crate::args::ListArgs;
use crate::escape::{self, Layout};
use crate::exit::{Answer, Failure};
use crate::output::Output;
use crate::pager::Pager;

/// The JSON form of a listed key, with its entry unless `--keys` is set.
#[derive(Debug, Serialize)]
struct ListedKey<'k> {
    key: &'k Key,
    #[serde(flatten)]
    entry: Option<shape::Entry>,
}

pub(crate) async fn run(kv: &Kv, args: ListArgs, output: &mut Output) -> Result<Answer, Failure> {
    let mut pages = Pager::new(Arc::clone(kv.store()), query(args));
    while let Some(items) = pages.next_page().await? {
        for item in items {
            print_item(&item, output)?;
        }
        output.flush()?;
    }
    Failure::check_damaged(pages.damaged())?;
    Ok(Answer::Yes)
}

fn query(args: ListArgs) -> ListQuery {
    let ListArgs { prefix, keys, limit, after, before, reverse } = args;
    let mut query = ListQuery::new(prefix.map_or(KeyPrefix::ALL, KeyPrefix::from));
    query.keys_only = keys;
    query.limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    query.after = after;
    query.before = before;
    query.reverse = reverse;
    query
}

fn print_item(ListItem { key, entry }: &ListItem, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&ListedKey { key, entry: entry.as_ref().map(shape::Entry::from) });
    }
    let line = match entry {
        Some(entry) => format!("{}\t{}", output.key(key), escape::bytes(&entry.value, Layout::Line)),
        None => output.key(key).into_owned(),
    };
    output.line(&line)
}
