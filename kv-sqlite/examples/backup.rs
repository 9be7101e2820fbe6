//! A copy of a store that is in use, by SQLite's own means: whole, and as of one moment. `cargo run -p kv-sqlite --example backup`

use kv_core::Kv;
use kv_sqlite::{SqliteStore, rusqlite::Connection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (path, copy) = (folder.path().join("app.sqlite"), folder.path().join("copy.sqlite"));
    let kv = Kv::new(SqliteStore::open(&path).await?);
    kv.set(["users", "1"], "ada").await?;

    // A connection of one's own, beside the store's. Copying the file would miss what is in its log.
    Connection::open(&path)?.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    kv.set(["users", "1"], "changed later").await?;

    let restored = SqliteStore::open(&copy).await?;
    assert!(restored.verify().await?.is_sound());
    println!("in the copy: {:?}", Kv::new(restored).get::<String>(["users", "1"]).await?);
    Ok(kv.close().await?)
}
