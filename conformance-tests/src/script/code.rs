//! A script as the Rust code of a test, to be pasted beside a store.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::search::Parting;
use super::step::{Change, Guard, Life, Listing, Name, Step, Write};

/// A test that plays the script. Its last step is the one that came out wrong.
pub(super) fn test(script: &[Step], parting: &Parting) -> String {
    let named: BTreeSet<Name> = script.iter().flat_map(guards).filter_map(version_of).collect();
    let mut lines = vec![
        "#[tokio::test]".to_owned(),
        "async fn it_keeps_the_contract() {".to_owned(),
        "    let clock = ManualClock::new();".to_owned(),
        "    let store = open_mine_on(&clock).await;".to_owned(),
        "    let k = |segments: &[&str]| Key::new(segments).unwrap();".to_owned(),
    ];
    if script.iter().flat_map(lives).any(|life| matches!(life, Life::Until(_))) {
        lines.push("    let start = clock.now();".to_owned());
    }
    for name in &named {
        lines.push(format!("    let mut {} = Version::from([0; 16]);", variable(*name)));
    }
    let last = script.len().saturating_sub(1);
    for (at, step) in script.iter().enumerate() {
        let call = call(step);
        if matches!(step, Step::Pass(_)) {
            lines.push(format!("    {call};"));
            continue;
        }
        if at == last {
            lines.push(format!("    // should come to {}", parting.expected));
            lines.push(format!("    // and came to    {}", parting.found));
            lines.push(format!("    dbg!(store.{call}.await);"));
            continue;
        }
        lines.push(format!("    let _ = store.{call}.await;"));
        for name in named.iter().filter(|name| shows(step, **name)) {
            let (variable, key) = (variable(*name), key(*name));
            lines.push(format!(
                "    if let Some(entry) = store.get({key}).await.unwrap() {{ {variable} = entry.version.unwrap(); }}"
            ));
        }
    }
    lines.push("}".to_owned());
    lines.join("\n")
}

/// The variable that has the version which was last seen of the key.
fn variable(Name(place): Name) -> String {
    format!("seen_{place}")
}

fn version_of(guard: Guard) -> Option<Name> {
    match guard {
        Guard::SeenOf(name) => Some(name),
        _ => None,
    }
}

fn guards(step: &Step) -> Vec<Guard> {
    match step {
        Step::Set(write) => vec![write.guard],
        Step::SetMany(writes) => writes.iter().map(|write| write.guard).collect(),
        Step::Delete { guard, .. } => vec![*guard],
        Step::Commit { checks, .. } => checks.iter().map(|(_, guard)| *guard).collect(),
        _ => Vec::new(),
    }
}

