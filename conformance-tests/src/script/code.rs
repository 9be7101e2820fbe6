//! A script as the Rust code of a test.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::answer::Mismatch;
use super::step::{Change, Condition, KeyIndex, Lifetime, Listing, Slot, Step, Target, Watching, Write};

/// Returns the code of a test that runs the script on this number of handles in turn. The last step of the script has
/// the wrong answer.
pub(super) fn test_code(script: &[Step], handles: usize, mismatch: &Mismatch) -> String {
    let seen_keys: BTreeSet<KeyIndex> = script.iter().flat_map(conditions).filter_map(version_of).collect();
    let mut lines = vec![
        "#[tokio::test]".to_owned(),
        "async fn it_keeps_the_contract() {".to_owned(),
        "    let clock = ManualClock::new();".to_owned(),
        // The clocks of the cases start 789 ms after a full second, so this clock must do the same.
        "    clock.advance(Duration::from_millis(789));".to_owned(),
        "    let store = open_store(&clock).await; // your store, with this clock".to_owned(),
    ];
    if handles > 1 {
        lines.push("    let other = open_store(&clock).await; // a second handle".to_owned());
    }
    lines.push("    let k = |segments: &[&str]| Key::new(segments).unwrap();".to_owned());
    if script.iter().flat_map(lifetimes).any(|lifetime| matches!(lifetime, Lifetime::Until(_))) {
        lines.push("    let start = clock.now();".to_owned());
    }
    for key in &seen_keys {
        lines.push(format!("    let mut {} = Version::from([0; 16]);", variable(*key)));
    }
    let last = script.len().saturating_sub(1);
    for (at, step) in script.iter().enumerate() {
        let handle = |call: usize| if (at + call).is_multiple_of(handles.max(1)) { "store" } else { "other" };
        if at == last {
            lines.push(format!("    // expected: {}", mismatch.expected));
            lines.push(format!("    // found:    {}", mismatch.found));
        }
        lines.push(format!("    {}", statement(step, handle, at == last)));
        for key in seen_keys.iter().filter(|key| at != last && may_show_version(step, **key)) {
            let (variable, key) = (variable(*key), key_ref(*key));
            lines.push(format!(
                "    if let Some(entry) = store.get({key}).await.unwrap() {{ {variable} = entry.version.unwrap(); }}"
            ));
        }
    }
    lines.push("}".to_owned());
    lines.join("\n")
}

/// The statement that runs a step. The statement of the last step prints the answer.
fn statement(step: &Step, handle: impl Fn(usize) -> &'static str, is_last: bool) -> String {
    let shown = |expression: String| {
        if is_last { format!("dbg!({expression});") } else { format!("let _ = {expression};") }
    };
    let single = |step: &Step, store: &str| match step {
        Step::Take(key) => format!("Kv::new(Arc::clone(&{store})).take_bytes({})", key_code(*key)),
        step => format!("{store}.{}", call(step)),
    };
    match step {
        Step::Together(steps) => {
            let calls: Vec<_> = steps.iter().enumerate().map(|(index, step)| single(step, handle(index))).collect();
            shown(format!("tokio::join!({})", calls.join(", ")))
        }
        Step::Watch(slot, _) => {
            format!("let mut {} = {}.{}.await.unwrap();", watch_variable(*slot), handle(0), call(step))
        }
        Step::Unwatch(slot) => format!("drop({});", watch_variable(*slot)),
        Step::ReadEvents(slot) => reading(&watch_variable(*slot), is_last),
        Step::Subscribe(_) => format!("let mut messages = {}.{}.await.unwrap();", handle(0), call(step)),
        Step::ReadMessages => reading("messages", is_last),
        Step::Advance(_) => format!("{};", call(step)),
        step => shown(format!("{}.await", single(step, handle(0)))),
    }
}

/// The statement that reads the items of a stream until no item comes for a second.
fn reading(stream: &str, is_last: bool) -> String {
    let show = if is_last { "dbg!(item)" } else { "drop(item)" };
    format!("while let Ok(item) = timeout(Duration::from_secs(1), {stream}.next()).await {{ {show}; }}")
}

fn watch_variable(Slot(slot): Slot) -> String {
    format!("watch_{slot}")
}

