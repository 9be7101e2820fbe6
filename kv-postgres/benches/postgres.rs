//! The store beside the raw driver, in one run and in turns, as ratios: `cargo bench -p kv-postgres`.
//!
//! An argument filters by name: `get`, `set`, `flat`, `churn`. Raw is a pool of as many connections, taken for each call, with prepared
//! statements, on a table of keys and values. Both sides are on one server, which waits for the disk, and have the same keys
//! and values of 100 bytes. Rates are calls a second; a round is half a second, and the first is thrown away.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that fails has no figure")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the system's clock")]
#![allow(clippy::cast_precision_loss, reason = "a rate is not exact")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::{Expiry, Key, KvStore, ListQuery, SetItem, SetOptions, Version};
use kv_postgres::PostgresStore;
use kv_postgres::deadpool_postgres::tokio_postgres::{Config, NoTls};
use kv_postgres::deadpool_postgres::{Manager, Pool};
use test_servers::postgres::Postgres;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(500);
const CONNECTIONS: usize = 8;
const KEYS: u64 = 10_000;

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);
    let server = Postgres::builder().fsync(true).setting("shared_buffers", "512MB").start().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&server, "bench").await;
        let raw = Raw::new(&server).await;
        for sets in [false, true] {
            if wanted(if sets { "set" } else { "get" }) {
                fill(&store, KEYS).await;
                raw.fill(KEYS).await;
                for tasks in [1, 16, 256] {
                    beside_raw(&server, &store, &raw, sets, tasks).await;
                }
            }
        }
        if wanted("flat") {
            flat(&server).await;
        }
        if wanted("churn") {
            churn(&server).await;
        }
    });
}

async fn open(server: &Postgres, table: &str) -> Arc<dyn KvStore> {
    let builder = PostgresStore::builder().url(&server.url()).unwrap().table(table).connections(CONNECTIONS);
    Arc::new(builder.open().await.unwrap())
}

fn key(number: u64) -> Key {
    Key::new(["bench", &Key::ordered(number)]).unwrap()
}

/// A hundred bytes, other ones each time.
fn value() -> Bytes {
    let mut bytes = Vec::with_capacity(112);
    while bytes.len() < 100 {
        bytes.extend_from_slice(Version::random().as_bytes());
    }
    bytes.truncate(100);
    bytes.into()
}

/// Random numbers below `end`; a generator a task.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(u64::from_le_bytes(Version::random().as_bytes()[..8].try_into().unwrap()) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

async fn fill(store: &Arc<dyn KvStore>, keys: u64) {
    for start in (0..keys).step_by(10_000) {
        let items: Vec<_> =
            (start..keys.min(start + 10_000)).map(|number| SetItem::new(key(number), value())).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    }
}

/// The driver as it is used without a store.
#[derive(Clone)]
struct Raw(Pool);

impl Raw {
    async fn new(server: &Postgres) -> Self {
        let config: Config = server.url().parse().unwrap();
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(CONNECTIONS).build().unwrap();
        let raw = Self(pool);
        let sql = r#"CREATE TABLE raw (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 80)"#;
        raw.0.get().await.unwrap().batch_execute(sql).await.unwrap();
        raw
    }

    async fn fill(&self, keys: u64) {
        for number in 0..keys {
            self.set(&key(number), &value()).await;
        }
    }

    async fn get(&self, key: &Key) {
        let client = self.0.get().await.unwrap();
        let statement = client.prepare_cached("SELECT value FROM raw WHERE key = $1").await.unwrap();
        let row = client.query_one(&statement, &[&key.as_str()]).await.unwrap();
        assert_eq!(row.get::<_, &[u8]>(0).len(), 100);
    }

    async fn set(&self, key: &Key, value: &Bytes) {
        let client = self.0.get().await.unwrap();
        let sql = "INSERT INTO raw VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let statement = client.prepare_cached(sql).await.unwrap();
        client.execute(&statement, &[&key.as_str(), &value.as_ref()]).await.unwrap();
    }
}

