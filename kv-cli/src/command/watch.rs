//! The command `kv watch`.

use anykv::{Key, KeyPrefix, Kv, WatchEvent, WatchQuery};
use futures_util::StreamExt;
use kv_lines::shape::{Event, Reason};

use crate::args::WatchArgs;
use crate::escape::{self, Layout};
use crate::exit::{Answer, Failure};
use crate::output::{self, Output};

pub(crate) async fn run(kv: &Kv, args: WatchArgs, output: &mut Output) -> Result<Answer, Failure> {
    let WatchArgs { prefix, snapshot, keys, count } = args;
    let prefix = prefix.map_or(KeyPrefix::ALL, KeyPrefix::from);
    let mut query = WatchQuery::prefix(prefix.clone());
    if snapshot {
        query = query.with_snapshot();
    }
    if keys {
        query = query.with_keys_only();
    }
    let mut events = kv.store().watch(&query).await?;
    output::message(&format!("watching {}", output::quoted_prefix(&prefix)));
    let mut remaining = count;
    while remaining != Some(0) {
        let Some(event) = events.next().await else { break };
        print_event(&event?, output)?;
        output.flush()?;
        remaining = remaining.map(|remaining| remaining - 1);
    }
    Ok(Answer::Yes)
}

fn print_event(event: &WatchEvent, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&Event::of(event, |key: &Key| key.clone()));
    }
    let line = match event {
        WatchEvent::Set { key, entry: Some(entry) } => {
            format!("set\t{}\t{}", output.key(key), escape::bytes(&entry.value, Layout::Line))
        }
        WatchEvent::Set { key, entry: None } => format!("set\t{}", output.key(key)),
        WatchEvent::Removed { key } => format!("removed\t{}", output.key(key)),
        WatchEvent::Changed { key } => format!("changed\t{}", output.key(key)),
        WatchEvent::Suspended { reason } => format!("suspended\t{}", Reason::from(*reason).name()),
        WatchEvent::SnapshotEnd => "snapshot-end".to_owned(),
        WatchEvent::Gap { reason } => format!("gap\t{}", Reason::from(*reason).name()),
        _ => "unknown".to_owned(),
    };
    output.line(&line)
}
