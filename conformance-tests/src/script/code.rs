//! A script as the Rust code of a test.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::answer::Mismatch;
use super::step::{Change, Condition, KeyIndex, Lifetime, Listing, Step, Write};

/// A test that runs the script. Its last step is the one with the wrong answer.
pub(super) fn test_code(script: &[Step], mismatch: &Mismatch) -> String {
    let seen_keys: BTreeSet<KeyIndex> = script.iter().flat_map(conditions).filter_map(version_of).collect();
    let mut lines = vec![
        "#[tokio::test]".to_owned(),
        "async fn it_keeps_the_contract() {".to_owned(),
        "    let clock = ManualClock::new();".to_owned(),
        "    let store = open_store(&clock).await; // your store, with this clock".to_owned(),
        "    let k = |segments: &[&str]| Key::new(segments).unwrap();".to_owned(),
    ];
    if script.iter().flat_map(lifetimes).any(|lifetime| matches!(lifetime, Lifetime::Until(_))) {
        lines.push("    let start = clock.now();".to_owned());
    }
    for name in &seen_keys {
        lines.push(format!("    let mut {} = Version::from([0; 16]);", variable(*name)));
    }
    let last = script.len().saturating_sub(1);
    for (at, step) in script.iter().enumerate() {
        let call = call(step);
        if matches!(step, Step::Advance(_)) {
            lines.push(format!("    {call};"));
            continue;
        }
        if at == last {
            lines.push(format!("    // expected: {}", mismatch.expected));
            lines.push(format!("    // found:    {}", mismatch.found));
            lines.push(format!("    dbg!(store.{call}.await);"));
            continue;
        }
        lines.push(format!("    let _ = store.{call}.await;"));
        for name in seen_keys.iter().filter(|name| may_show_version(step, **name)) {
            let (variable, key) = (variable(*name), key_ref(*name));
            lines.push(format!(
                "    if let Some(entry) = store.get({key}).await.unwrap() {{ {variable} = entry.version.unwrap(); }}"
            ));
        }
    }
    lines.push("}".to_owned());
    lines.join("\n")
}

/// The variable that holds the last seen version of the key.
fn variable(KeyIndex(place): KeyIndex) -> String {
    format!("seen_{place}")
}

fn version_of(condition: Condition) -> Option<KeyIndex> {
    match condition {
        Condition::SeenVersion(name) => Some(name),
        _ => None,
    }
}

fn conditions(step: &Step) -> Vec<Condition> {
    match step {
        Step::Set(write) => vec![write.condition],
        Step::SetMany(writes) => writes.iter().map(|write| write.condition).collect(),
        Step::Delete { condition, .. } => vec![*condition],
        Step::Commit { checks, .. } => checks.iter().map(|(_, condition)| *condition).collect(),
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
        _ => Vec::new(),
    }
}

/// True if the answer to the step may show a version of the key.
fn may_show_version(step: &Step, name: KeyIndex) -> bool {
    match step {
        Step::Get(key) | Step::Delete { key, .. } => *key == name,
        Step::Set(write) => write.key == name,
        Step::GetMany(keys) | Step::DeleteMany(keys) => keys.contains(&name),
        Step::SetMany(writes) => writes.iter().any(|write| write.key == name),
        Step::List(listing) => !listing.keys_only,
        Step::Commit { changes, .. } => {
            changes.iter().any(|change| matches!(change, Change::Set(key, ..) if *key == name))
        }
        Step::Contains(_)
        | Step::Clear(_)
        | Step::Touch(..)
        | Step::Increment { .. }
        | Step::Advance(_)
        | Step::Sweep => false,
    }
}

/// The call, without the store in front.
pub(super) fn call(step: &Step) -> String {
    match step {
        Step::Get(name) => format!("get({})", key_ref(*name)),
        Step::Contains(name) => format!("contains({})", key_ref(*name)),
        Step::Set(write) => {
            format!("set({}, {:?}.into(), &{})", key_ref(write.key), write.value.text(), options(write))
        }
        Step::Delete { key: name, condition, previous } => {
            format!(
                "delete({}, &DeleteOptions::default(){}{})",
                key_ref(*name),
                when_option(*condition),
                previous_option(*previous)
            )
        }
        Step::GetMany(names) => format!("get_many(&[{}])", keys(names)),
        Step::DeleteMany(names) => format!("delete_many(&[{}])", keys(names)),
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
        Step::Clear(name) => format!("clear(&{})", prefix(*name)),
        Step::Touch(name, lifetime) => format!("touch({}, New{})", key_ref(*name), expiry(without_keep(*lifetime))),
        Step::Increment { key: name, by, lifetime } => {
            let options = format!("IncrementOptions::default().with_expiry({})", expiry(without_keep(*lifetime)));
            format!("increment({}, {by}, &{options})", key_ref(*name))
        }
        Step::Commit { checks, changes } => {
            let checks = checks
                .iter()
                .map(|(name, condition)| format!(".check({}, {})", key_code(*name), condition_code(*condition)));
            let changes = changes.iter().map(|change| match change {
                Change::Set(name, value, lifetime) => {
                    format!(".set({}, {:?}, {})", key_code(*name), value.text(), expiry(*lifetime))
                }
                Change::Delete(name) => format!(".delete({})", key_code(*name)),
            });
            format!("commit(&Transaction::new(){})", checks.chain(changes).collect::<String>())
        }
        Step::Advance(millis) => format!("clock.advance(Duration::from_millis({millis}))"),
        Step::Sweep => "sweep()".to_owned(),
    }
}

fn key_code(name: KeyIndex) -> String {
    format!("k(&{:?})", name.segments())
}

fn key_ref(name: KeyIndex) -> String {
    format!("&{}", key_code(name))
}

fn keys(names: &[KeyIndex]) -> String {
    names.iter().map(|name| key_code(*name)).collect::<Vec<_>>().join(", ")
}

fn prefix(name: Option<KeyIndex>) -> String {
    name.map_or("KeyPrefix::ALL".to_owned(), |name| format!("KeyPrefix::from({})", key_code(name)))
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
        Condition::SeenVersion(name) => format!("When::Version({})", variable(name)),
    }
}

/// `Keep` as `Never`, for calls that have no deadline to keep.
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
    let Listing { prefix: name, after, before, reverse, limit, keys_only } = listing;
    let mut query = format!("ListQuery::new({})", prefix(*name));
    let bounds = [("with_after", after), ("with_before", before)];
    for (with, name) in bounds.into_iter().filter_map(|(with, name)| Some((with, (*name)?))) {
        let _ = write!(query, ".{with}({})", key_code(name));
    }
    if let Some(limit) = limit {
        let _ = write!(query, ".with_limit({limit})");
    }
    query.push_str(if *reverse { ".with_reverse()" } else { "" });
    query.push_str(if *keys_only { ".with_keys_only()" } else { "" });
    query
}
