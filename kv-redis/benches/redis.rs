//! The store beside the raw driver, in one run and in turns, as ratios: `cargo bench -p kv-redis`.
//!
//! Arguments filter by name, as `get` or `set 256`; the names are `get`, `get_many`, `set`, `free`, `fresh`, `list` and
//! `cluster`, with the number of tasks. Both sides are one connection to one server, and have as many entries of 100 bytes.
//! Behind each comparison stand the commands that the server counted for an operation of the store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that fails has no figure")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the system's clock")]
#![allow(clippy::cast_precision_loss, reason = "a rate is not exact")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::{Key, KeyPrefix, KvStore, ListQuery, SetItem, SetOptions};
use kv_redis::redis::aio::MultiplexedConnection;
use kv_redis::{Index, RedisBuilder, redis};
use test_servers::cluster::RedisCluster;
use test_servers::redis::Redis;
use tokio::runtime::Runtime;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(300);
const GROUPS: u64 = 10_000;
const OF_GROUP: u64 = 100;
const ENTRIES: u64 = GROUPS * OF_GROUP;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| words.iter().all(|word| name.split(' ').any(|part| part == word));
    let kinds = ["get", "get_many", "set", "free", "list", "page", "fresh"];
    if kinds.iter().any(|kind| [1, 16, 256].iter().any(|tasks| is_wanted(&format!("{kind} {tasks}")))) {
        let server = Redis::start().unwrap();
        let both = runtime.block_on(Both::new(&server.url()));
        for kind in kinds {
            for tasks in [1, 16, 256] {
                if is_wanted(&format!("{kind} {tasks}")) {
                    both.compare(&runtime, &server, kind, tasks);
                }
            }
        }
    }
    if is_wanted("cluster 1") {
        cluster(&runtime);
    }
}

/// Different numbers in an order that has nothing to do with theirs.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17)
}

fn key(number: u64) -> Key {
    let number = number % ENTRIES;
    let group = format!("{:05}", number / OF_GROUP);
    Key::new(["entries", &group, &format!("{:016x}", scattered(number))]).unwrap()
}

fn value(number: u64) -> Bytes {
    let mut value = Vec::with_capacity(104);
    let mut state = number | 1;
    while value.len() < 100 {
        state = scattered(state).wrapping_add(1);
        value.extend_from_slice(&state.to_be_bytes());
    }
    value.truncate(100);
    value.into()
}

type Counter = Arc<AtomicU64>;

struct Both {
    store: Arc<dyn KvStore>,
    free: Arc<dyn KvStore>,
    raw: MultiplexedConnection,
    next: Counter,
}

