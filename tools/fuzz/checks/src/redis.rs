//! Values in Redis in the place of entries, and messages on the channels of a store.

use std::sync::{Mutex, OnceLock, PoisonError};

use kv_core::{Key, KvStore, SetOptions};
use kv_redis::redis::{self, Client, Connection};
use kv_redis::{Format, RedisBuilder, RedisStore};
use test_servers::redis::Redis;
use tokio::runtime::Runtime;

use crate::damage::{Listing, assert_contained};
use crate::observer::Observer;

/// A store in its own namespace, with an observer.
struct Target {
    store: RedisStore,
    namespace: &'static str,
    /// The name in Redis of the key `k`.
    physical: String,
    observer: Observer,
}

struct Fixture {
    _server: Redis,
    runtime: Runtime,
    raw: Connection,
    targets: Vec<Target>,
}

/// One server for all inputs, with a store of each format.
fn fixture() -> &'static Mutex<Fixture> {
    static FIXTURE: OnceLock<Mutex<Fixture>> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let server = Redis::start().expect("a server");
        let runtime = Runtime::new().expect("a runtime");
        let mut raw = Client::open(server.url()).expect("an address").get_connection().expect("a connection");
        let mut targets = Vec::new();
        for (format, namespace) in [(Format::Entry, "entries"), (Format::Plain, "plain")] {
            let (store, observer) = runtime.block_on(async {
                let builder = RedisBuilder::from_url(&server.url().parse().expect("an address")).expect("a builder");
                let builder = builder.namespace(namespace).format(format);
                // The plain format has no index, and so no buckets.
                let builder = if format == Format::Entry { builder.buckets(1) } else { builder };
                let store = builder.open().await.expect("a store");
                let key = Key::new(["k"]).expect("a key");
                let _ = store.set(&key, "v".into(), &SetOptions::default()).await.expect("a set");
                let observer = Observer::start(&store).await;
                (store, observer)
            });
            let found = redis::cmd("KEYS").arg(format!("{namespace}#*k")).query(&mut raw);
            let [physical]: [String; 1] = found.expect("the names of keys");
            targets.push(Target { store, namespace, physical, observer });
        }
        Mutex::new(Fixture { _server: server, runtime, raw, targets })
    })
}

/// Writes the input in the place of an entry or under another name in the namespace, and publishes the input as a
/// message. Checks that the input is read as an entry or as damage, and affects no other key, watcher or subscriber.
pub fn redis_entry(data: &[u8]) {
    let mut fixture = fixture().lock().unwrap_or_else(PoisonError::into_inner);
    let Fixture { runtime, raw, targets, .. } = &mut *fixture;
    let (flags, rest) = data.split_first().unwrap_or((&0, &[]));
    let (split, rest) = rest.split_first().unwrap_or((&0, &[]));
    let (name, value) = rest.split_at_checked(usize::from(*split)).unwrap_or((rest, &[]));
    let Some(Target { store, namespace, physical, observer }) = targets.get_mut(usize::from(flags & 1)) else { return };

    // A name with the prefix of the store: an entry of the store, a foreign key, or an item of the index only.
    let tag = physical.strip_suffix('k').unwrap_or_default();
    let other = [tag.as_bytes(), name].concat();
    let index = tag.replacen('#', "!", 1);
    let mut raw_commands = redis::pipe();
    match flags >> 1 & 3 {
        0 => raw_commands.cmd("SET").arg(&*physical).arg(value),
        1 => raw_commands.cmd("SET").arg(&*physical).arg(value).arg("PX").arg(60_000),
        2 => raw_commands.cmd("DEL").arg(&*physical).cmd("RPUSH").arg(&*physical).arg(value),
        _ => raw_commands.cmd("SET").arg(&other).arg(value),
    };
    if flags & 1 == 0 {
        raw_commands.cmd("ZADD").arg(&index).arg(0).arg(name);
    }
    let channel = [namespace.as_bytes(), b"!0!", name].concat();
    raw_commands.cmd("PUBLISH").arg(channel).arg(value);
    let () = raw_commands.query(raw).expect("raw commands");
    runtime.block_on(async {
        assert_contained(store, Listing::Skips).await;
        observer.check(store, |message| message.payload == value).await;
    });
    // Removes everything else that this input has written.
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg(format!("{namespace}#*")).query(raw).expect("the names of keys");
    let mut removed = redis::pipe();
    names.iter().filter(|name| *name != physical.as_bytes()).for_each(|name| {
        removed.cmd("DEL").arg(name);
    });
    removed.cmd("DEL").arg(&index);
    let () = removed.query(raw).expect("keys are removed");
}