/// The call of a step, as part of a failure text.
pub(super) fn summary(step: &Step) -> String {
    match step {
        Step::Together(steps) => {
            let calls: Vec<_> = steps.iter().map(|step| format!("`{}`", call(step))).collect();
            format!("{} together", calls.join(" and "))
        }
        Step::ReadEvents(Slot(slot)) => format!("the watch {slot}"),
        step => format!("`{}`", call(step)),
    }
}

/// The variable that holds the last seen version of the key.
fn variable(KeyIndex(index): KeyIndex) -> String {
    format!("seen_{index}")
}

fn version_of(condition: Condition) -> Option<KeyIndex> {
    match condition {
        Condition::SeenVersion(key) => Some(key),
        _ => None,
    }
}

fn conditions(step: &Step) -> Vec<Condition> {
    match step {
        Step::Set(write) => vec![write.condition],
        Step::SetMany(writes) => writes.iter().map(|write| write.condition).collect(),
        Step::Delete { condition, .. } => vec![*condition],
        Step::Commit { checks, .. } => checks.iter().map(|(_, condition)| *condition).collect(),
        Step::Together(steps) => steps.iter().flat_map(conditions).collect(),
        _ => Vec::new(),
    }
}

fn lifetimes(step: &Step) -> Vec<Lifetime> {
    match step {
        Step::Set(write) => vec![write.lifetime],
        Step::SetMany(writes) => writes.iter().map(|write| write.lifetime).collect(),
        Step::Touch(_, lifetime) | Step::Increment { lifetime, .. } => vec![*lifetime],
        Step::Commit { changes, .. } => changes
            .iter()
            .filter_map(|change| match change {
                Change::Set(_, _, lifetime) => Some(*lifetime),
                Change::Delete(_) => None,
            })
            .collect(),
        Step::Together(steps) => steps.iter().flat_map(lifetimes).collect(),
        _ => Vec::new(),
    }
}

/// True if the answer to the step may show a version of the key.
fn may_show_version(step: &Step, wanted: KeyIndex) -> bool {
    match step {
        Step::Get(key) | Step::Delete { key, .. } => *key == wanted,
        Step::Set(write) => write.key == wanted,
        Step::GetMany(keys) | Step::DeleteMany(keys) => keys.contains(&wanted),
        Step::SetMany(writes) => writes.iter().any(|write| write.key == wanted),
        Step::List(listing) => !listing.keys_only,
        Step::Commit { changes, .. } => {
            changes.iter().any(|change| matches!(change, Change::Set(key, ..) if *key == wanted))
        }
        Step::Together(steps) => steps.iter().any(|step| may_show_version(step, wanted)),
        _ => false,
    }
}

/// The code of a step's call, without the variable of the store.
pub(super) fn call(step: &Step) -> String {
    match step {
        Step::Get(key) => format!("get({})", key_ref(*key)),
        Step::Contains(key) => format!("contains({})", key_ref(*key)),
        Step::Set(write) => {
            format!("set({}, {:?}.into(), &{})", key_ref(write.key), write.value.text(), options(write))
        }
        Step::Delete { key, condition, previous } => {
            format!(
                "delete({}, &DeleteOptions::default(){}{})",
                key_ref(*key),
                when_option(*condition),
                previous_option(*previous)
            )
        }
        Step::GetMany(keys) => format!("get_many(&[{}])", key_list(keys)),
        Step::DeleteMany(keys) => format!("delete_many(&[{}])", key_list(keys)),
        Step::SetMany(writes) => {
            let items = writes.iter().map(|write| {
                format!(
                    "SetItem::new({}, {:?}).with_options({})",
                    key_code(write.key),
                    write.value.text(),
                    options(write)
                )
            });
            format!("set_many(&[{}])", items.collect::<Vec<_>>().join(", "))
        }
        Step::List(listing) => format!("list(&{})", query(listing)),
        Step::Clear(key) => format!("clear(&{})", prefix(*key)),
        Step::Touch(key, lifetime) => format!("touch({}, New{})", key_ref(*key), expiry(without_keep(*lifetime))),
        Step::Increment { key, by, lifetime } => {
            let options = format!("IncrementOptions::default().with_expiry({})", expiry(without_keep(*lifetime)));
            format!("increment({}, {by}, &{options})", key_ref(*key))
        }
        Step::Commit { checks, changes } => {
            let checks = checks
                .iter()
                .map(|(key, condition)| format!(".check({}, {})", key_code(*key), condition_code(*condition)));
            let changes = changes.iter().map(|change| match change {
                Change::Set(key, value, lifetime) => {
                    format!(".set({}, {:?}, {})", key_code(*key), value.text(), expiry(*lifetime))
                }
                Change::Delete(key) => format!(".delete({})", key_code(*key)),
            });
            format!("commit(&Transaction::new(){})", checks.chain(changes).collect::<String>())
        }
        Step::Take(key) => format!("take_bytes({})", key_code(*key)),
        Step::Watch(_, watching) => format!("watch(&{})", watch_query(*watching)),
        Step::Subscribe(channels) => format!("subscribe(&{})", prefix(*channels)),
        Step::Publish(channel, payload) => format!("publish({}, {:?}.into())", key_ref(*channel), payload.text()),
        Step::ReadMessages => "subscription.next()".to_owned(),
        Step::ReadEvents(slot) | Step::Unwatch(slot) => format!("{}.next()", watch_variable(*slot)),
        Step::Together(_) => summary(step),
        Step::Advance(millis) => format!("clock.advance(Duration::from_millis({millis}))"),
        Step::Sweep => "sweep()".to_owned(),
    }
}

