//! Each operation on our stores and on the raw drivers, in interleaved rounds, with the reports of `kv bench`.

use std::path::Path;
use std::sync::Arc;

use anykv::KvStore;
use anykv::memory::MemoryStore;
use anykv::redis::Index;
use kv_cli::bench::{self, Counters, Dataset, Report, Side, StoreSubject, Subject, charts};
use test_servers::redis::Redis;

use crate::bars::{BenchOptions, postgres, redis};
use crate::counters::{Commands, Flushes};
use crate::raw::{
    MutexMap, RawDashMap, RawMoka, RawPostgres, RawQuickCache, RawRedis, RawSled, RawSqlite, RemoteSubject, SyncSubject,
};
#[cfg(feature = "others")]
use crate::raw::{RawFjall, RawFred, RawRedb};

/// The comparisons. Ratios are relative to the first side of each comparison.
pub(crate) const FAMILIES: [&str; 5] = ["stores", "memory", "embedded", "redis", "postgres"];

/// Measures the families, prints the reports, and writes each report into a subfolder of `into`.
pub(crate) async fn run(families: &[String], dataset: &Arc<Dataset>, options: &BenchOptions, into: Option<&Path>) {
    for family in
        FAMILIES.into_iter().filter(|family| families.is_empty() || families.iter().any(|name| name == family))
    {
        let report = measure(family, dataset, options).await;
        options.progress.finish();
        println!("## {family}\n\n{report}");
        if let Some(folder) = into {
            write_report(&folder.join(family), &report);
        }
    }
}

async fn measure(family: &str, dataset: &Arc<Dataset>, options: &BenchOptions) -> Report {
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
            run_sides(options, &sides).await
        }
        "memory" => {
            let bounded = MemoryStore::builder().max_bytes(1 << 40).build().unwrap();
            run_sides(
                options,
                &[
                    ours("kv-memory", Arc::new(MemoryStore::new())),
                    ours("kv-memory, bounded", Arc::new(bounded)),
                    side(Arc::new(SyncSubject(RawDashMap::default()))),
                    side(Arc::new(SyncSubject(MutexMap::default()))),
                    side(Arc::new(SyncSubject(RawMoka::new()))),
                    side(Arc::new(SyncSubject(RawQuickCache::new()))),
                ],
            )
            .await
        }
        "embedded" => {
            let sqlite = anykv::sqlite::SqliteStore::open(path.join("kv.db")).await.unwrap();
            let sled = anykv::sled::SledStore::open(path.join("kv.sled")).await.unwrap();
            run_sides(
                options,
                &[
                    ours("kv-sqlite", Arc::new(sqlite)),
                    side(Arc::new(SyncSubject(RawSqlite::open(path)))),
                    ours("kv-sled", Arc::new(sled)),
                    side(Arc::new(SyncSubject(RawSled::open(path)))),
                    #[cfg(feature = "others")]
                    side(Arc::new(SyncSubject(RawRedb::open(path)))),
                    #[cfg(feature = "others")]
                    side(Arc::new(SyncSubject(RawFjall::open(path)))),
                ],
            )
            .await
        }
        "redis" => {
            let server = Arc::new(Redis::start().unwrap());
            let counters = Arc::new(Commands(Arc::clone(&server))) as Arc<dyn Counters>;
            let counted = |side: Side| side.with_counters(Arc::clone(&counters));
            run_sides(
                options,
                &[
                    counted(ours("kv-redis", Arc::new(redis::open(&server.url(), "kv", Index::Auto).await))),
                    counted(side(Arc::new(RemoteSubject(RawRedis::open(&server.url()).await)))),
                    #[cfg(feature = "others")]
                    counted(side(Arc::new(RemoteSubject(RawFred::open(&server.url()).await)))),
                ],
            )
            .await
        }
        _ => {
            let server = postgres::server();
            let counters = Arc::new(Flushes(Arc::clone(&server))) as Arc<dyn Counters>;
            let counted = |side: Side| side.with_counters(Arc::clone(&counters));
            run_sides(
                options,
                &[
                    counted(ours("kv-postgres", postgres::open(&server, "kv").await)),
                    counted(side(Arc::new(RemoteSubject(RawPostgres::open(&server.url()).await)))),
                ],
            )
            .await
        }
    }
}

async fn run_sides(options: &BenchOptions, sides: &[Side]) -> Report {
    bench::run(sides, &options.settings, &options.progress).await.unwrap()
}

/// Writes the tables, JSON and plots of a report into a folder.
pub(crate) fn write_report(folder: &Path, report: &Report) {
    std::fs::create_dir_all(folder).unwrap();
    let json = serde_json::to_string(report).unwrap();
    std::fs::write(folder.join("report.json"), json + "\n").unwrap();
    std::fs::write(folder.join("report.md"), report.to_string()).unwrap();
    for chart in charts(report) {
        std::fs::write(folder.join(chart.file), chart.svg).unwrap();
    }
}
