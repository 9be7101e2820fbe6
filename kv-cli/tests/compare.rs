//! Runs the same scripts on every store and compares the results.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use conformance_tests::Suite;
use kv_memory::MemoryStore;
use kv_sled::SledStore;
use kv_sqlite::SqliteStore;
use test_servers::cluster::RedisCluster;
use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

use self::support::kv;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_stores_agree_under_a_simulated_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let memory = Suite::new("memory", kv_memory::CAPABILITIES, |fresh| async move {
        MemoryStore::builder().clock(fresh.clock()).build()
    });
    let sqlite = Suite::new("sqlite", kv_sqlite::CAPABILITIES, {
        let path = path.join("sqlite");
        move |fresh| {
            let path = path.clone();
            async move { SqliteStore::builder().path(path).clock(fresh.clock()).open().await }
        }
    });
    let sled = Suite::new("sled", kv_sled::CAPABILITIES, move |fresh| {
        let path = path.join("sled");
        async move { SledStore::builder().clock(fresh.clock()).open(path).await }
    });
    let suites = [memory.with_clock().with_scripts(100), sqlite.with_clock(), sled.with_clock()];
    Suite::compare(&suites).await.unwrap();
}

#[test]
fn all_stores_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (redis, cluster, postgres) =
        (Redis::start().unwrap(), RedisCluster::start().unwrap(), Postgres::start().unwrap());
    let mut urls = vec![
        "memory:".to_owned(),
        format!("sqlite:{}", path("kv.db")),
        format!("sled:{}", path("kv.sled")),
        redis.url(),
        postgres.url(),
    ];
    let expected = "5 stores give the same results\n";
    kv().args(["conformance", "--compare"]).args(&urls).assert().success().stdout(expected);
    // The scripts use only the common capabilities. A cluster reduces these capabilities.
    urls.push(cluster.url());
    let expected = "6 stores give the same results\n";
    kv().args(["conformance", "--compare"]).args(&urls).assert().success().stdout(expected);
}

#[test]
fn compare_needs_two_stores() {
    kv().args(["conformance", "--compare", "memory:"]).assert().code(2);
}
