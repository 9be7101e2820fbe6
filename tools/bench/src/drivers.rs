//! The matrix: our stores and the raw drivers, each operation, in turns, with the reports of `kv bench`.

use std::path::Path;
use std::sync::Arc;

use anykv::KvStore;
use anykv::memory::MemoryStore;
use anykv::redis::Index;
use kv_cli::bench::{Counters, Dataset, Report, Side, StoreSubject, Subject, charts, run};
use test_servers::redis::Redis;

use crate::bars::{Measuring, postgres, redis};
use crate::counters::{Commands, Flushes};
use crate::raw::{
    InlineSubject, MutexMap, RawDashMap, RawFjall, RawFred, RawMoka, RawPostgres, RawQuickCache, RawRedb, RawRedis,
    RawSled, RawSqlite, RemoteSubject,
};

/// What is compared with what: the first of each is the one that ratios are to.
pub(crate) const FAMILIES: [&str; 5] = ["stores", "memory", "embedded", "redis", "postgres"];

/// Measures the families and writes a folder of tables and plots for each, where they are wanted.
pub(crate) async fn all(families: &[String], dataset: &Arc<Dataset>, measuring: &Measuring, into: Option<&Path>) {
    for family in
        FAMILIES.into_iter().filter(|family| families.is_empty() || families.iter().any(|name| name == family))
    {
        let report = one(family, dataset, measuring).await;
        measuring.progress.finish();
        println!("## {family}\n\n{report}");
        if let Some(folder) = into {
            write(&folder.join(family), &report);
        }
    }
}

async fn one(family: &str, dataset: &Arc<Dataset>, measuring: &Measuring) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let side = |subject: Arc<dyn Subject>| Side::new(subject, Arc::clone(dataset));
    let ours = |name: &str, store: Arc<dyn KvStore>| side(Arc::new(StoreSubject::new(name, store)));
    match family {
        "stores" => {
            let sqlite = anykv::sqlite::SqliteStore::open(path.join("kv.db")).await.unwrap();
            let sled = anykv::sled::SledStore::open(path.join("kv.sled")).await.unwrap();
            let (redis_server, postgres_server) = (Redis::start().unwrap(), postgres::server());
            let redis = redis::open(&redis_server.url(), "kv", Index::Auto).await;
            let sides = [
                ours("kv-memory", Arc::new(MemoryStore::new())),
                ours("kv-sqlite", Arc::new(sqlite)),
                ours("kv-sled", Arc::new(sled)),
                ours("kv-redis", Arc::new(redis)),
                ours("kv-postgres", postgres::open(&postgres_server, "kv").await),
            ];
            measured(measuring, &sides).await
        }
        "memory" => {
            let bounded = MemoryStore::builder().max_bytes(1 << 40).build().unwrap();
            measured(
                measuring,
                &[
                    ours("kv-memory", Arc::new(MemoryStore::new())),
                    ours("kv-memory, bounded", Arc::new(bounded)),
                    side(Arc::new(InlineSubject(RawDashMap::default()))),
                    side(Arc::new(InlineSubject(MutexMap::default()))),
                    side(Arc::new(InlineSubject(RawMoka::new()))),
                    side(Arc::new(InlineSubject(RawQuickCache::new()))),
                ],
            )
            .await
        }
        "embedded" => {
            let sqlite = anykv::sqlite::SqliteStore::open(path.join("kv.db")).await.unwrap();
            let sled = anykv::sled::SledStore::open(path.join("kv.sled")).await.unwrap();
            measured(
                measuring,
                &[
                    ours("kv-sqlite", Arc::new(sqlite)),
                    side(Arc::new(InlineSubject(RawSqlite::open(path)))),
                    ours("kv-sled", Arc::new(sled)),
                    side(Arc::new(InlineSubject(RawSled::open(path)))),
                    side(Arc::new(InlineSubject(RawRedb::open(path)))),
                    side(Arc::new(InlineSubject(RawFjall::open(path)))),
                ],
            )
            .await
        }
        "redis" => {
            let server = Arc::new(Redis::start().unwrap());
            let counters = Arc::new(Commands(Arc::clone(&server))) as Arc<dyn Counters>;
            let counted = |side: Side| side.with_counters(Arc::clone(&counters));
            measured(
                measuring,
                &[
                    counted(ours("kv-redis", Arc::new(redis::open(&server.url(), "kv", Index::Auto).await))),
                    counted(side(Arc::new(RemoteSubject(RawRedis::open(&server.url()).await)))),
                    counted(side(Arc::new(RemoteSubject(RawFred::open(&server.url()).await)))),
                ],
            )
            .await
        }
        _ => {
            let server = postgres::server();
            let counters = Arc::new(Flushes(Arc::clone(&server))) as Arc<dyn Counters>;
            let counted = |side: Side| side.with_counters(Arc::clone(&counters));
            measured(
                measuring,
                &[
                    counted(ours("kv-postgres", postgres::open(&server, "kv").await)),
                    counted(side(Arc::new(RemoteSubject(RawPostgres::open(&server.url()).await)))),
                ],
            )
            .await
        }
    }
}

async fn measured(measuring: &Measuring, sides: &[Side]) -> Report {
    run(sides, &measuring.settings, &measuring.progress).await.unwrap()
}

/// Tables, figures and plots of a report.
pub(crate) fn write(folder: &Path, report: &Report) {
    std::fs::create_dir_all(folder).unwrap();
    let json = serde_json::to_string(report).unwrap();
    std::fs::write(folder.join("report.json"), json + "\n").unwrap();
    std::fs::write(folder.join("report.md"), report.to_string()).unwrap();
    for chart in charts(report) {
        std::fs::write(folder.join(chart.file), chart.svg).unwrap();
    }
}
