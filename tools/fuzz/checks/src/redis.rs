//! What stands in Redis where entries could be, and what is sent on the channels of messages.

use std::sync::{Mutex, OnceLock, PoisonError};

use kv_core::{Key, KvStore, SetOptions};
use kv_redis::redis::{self, Client, Connection};
use kv_redis::{Format, RedisBuilder, RedisStore};
use test_servers::redis::Redis;
use tokio::runtime::Runtime;

use crate::harmless::{Listing, is_harmless};
use crate::heard::Heard;

/// A namespace, and what listens in it.
struct Side {
    store: RedisStore,
    namespace: &'static str,
    /// Where the entry of the key `k` stands.
    physical: String,
    heard: Heard,
}

struct Place {
    _server: Redis,
    runtime: Runtime,
    raw: Connection,
    sides: Vec<Side>,
}

/// One server for all inputs, with a store of each format.
fn place() -> &'static Mutex<Place> {
    static PLACE: OnceLock<Mutex<Place>> = OnceLock::new();
    PLACE.get_or_init(|| {
        let server = Redis::start().expect("a server");
        let runtime = Runtime::new().expect("a runtime");
        let mut raw = Client::open(server.url()).expect("an address").get_connection().expect("a connection");
        let mut sides = Vec::new();
        for (format, namespace) in [(Format::Entry, "entries"), (Format::Plain, "plain")] {
            let (store, heard) = runtime.block_on(async {
                let builder = RedisBuilder::from_url(&server.url().parse().expect("an address")).expect("a builder");
                let store = builder.namespace(namespace).format(format).buckets(1).open().await.expect("a store");
                let key = Key::new(["k"]).expect("a key");
                let _ = store.set(&key, "v".into(), &SetOptions::default()).await.expect("a set");
                let heard = Heard::start(&store).await;
                (store, heard)
            });
            let found = redis::cmd("KEYS").arg(format!("{namespace}#*k")).query(&mut raw);
            let [physical]: [String; 1] = found.expect("the names of keys");
            sides.push(Side { store, namespace, physical, heard });
        }
        Mutex::new(Place { _server: server, runtime, raw, sides })
    })
}

/// Any bytes in an entry's place, any names of keys and of channels beside ours, and any message are an entry or damage of their
/// own key, and are in nobody's way.
pub fn redis_entry(data: &[u8]) {
    let mut place = place().lock().unwrap_or_else(PoisonError::into_inner);
    let Place { runtime, raw, sides, .. } = &mut *place;
    let (what, rest) = data.split_first().unwrap_or((&0, &[]));
    let (split, rest) = rest.split_first().unwrap_or((&0, &[]));
    let (name, value) = rest.split_at_checked(usize::from(*split)).unwrap_or((rest, &[]));
    let Some(Side { store, namespace, physical, heard }) = sides.get_mut(usize::from(what & 1)) else { return };

    // A name that begins like ours: an entry of ours, of nobody, or in the index only.
    let tag = physical.strip_suffix('k').unwrap_or_default();
    let beside = [tag.as_bytes(), name].concat();
    let index = tag.replacen('#', "!", 1);
    let mut raw_commands = redis::pipe();
    match what >> 1 & 3 {
        0 => raw_commands.cmd("SET").arg(&*physical).arg(value),
        1 => raw_commands.cmd("SET").arg(&*physical).arg(value).arg("PX").arg(60_000),
        2 => raw_commands.cmd("DEL").arg(&*physical).cmd("RPUSH").arg(&*physical).arg(value),
        _ => raw_commands.cmd("SET").arg(&beside).arg(value),
    };
    if what & 1 == 0 {
        raw_commands.cmd("ZADD").arg(&index).arg(0).arg(name);
    }
    let channel = [namespace.as_bytes(), b"!0!", name].concat();
    raw_commands.cmd("PUBLISH").arg(channel).arg(value);
    let () = raw_commands.query(raw).expect("raw commands");
    runtime.block_on(async {
        is_harmless(store, Listing::PassesOver).await;
        heard.goes_on(store, |message| message.payload == value).await;
    });
    // What the names led to is not there for the next input.
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg(format!("{namespace}#*")).query(raw).expect("the names of keys");
    let mut removed = redis::pipe();
    names.iter().filter(|name| *name != physical.as_bytes()).for_each(|name| {
        removed.cmd("DEL").arg(name);
    });
    removed.cmd("DEL").arg(&index);
    let () = removed.query(raw).expect("keys are removed");
}
