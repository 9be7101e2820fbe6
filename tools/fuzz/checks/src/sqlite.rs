//! Rows of a store in SQLite.

use std::sync::{Mutex, OnceLock, PoisonError};

use kv_sqlite::SqliteStore;
use kv_sqlite::rusqlite::{Connection, params};
use tokio::runtime::Runtime;

use crate::harmless::{Listing, is_harmless};

struct Place {
    _folder: tempfile::TempDir,
    runtime: Runtime,
    store: SqliteStore,
    raw: Mutex<Connection>,
}

/// One store for all inputs; each writes its row over the last one's.
fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let runtime = Runtime::new().expect("a runtime");
        let store = runtime.block_on(SqliteStore::builder().path(&path).open()).expect("a store");
        let raw = Connection::open(&path).expect("a connection");
        raw.pragma_update(None, "synchronous", "OFF").expect("a setting");
        raw.busy_timeout(std::time::Duration::from_secs(20)).expect("a setting");
        Place { _folder: folder, runtime, store, raw: Mutex::new(raw) }
    })
}

/// Any columns, cut from the bytes, are an entry or damage of their own key, and are in nobody's way.
pub fn sqlite_row(data: &[u8]) {
    let Place { runtime, store, raw, .. } = place();
    let raw = raw.lock().unwrap_or_else(PoisonError::into_inner);
    let (what, rest) = data.split_first().unwrap_or((&0, &[]));
    let (deadline, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], rest));
    let (deadline_check, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], rest));
    let (checksum, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], rest));
    let (version, value) = rest.split_at_checked(usize::from(what >> 3)).unwrap_or((rest, &[]));
    // A key that is none of ours is a row of somebody else.
    let name = if what & 4 == 0 { "k" } else { std::str::from_utf8(value).unwrap_or("k") };
    let columns = params![
        name,
        (what & 1 == 0).then_some(i64::from_be_bytes(*deadline)),
        i32::from_be_bytes(*deadline_check),
        version,
        i32::from_be_bytes(*checksum),
        (what & 2 == 0).then_some(value),
        (what & 2 != 0).then_some(i64::from_be_bytes(*deadline)),
    ];
    raw.execute("DELETE FROM kv", []).expect("an empty table");
    let sql =
        "INSERT INTO kv (key, deadline, deadline_check, version, checksum, value, beside) VALUES (?, ?, ?, ?, ?, ?, ?)";
    raw.execute(sql, columns).expect("a row");
    // A damaged row of ours is told by a list, and one of others is passed over.
    runtime.block_on(is_harmless(store, Listing::MayTell));
}