impl Both {
    async fn new(url: &str) -> Self {
        let builder = |namespace: &str| {
            let builder = RedisBuilder::from_url(&url.parse().unwrap()).unwrap().namespace(namespace);
            // The sweeper would be counted.
            builder.sweep_interval(Duration::from_secs(3_600))
        };
        let store: Arc<dyn KvStore> = Arc::new(builder("kv").open().await.unwrap());
        let free: Arc<dyn KvStore> = Arc::new(builder("free").index(Index::None).open().await.unwrap());
        let raw = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        for start in (0..ENTRIES).step_by(5_000) {
            let numbers = || start..start + 5_000;
            let items: Vec<_> = numbers().map(|number| SetItem::new(key(number), value(number))).collect();
            for store in [&store, &free] {
                assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.is_ok()));
            }
            let mut pipeline = redis::pipe();
            for number in numbers() {
                let key = key(number);
                pipeline.cmd("SET").arg(format!("raw#{}", key.as_str())).arg(&value(number)[..]).ignore();
                pipeline.cmd("ZADD").arg("raw!").arg(0).arg(key.as_str()).ignore();
            }
            let mut raw = raw.clone();
            pipeline.query_async::<()>(&mut raw).await.unwrap();
        }
        Self { store, free, raw, next: Counter::default() }
    }

    fn compare(&self, runtime: &Runtime, server: &Redis, kind: &str, tasks: usize) {
        let plain = SetOptions::default();
        let names: Arc<Vec<(Key, String)>> = Arc::new(
            (0..50_000)
                .map(|at| key(scattered(at)))
                .map(|key| (key.clone(), format!("raw#{}", key.as_str())))
                .collect(),
        );
        let name = move |number: u64| names[usize::try_from(number).unwrap() % names.len()].clone();
        let raw = || {
            let connection = self.raw.clone();
            let name = name.clone();
            move |number: u64| {
                let (mut connection, name) = (connection.clone(), name(number).1);
                async move {
                    let found: Option<Vec<u8>> =
                        redis::cmd("GET").arg(name).query_async(&mut connection).await.unwrap();
                    assert!(found.is_some());
                }
            }
        };
        let raw_set = |is_fresh: bool| {
            let connection = self.raw.clone();
            let name = name.clone();
            move |number: u64| {
                let name = if is_fresh { format!("fresh#{:016x}", scattered(number)) } else { name(number).1 };
                let mut connection = connection.clone();
                async move {
                    let value = value(number);
                    redis::cmd("SET").arg(name).arg(&value[..]).query_async::<()>(&mut connection).await.unwrap();
                }
            }
        };
        let set = |store: &Arc<dyn KvStore>, is_fresh: bool| {
            let (store, name, plain) = (Arc::clone(store), name.clone(), plain.clone());
            move |number: u64| {
                let key = if is_fresh {
                    Key::new(["fresh", &format!("{:016x}", scattered(number))]).unwrap()
                } else {
                    name(number).0
                };
                let (store, plain) = (Arc::clone(&store), plain.clone());
                async move { assert!(store.set(&key, value(number), &plain).await.unwrap().is_stored()) }
            }
        };
        let what = format!("{kind} {tasks}");
        match kind {
            "get" => {
                let (store, name) = (Arc::clone(&self.store), name.clone());
                let ours = move |number: u64| {
                    let (store, key) = (Arc::clone(&store), name(number).0);
                    async move { assert!(store.get(&key).await.unwrap().is_some()) }
                };
                self.run(runtime, server, &what, tasks, raw(), ours);
            }
            "get_many" => {
                let many = |number: u64| (0..100).map(move |at| number * 100 + at);
                let (store, ours_name, raw_name, connection) =
                    (Arc::clone(&self.store), name.clone(), name.clone(), self.raw.clone());
                let ours = move |number: u64| {
                    let keys: Vec<Key> = many(number).map(|number| ours_name(number).0).collect();
                    let store = Arc::clone(&store);
                    async move { assert!(store.get_many(&keys).await.iter().all(Result::is_ok)) }
                };
                let raw = move |number: u64| {
                    let names: Vec<String> = many(number).map(|number| raw_name(number).1).collect();
                    let mut connection = connection.clone();
                    async move {
                        let found: Vec<Vec<u8>> =
                            redis::cmd("MGET").arg(names).query_async(&mut connection).await.unwrap();
                        assert_eq!(found.len(), 100);
                    }
                };
                self.run(runtime, server, &what, tasks, raw, ours);
            }
            "set" => self.run(runtime, server, &what, tasks, raw_set(false), set(&self.store, false)),
            "free" => self.run(runtime, server, &what, tasks, raw_set(false), set(&self.free, false)),
            "fresh" => self.run(runtime, server, &what, tasks, raw_set(true), set(&self.store, true)),
            "page" => self.run(runtime, server, &what, tasks, raw_page(&self.raw), list(&self.store)),
            _ => self.run(runtime, server, &what, tasks, raw(), list(&self.store)),
        }
    }

    fn run<R, O>(
        &self,
        runtime: &Runtime,
        server: &Redis,
        what: &str,
        tasks: usize,
        raw: impl Fn(u64) -> R + Clone + Send + 'static,
        ours: impl Fn(u64) -> O + Clone + Send + 'static,
    ) where
        R: Future<Output = ()> + Send + 'static,
        O: Future<Output = ()> + Send + 'static,
    {
        let (mut raw_rates, mut rates) = (Vec::new(), Vec::new());
        let (mut before, mut counted) = (BTreeMap::new(), 0);
        for round in 0..=ROUNDS {
            let raw_rate = runtime.block_on(round_of(tasks, &self.next, raw.clone()));
            before = if round == ROUNDS { commands(server) } else { before };
            let (rate, count) = runtime.block_on(counted_round(tasks, &self.next, ours.clone()));
            // The first round warms up.
            if round > 0 {
                raw_rates.push(raw_rate);
                rates.push(rate);
                counted = count;
            }
        }
        told(what, &raw_rates, &rates);
        let after = commands(server);
        let each: Vec<String> = after
            .iter()
            .map(|(name, calls)| (name, (calls - before.get(name).unwrap_or(&0)) as f64 / counted as f64))
            .filter(|(_, each)| *each > 0.01)
            .map(|(name, each)| format!("{name} {each:.2}"))
            .collect();
        println!("    commands an operation: {}", each.join(", "));
    }
}

/// A page of the hundred keys of one group.
fn list(store: &Arc<dyn KvStore>) -> impl Fn(u64) -> futures_util::future::BoxFuture<'static, ()> + Clone + use<> {
    let store = Arc::clone(store);
    move |number: u64| {
        let group = format!("{:05}", scattered(number) % GROUPS);
        let query = ListQuery::new(KeyPrefix::new(["entries", &group]).unwrap()).with_limit(100);
        let store = Arc::clone(&store);
        Box::pin(async move { assert_eq!(store.list(&query).await.unwrap().items.len(), 100) })
    }
}

