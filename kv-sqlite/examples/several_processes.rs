//! Two processes use one file: the parent watches, and a child writes.
//!
//! Run this example with `cargo run -p anykv-sqlite --example several_processes`.

use std::process::Command;

use futures_util::StreamExt;
use kv_core::{Kv, WatchEvent};
use kv_sqlite::SqliteStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = std::env::args().nth(1) {
        let kv = Kv::new(SqliteStore::open(path).await?);
        for number in 1..=3 {
            kv.set(["jobs", &number.to_string()], "to do").await?;
        }
        return Ok(kv.close().await?);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.sqlite");
    let kv = Kv::new(SqliteStore::open(&path).await?);
    let mut changes = kv.watch(["jobs"]).await?;
    let mut child = Command::new(std::env::current_exe()?).arg(&path).spawn()?;
    for _ in 0..3 {
        match changes.next().await.transpose()? {
            Some(WatchEvent::Set { key, entry: Some(entry) }) => {
                println!("{key}: {}", String::from_utf8_lossy(&entry.value));
            }
            other => println!("{other:?}"),
        }
    }
    child.wait()?;
    Ok(kv.close().await?)
}
