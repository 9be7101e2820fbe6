//! The command `kv get`.

use anykv::{Key, Kv};
use kv_lines::shape;
use serde::Serialize;

use crate::exit::{Answer, Failure};
use crate::output::{self, Output};

/// The JSON form of an entry with its key.
#[derive(Debug, Serialize)]
struct KeyedEntry<'k> {
    key: &'k Key,
    #[serde(flatten)]
    entry: shape::Entry,
}

pub(crate) async fn run(kv: &Kv, key: &Key, output: &mut Output) -> Result<Answer, Failure> {
    let entry = kv.store().get(key).await?;
    if output.is_json() {
        output.json(&entry.as_ref().map(|entry| KeyedEntry { key, entry: entry.into() }))?;
        return Ok(Answer::of(entry.is_some()));
    }
    let Some(entry) = entry else {
        output::message(&format!("no entry under {}", output::quoted(key)));
        return Ok(Answer::No);
    };
    output.value(&entry.value)?;
    Ok(Answer::Yes)
}
