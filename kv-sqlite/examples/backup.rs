//! Makes a consistent copy of a store in use with `VACUUM INTO`.
//!
//! Run this example with `cargo run -p anykv-sqlite --example backup`.

use kv_core::Kv;
use kv_sqlite::{SqliteStore, rusqlite::Connection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (path, copy) = (folder.path().join("app.sqlite"), folder.path().join("copy.sqlite"));
    let kv = Kv::new(SqliteStore::open(&path).await?);
    kv.set(["users", "1"], "ada").await?;

    // Use a separate connection and `VACUUM INTO`, because a copy of the file would miss commits that are still in the
    // write-ahead log.
    Connection::open(&path)?.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    kv.set(["users", "1"], "changed later").await?;

    let restored = SqliteStore::open(&copy).await?;
    assert!(restored.verify().await?.is_sound());
    println!("in the copy: {:?}", Kv::new(restored).get::<String>(["users", "1"]).await?);
    Ok(kv.close().await?)
}
