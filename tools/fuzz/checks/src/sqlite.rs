//! Rows of a store in SQLite.

use std::sync::{Mutex, OnceLock, PoisonError};

use kv_sqlite::SqliteStore;
use kv_sqlite::rusqlite::{Connection, params};
use tokio::runtime::Runtime;

use crate::damage::{Listing, assert_contained};

struct Fixture {
    _folder: tempfile::TempDir,
    runtime: Runtime,
    store: SqliteStore,
    raw: Mutex<Connection>,
}

/// One store for all inputs. Each input replaces the row of the previous input.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let runtime = Runtime::new().expect("a runtime");
        let store = runtime.block_on(SqliteStore::builder().path(&path).open()).expect("a store");
        let raw = Connection::open(&path).expect("a connection");
        raw.pragma_update(None, "synchronous", "OFF").expect("a setting");
        raw.busy_timeout(std::time::Duration::from_secs(20)).expect("a setting");
        Fixture { _folder: folder, runtime, store, raw: Mutex::new(raw) }
    })
}

/// Takes the columns of a row from the input, and checks that the row is read as an entry or as damage, and affects no
/// other key.
pub fn sqlite_row(data: &[u8]) {
    let Fixture { runtime, store, raw, .. } = fixture();
    let raw = raw.lock().unwrap_or_else(PoisonError::into_inner);
    let (flags, rest) = data.split_first().unwrap_or((&0, &[]));
    let (deadline, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], rest));
    let (deadline_check, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], rest));
    let (checksum, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], rest));
    let (version, value) = rest.split_at_checked(usize::from(flags >> 3)).unwrap_or((rest, &[]));
    // If bit 2 is set, the key column is any text from the input, so the row may be foreign.
    let name = if flags & 4 == 0 { "k" } else { std::str::from_utf8(value).unwrap_or("k") };
    let columns = params![
        name,
        (flags & 1 == 0).then_some(i64::from_be_bytes(*deadline)),
        i32::from_be_bytes(*deadline_check),
        version,
        i32::from_be_bytes(*checksum),
        (flags & 2 == 0).then_some(value),
        (flags & 2 != 0).then_some(i64::from_be_bytes(*deadline)),
    ];
    raw.execute("DELETE FROM kv", []).expect("an empty table");
    let sql =
        "INSERT INTO kv (key, deadline, deadline_check, version, checksum, value, beside) VALUES (?, ?, ?, ?, ?, ?, ?)";
    raw.execute(sql, columns).expect("a row");
    // A list reports a damaged row and skips a foreign row.
    runtime.block_on(assert_contained(store, Listing::MayFail));
}