/// The same page by the two commands that it takes at least.
fn raw_page(
    connection: &MultiplexedConnection,
) -> impl Fn(u64) -> futures_util::future::BoxFuture<'static, ()> + Clone + use<> {
    let connection = connection.clone();
    move |number: u64| {
        let group = format!("entries#{:05}", scattered(number) % GROUPS);
        let mut connection = connection.clone();
        Box::pin(async move {
            let mut range = redis::cmd("ZRANGE");
            range
                .arg("raw!")
                .arg(format!("[{group}"))
                .arg(format!("({group}$"))
                .arg("BYLEX")
                .arg("LIMIT")
                .arg(0)
                .arg(100);
            let found: Vec<String> = range.query_async(&mut connection).await.unwrap();
            let names: Vec<String> = found.iter().map(|key| format!("raw#{key}")).collect();
            let values: Vec<Vec<u8>> = redis::cmd("MGET").arg(names).query_async(&mut connection).await.unwrap();
            assert_eq!(values.len(), 100);
        })
    }
}

async fn round_of<F: Future<Output = ()> + Send + 'static>(
    tasks: usize,
    next: &Counter,
    work: impl Fn(u64) -> F + Clone + Send + 'static,
) -> f64 {
    counted_round(tasks, next, work).await.0
}

/// Works for a round, and gives the rate and how much was done.
async fn counted_round<F: Future<Output = ()> + Send + 'static>(
    tasks: usize,
    next: &Counter,
    work: impl Fn(u64) -> F + Clone + Send + 'static,
) -> (f64, u64) {
    let started = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (work, next) = (work.clone(), Arc::clone(next));
            tokio::spawn(async move {
                let mut count = 0_u64;
                while started.elapsed() < ROUND {
                    work(next.fetch_add(1, Ordering::Relaxed)).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in running {
        count += task.await.unwrap();
    }
    (count as f64 / started.elapsed().as_secs_f64(), count)
}

/// How often the server has run each command, also inside of scripts.
fn commands(server: &Redis) -> BTreeMap<String, u64> {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    stats.lines().filter_map(line).filter(|(name, _)| !name.contains("info")).collect()
}

fn told(what: &str, raw: &[f64], ours: &[f64]) {
    // Of each round by itself: what else the machine does changes more slowly than that.
    let ratios: Vec<f64> = ours.iter().zip(raw).map(|(ours, raw)| ours / raw).collect();
    println!("{what}");
    for (name, rates) in [("raw", raw), ("store", ours)] {
        let (least, most) = rates.iter().fold((f64::MAX, 0.0_f64), |(l, m), rate| (l.min(*rate), m.max(*rate)));
        println!("  {name:<6} {:>9.0}/s  ({least:.0}–{most:.0})", median(rates));
    }
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(l, m), ratio| (l.min(*ratio), m.max(*ratio)));
    println!(
        "  ratio  {:>9.2}    ({least:.2}–{most:.2}), one operation is {:.1} of raw",
        median(&ratios),
        1.0 / median(&ratios)
    );
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Lists on a cluster, each beside a get, by a prefix that lies in one bucket and by one that lies in all.
fn cluster(runtime: &Runtime) {
    let cluster = RedisCluster::start().unwrap();
    let builder = RedisBuilder::from_url(&cluster.url().parse().unwrap()).unwrap();
    let store: Arc<dyn KvStore> = runtime.block_on(async {
        let store = Arc::new(builder.open().await.unwrap());
        for start in (0..ENTRIES).step_by(5_000) {
            let items: Vec<_> = (start..start + 5_000).map(|at| SetItem::new(key(at), value(at))).collect();
            assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.is_ok()));
        }
        store
    });
    let get = {
        let store = Arc::clone(&store);
        move |number: u64| {
            let (store, key) = (Arc::clone(&store), key(scattered(number)));
            async move { assert!(store.get(&key).await.unwrap().is_some()) }
        }
    };
    let spread = {
        let store = Arc::clone(&store);
        move |number: u64| {
            let after = key(scattered(number) % (ENTRIES - 200));
            let query = ListQuery::new(KeyPrefix::new(["entries"]).unwrap()).with_after(after).with_limit(100);
            let store = Arc::clone(&store);
            async move { assert_eq!(store.list(&query).await.unwrap().items.len(), 100) }
        }
    };
    let next = Counter::default();
    let (mut gets, mut lists, mut spreads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        gets.push(runtime.block_on(round_of(1, &next, get.clone())));
        lists.push(runtime.block_on(round_of(1, &next, list(&store))));
        spreads.push(runtime.block_on(round_of(1, &next, spread.clone())));
    }
    told("cluster: 100 of one bucket beside a get", &gets[1..], &lists[1..]);
    told("cluster: 100 of all buckets beside a get", &gets[1..], &spreads[1..]);
}
