//! The open watches of a script.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use kv_core::{DeleteOptions, Error, Key, KvStore, SetOptions, WatchEvent, WatchQuery, WatchStream};

use super::answer::Event;
use super::judge::Judge;
use super::model::prefix;
use super::runner::ScriptRunner;
use super::step::{KeyIndex, SLOTS, Slot, Target, Watching};

/// The open watch of each slot.
#[derive(Default)]
pub(super) struct Watches {
    open: [Option<OpenWatch>; SLOTS],
    /// The number of marks so far.
    marks: usize,
}

struct OpenWatch {
    target: Target,
    stream: WatchStream,
    /// True if the snapshot at the start of the watch was read.
    is_live: bool,
}

impl Watches {
    pub(super) async fn open(
        &mut self,
        store: &Arc<dyn KvStore>,
        Slot(slot): Slot,
        watching: Watching,
    ) -> Result<(), Error> {
        let mut query = match watching.target {
            Target::Prefix(key) => WatchQuery::prefix(prefix(key)),
            Target::Key(key) => WatchQuery::key(key.key()),
        };
        if watching.snapshot {
            query = query.with_snapshot();
        }
        if watching.keys_only {
            query = query.with_keys_only();
        }
        let stream = store.watch(&query).await?;
        if let Some(place) = self.open.get_mut(slot) {
            *place = Some(OpenWatch { target: watching.target, stream, is_live: !watching.snapshot });
        }
        Ok(())
    }

    pub(super) fn close(&mut self, Slot(slot): Slot) {
        self.open.get_mut(slot).and_then(Option::take);
    }

    /// Returns a new key under the prefix. The script writes this mark after all changes, so the event of the mark
    /// comes after the events of the changes.
    fn next_mark(&mut self, prefix: Option<KeyIndex>) -> Key {
        self.marks += 1;
        let number = self.marks.to_string();
        let segments = prefix.map(KeyIndex::segments).unwrap_or_default().iter().copied();
        match Key::new(segments.chain([MARK, &number])) {
            Ok(key) => key,
            Err(error) => unreachable!("the marks of scripts are valid keys: {error}"),
        }
    }
}

/// Time to wait for a missing event after the event of the mark. Such an event can come only over another connection,
/// because one connection keeps the order.
const AFTER_MARK: Duration = Duration::from_secs(2);

/// The second-last segment of a mark.
const MARK: &str = "mark";

fn is_mark(key: &Key) -> bool {
    key.segments().rev().nth(1).is_some_and(|segment| segment == MARK)
}

/// A violation of the contract by the events of a watch.
pub(super) struct WrongEvents {
    /// The events that the contract allows instead of the last event.
    pub(super) expected: String,
    pub(super) found: String,
}

impl ScriptRunner<'_> {
    /// Reads the events of the watch in the slot until all changes so far were reported. Fails if the contract does not
    /// allow an event, or if no event comes within `patience`.
    ///
    /// For the watch of a prefix, writes a mark and reads until the event of the mark. If a store uses several
    /// connections, events of earlier changes may come after this event, so this function then waits for the missing
    /// events.
    pub(super) async fn read_events(
        &mut self,
        slot: Slot,
        judge: &mut Judge,
        patience: Duration,
    ) -> Result<(), WrongEvents> {
        let store = self.handle(0);
        let Some(mut watch) = self.watches.open.get_mut(slot.0).and_then(Option::take) else { return Ok(()) };
        let mut events: Vec<Event> = Vec::new();
        let mut mark: Option<Key> = None;
        let mut waits_for_mark = false;
        loop {
            // Write the mark only after the end of the snapshot: an earlier mark could be part of the snapshot, and
            // then the watch sends no event of the mark.
            if let (Target::Prefix(prefix), true, None) = (watch.target, watch.is_live, &mark) {
                let next = self.watches.next_mark(prefix);
                written(store.set(&next, "mark".into(), &SetOptions::default()).await)?;
                (mark, waits_for_mark) = (Some(next), true);
            }
            let missing = judge.missing_event(slot);
            let item = if waits_for_mark || missing.is_some() {
                let patience = if mark.is_some() && !waits_for_mark { patience.min(AFTER_MARK) } else { patience };
                let Ok(item) = tokio::time::timeout(patience, watch.stream.next()).await else {
                    let expected = missing.unwrap_or_else(|| format!("an event of the key {mark:?}"));
                    let found = format!("no event for {patience:?} after {events:?}");
                    return Err(WrongEvents { expected, found });
                };
                item
            } else {
                let Some(item) = watch.stream.next().now_or_never() else { break };
                item
            };
            if let Some(Ok(WatchEvent::Set { key, .. } | WatchEvent::Removed { key })) = &item
                && is_mark(key)
            {
                waits_for_mark &= Some(key) != mark.as_ref();
                continue;
            }
            if matches!(item, Some(Ok(WatchEvent::Suspended { .. }))) {
                // This event is advisory.
                continue;
            }
            let event = self.event(item);
            watch.is_live |= event == Event::SnapshotEnd;
            let verdict = judge.event(slot, &event);
            events.push(event);
            verdict.map_err(|expected| WrongEvents { expected, found: format!("the events {events:?}") })?;
        }
        if let Some(mark) = &mark {
            judge.settle(slot);
            written(store.delete(mark, &DeleteOptions::default()).await)?;
        }
        if let Some(place) = self.watches.open.get_mut(slot.0) {
            *place = Some(watch);
        }
        Ok(())
    }

    /// Converts an item of a watch to an event of the script.
    fn event(&mut self, item: Option<Result<WatchEvent, Error>>) -> Event {
        match item {
            Some(Ok(WatchEvent::Set { key, entry })) => {
                let entry = self.caller.seen(entry);
                let entry = entry.map(|entry| entry.map(&mut |version| self.caller.memory.number(version)));
                Event::Set(KeyIndex::of(&key), entry)
            }
            Some(Ok(WatchEvent::Removed { key })) => Event::Removed(KeyIndex::of(&key)),
            Some(Ok(WatchEvent::SnapshotEnd)) => Event::SnapshotEnd,
            Some(Ok(WatchEvent::Gap { reason })) => Event::Gap(reason),
            Some(Ok(other)) => Event::Other(format!("{other:?}")),
            Some(Err(error)) => Event::Other(error.to_string()),
            None => Event::Other("the end of the stream".to_owned()),
        }
    }
}

/// Fails if a mark could not be written or deleted.
fn written<T>(result: Result<T, Error>) -> Result<(), WrongEvents> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err(WrongEvents { expected: "a write of another key".to_owned(), found: error.to_string() }),
    }
}