/// Calls a second that so many tasks make, each one after another.
async fn rate<F, C>(tasks: usize, call: C) -> f64
where
    F: Future<Output = ()> + Send,
    C: Fn(u64) -> F + Clone + Send + 'static,
{
    let (count, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let workers: Vec<_> = (0..tasks)
        .map(|_| {
            let (call, count) = (call.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let mut random = Random::new();
                while started.elapsed() < ROUND {
                    call(random.below(KEYS)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

async fn ours(store: &Arc<dyn KvStore>, sets: bool, tasks: usize) -> f64 {
    let store = Arc::clone(store);
    rate(tasks, move |number| {
        let store = Arc::clone(&store);
        async move {
            if sets {
                assert!(store.set(&key(number), value(), &SetOptions::default()).await.unwrap().is_stored());
            } else {
                assert_eq!(store.get(&key(number)).await.unwrap().unwrap().value.len(), 100);
            }
        }
    })
    .await
}

async fn theirs(raw: &Raw, sets: bool, tasks: usize) -> f64 {
    let raw = raw.clone();
    rate(tasks, move |number| {
        let raw = raw.clone();
        async move {
            if sets {
                raw.set(&key(number), &value()).await;
            } else {
                raw.get(&key(number)).await;
            }
        }
    })
    .await
}

async fn beside_raw(server: &Postgres, store: &Arc<dyn KvStore>, raw: &Raw, sets: bool, tasks: usize) {
    let (mut own, mut raws, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let syncs = || -> u64 { server.psql("kv", "SELECT wal_sync FROM pg_stat_wal").unwrap().trim().parse().unwrap() };
    let (mut own_syncs, mut raw_syncs) = (0, 0);
    for round in 0..=ROUNDS {
        let before = syncs();
        let one = ours(store, sets, tasks).await;
        let between = syncs();
        let other = theirs(raw, sets, tasks).await;
        if round == 0 {
            continue;
        }
        own_syncs += between - before;
        raw_syncs += syncs() - between;
        own.push(one);
        raws.push(other);
        ratios.push(one / other);
    }
    let name = if sets { "set" } else { "get" };
    println!(
        "{name:>4} {tasks:>4} tasks: ours {} raw {} ratio {}; syncs {own_syncs} and {raw_syncs}",
        spread(own),
        spread(raws),
        spread(ratios)
    );
}

/// Median, least and most.
fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let digits = if figures[0] < 100.0 { 2 } else { 0 };
    let [least, middle, most] = [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]];
    format!("{middle:.digits$} ({least:.digits$}–{most:.digits$})")
}

/// What a call costs in a table of a thousand rows and in one of a million, in turns.
async fn flat(server: &Postgres) {
    const SMALL: u64 = 1_000;
    const LARGE: u64 = 1_000_000;
    let (small, large) = (open(server, "small").await, open(server, "large").await);
    fill(&small, SMALL).await;
    fill(&large, LARGE).await;
    // A process of the server maps each page of the shared memory when it first looks at it. That is paid once.
    let mut random = Random::new();
    for _ in 0..100_000 {
        assert!(large.get(&key(random.below(LARGE))).await.unwrap().is_some());
        assert!(small.get(&key(random.below(SMALL))).await.unwrap().is_some());
    }
    for what in ["get", "set", "set with ttl", "list of 100"] {
        let mut ratios = Vec::new();
        let mut random = Random::new();
        for round in 0..=ROUNDS {
            let mut medians = [0.0; 2];
            for (place, (store, keys)) in [(&small, SMALL), (&large, LARGE)].into_iter().enumerate() {
                let mut times = Vec::new();
                for _ in 0..300 {
                    let own = key(random.below(keys));
                    let started = Instant::now();
                    match what {
                        "get" => assert!(store.get(&own).await.unwrap().is_some()),
                        "list of 100" => {
                            let page = store.list(&ListQuery::default().with_after(own).with_limit(100)).await.unwrap();
                            assert!(page.items.len() <= 100);
                        }
                        _ => {
                            let ttl = Expiry::After(Duration::from_secs(3_600));
                            let expiry = if what == "set" { Expiry::Never } else { ttl };
                            let options = SetOptions::default().with_expiry(expiry);
                            assert!(store.set(&own, value(), &options).await.unwrap().is_stored());
                        }
                    }
                    times.push(started.elapsed().as_secs_f64());
                }
                times.sort_by(f64::total_cmp);
                medians[place] = times[times.len() / 2];
            }
            if round > 0 {
                ratios.push(medians[1] / medians[0]);
            }
        }
        println!("flat {what}: a million rows cost {} of what a thousand do", spread(ratios));
    }
}

/// A million overwrites of ten thousand keys, all with a time to live: how many stay within their page, and how large it gets.
async fn churn(server: &Postgres) {
    let store = open(server, "churn").await;
    fill(&store, KEYS).await;
    let options = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60)));
    let size = || server.psql("kv", "SELECT pg_total_relation_size('churn')").unwrap().trim().parse::<u64>().unwrap();
    let before = size();
    let mut largest = before;
    for _ in 0..100 {
        let mut random = Random::new();
        let items: Vec<_> =
            (0..10_000).map(|_| SetItem::new(key(random.below(KEYS)), value()).with_options(options.clone())).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
        largest = largest.max(size());
    }
    // The counters of a session are told when it has been idle for a while.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'churn'";
    let counted = server.psql("kv", counted).unwrap();
    let (updates, hot) = counted.trim().split_once('|').unwrap();
    let (updates, hot): (f64, f64) = (updates.parse().unwrap(), hot.parse().unwrap());
    println!(
        "churn: {updates} overwrites with ttl, {:.0} % of them within their page; {before} bytes before, {largest} at most",
        100.0 * hot / updates
    );
}