fn key_code(key: KeyIndex) -> String {
    format!("k(&{:?})", key.segments())
}

fn key_ref(key: KeyIndex) -> String {
    format!("&{}", key_code(key))
}

fn key_list(keys: &[KeyIndex]) -> String {
    keys.iter().map(|key| key_code(*key)).collect::<Vec<_>>().join(", ")
}

fn prefix(key: Option<KeyIndex>) -> String {
    key.map_or("KeyPrefix::ALL".to_owned(), |key| format!("KeyPrefix::from({})", key_code(key)))
}

fn watch_query(watching: Watching) -> String {
    let target = match watching.target {
        Target::Prefix(key) => format!("WatchQuery::prefix({})", prefix(key)),
        Target::Key(key) => format!("WatchQuery::key({})", key_code(key)),
    };
    let snapshot = if watching.snapshot { ".with_snapshot()" } else { "" };
    let keys_only = if watching.keys_only { ".with_keys_only()" } else { "" };
    format!("{target}{snapshot}{keys_only}")
}

fn options(write: &Write) -> String {
    let expiry = match write.lifetime {
        Lifetime::Never => String::new(),
        lifetime => format!(".with_expiry({})", expiry(lifetime)),
    };
    format!("SetOptions::default(){expiry}{}{}", when_option(write.condition), previous_option(write.previous))
}

fn previous_option(previous: bool) -> &'static str {
    if previous { ".with_previous()" } else { "" }
}

fn when_option(condition: Condition) -> String {
    match condition {
        Condition::Always => String::new(),
        condition => format!(".with_when({})", condition_code(condition)),
    }
}

fn condition_code(condition: Condition) -> String {
    match condition {
        Condition::Always => "When::Always".to_owned(),
        Condition::Absent => "When::Absent".to_owned(),
        Condition::Present => "When::Present".to_owned(),
        Condition::Value(value) => format!("When::Value({:?}.into())", value.text()),
        Condition::SeenVersion(key) => format!("When::Version({})", variable(key)),
    }
}

/// Replaces `Keep` by `Never`, for `touch` and `increment`, which have no `Keep`.
fn without_keep(lifetime: Lifetime) -> Lifetime {
    if lifetime == Lifetime::Keep { Lifetime::Never } else { lifetime }
}

fn expiry(lifetime: Lifetime) -> String {
    match lifetime {
        Lifetime::Never => "Expiry::Never".to_owned(),
        Lifetime::Keep => "Expiry::Keep".to_owned(),
        Lifetime::After(millis) => format!("Expiry::After(Duration::from_millis({millis}))"),
        Lifetime::Until(millis) => format!("Expiry::At(start + Duration::from_millis({millis}))"),
    }
}

fn query(listing: &Listing) -> String {
    let Listing { prefix: key, after, before, reverse, limit, keys_only } = listing;
    let mut query = format!("ListQuery::new({})", prefix(*key));
    let bounds = [("with_after", after), ("with_before", before)];
    for (with, key) in bounds.into_iter().filter_map(|(with, key)| Some((with, (*key)?))) {
        let _ = write!(query, ".{with}({})", key_code(key));
    }
    if let Some(limit) = limit {
        let _ = write!(query, ".with_limit({limit})");
    }
    query.push_str(if *reverse { ".with_reverse()" } else { "" });
    query.push_str(if *keys_only { ".with_keys_only()" } else { "" });
    query
}