fn lives(step: &Step) -> Vec<Life> {
    match step {
        Step::Set(write) => vec![write.life],
        Step::SetMany(writes) => writes.iter().map(|write| write.life).collect(),
        Step::Touch(_, life) | Step::Increment { life, .. } => vec![*life],
        Step::Commit { changes, .. } => changes
            .iter()
            .filter_map(|change| match change {
                Change::Set(_, _, life) => Some(*life),
                Change::Delete(_) => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether the answer to the step may show a version of the key.
fn shows(step: &Step, name: Name) -> bool {
    match step {
        Step::Get(key) | Step::Delete { key, .. } => *key == name,
        Step::Set(write) => write.key == name,
        Step::GetMany(keys) | Step::DeleteMany(keys) => keys.contains(&name),
        Step::SetMany(writes) => writes.iter().any(|write| write.key == name),
        Step::List(listing) => !listing.keys_only,
        Step::Commit { changes, .. } => {
            changes.iter().any(|change| matches!(change, Change::Set(key, ..) if *key == name))
        }
        Step::Contains(_) | Step::Clear(_) | Step::Touch(..) | Step::Increment { .. } | Step::Pass(_) | Step::Sweep => {
            false
        }
    }
}

/// The call, without the store in front of it.
fn call(step: &Step) -> String {
    match step {
        Step::Get(name) => format!("get({})", key(*name)),
        Step::Contains(name) => format!("contains({})", key(*name)),
        Step::Set(write) => format!("set({}, {:?}.into(), &{})", key(write.key), write.value.text(), options(write)),
        Step::Delete { key: name, guard, previous } => {
            format!("delete({}, &DeleteOptions::default(){}{})", key(*name), when(*guard), asks(*previous))
        }
        Step::GetMany(names) => format!("get_many(&[{}])", keys(names)),
        Step::DeleteMany(names) => format!("delete_many(&[{}])", keys(names)),
        Step::SetMany(writes) => {
            let items = writes.iter().map(|write| {
                format!("SetItem::new({}, {:?}).with_options({})", owned(write.key), write.value.text(), options(write))
            });
            format!("set_many(&[{}])", items.collect::<Vec<_>>().join(", "))
        }
        Step::List(listing) => format!("list(&{})", query(listing)),
        Step::Clear(name) => format!("clear(&{})", prefix(*name)),
        Step::Touch(name, life) => format!("touch({}, New{})", key(*name), expiry(kept(*life))),
        Step::Increment { key: name, by, life } => {
            let options = format!("IncrementOptions::default().with_expiry({})", expiry(kept(*life)));
            format!("increment({}, {by}, &{options})", key(*name))
        }
        Step::Commit { checks, changes } => {
            let checks = checks.iter().map(|(name, guard)| format!(".check({}, {})", owned(*name), condition(*guard)));
            let changes = changes.iter().map(|change| match change {
                Change::Set(name, value, life) => {
                    format!(".set({}, {:?}, {})", owned(*name), value.text(), expiry(*life))
                }
                Change::Delete(name) => format!(".delete({})", owned(*name)),
            });
            format!("commit(&Transaction::new(){})", checks.chain(changes).collect::<String>())
        }
        Step::Pass(millis) => format!("clock.advance(Duration::from_millis({millis}))"),
        Step::Sweep => "sweep()".to_owned(),
    }
}

fn owned(name: Name) -> String {
    format!("k(&{:?})", name.segments())
}

fn key(name: Name) -> String {
    format!("&{}", owned(name))
}

fn keys(names: &[Name]) -> String {
    names.iter().map(|name| owned(*name)).collect::<Vec<_>>().join(", ")
}

fn prefix(name: Option<Name>) -> String {
    name.map_or("KeyPrefix::ALL".to_owned(), |name| format!("KeyPrefix::from({})", owned(name)))
}

fn options(write: &Write) -> String {
    let expiry = match write.life {
        Life::Never => String::new(),
        life => format!(".with_expiry({})", expiry(life)),
    };
    format!("SetOptions::default(){expiry}{}{}", when(write.guard), asks(write.previous))
}

fn asks(previous: bool) -> &'static str {
    if previous { ".with_previous()" } else { "" }
}

fn when(guard: Guard) -> String {
    match guard {
        Guard::Always => String::new(),
        guard => format!(".with_when({})", condition(guard)),
    }
}

fn condition(guard: Guard) -> String {
    match guard {
        Guard::Always => "When::Always".to_owned(),
        Guard::Absent => "When::Absent".to_owned(),
        Guard::Present => "When::Present".to_owned(),
        Guard::Value(value) => format!("When::Value({:?}.into())", value.text()),
        Guard::SeenOf(name) => format!("When::Version({})", variable(name)),
    }
}

/// What has no deadline to keep lives for ever.
fn kept(life: Life) -> Life {
    if life == Life::Keep { Life::Never } else { life }
}

fn expiry(life: Life) -> String {
    match life {
        Life::Never => "Expiry::Never".to_owned(),
        Life::Keep => "Expiry::Keep".to_owned(),
        Life::After(millis) => format!("Expiry::After(Duration::from_millis({millis}))"),
        Life::Until(millis) => format!("Expiry::At(start + Duration::from_millis({millis}))"),
    }
}

fn query(listing: &Listing) -> String {
    let Listing { prefix: name, after, before, reverse, limit, keys_only } = listing;
    let mut query = format!("ListQuery::new({})", prefix(*name));
    let bounds = [("with_after", after), ("with_before", before)];
    for (with, name) in bounds.into_iter().filter_map(|(with, name)| Some((with, (*name)?))) {
        let _ = write!(query, ".{with}({})", owned(name));
    }
    if let Some(limit) = limit {
        let _ = write!(query, ".with_limit({limit})");
    }
    query.push_str(if *reverse { ".with_reverse()" } else { "" });
    query.push_str(if *keys_only { ".with_keys_only()" } else { "" });
    query
}
