//! Rows in the table of a store in PostgreSQL, and notifications on its channel.

use std::sync::OnceLock;

use kv_core::Key;
use kv_postgres::PostgresStore;
use kv_postgres::deadpool_postgres::tokio_postgres::{self, Client, NoTls};
use test_servers::postgres::Postgres;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::damage::{Listing, assert_contained};
use crate::observer::Observer;

struct Fixture {
    _server: Postgres,
    runtime: Runtime,
    store: PostgresStore,
    raw: Client,
    channel: String,
    observer: Mutex<Observer>,
}

/// One server and one store for all inputs.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let server = Postgres::start().expect("a server");
        let runtime = Runtime::new().expect("a runtime");
        let (store, raw, channel, observer) = runtime.block_on(async {
            let store = PostgresStore::builder().url(&server.url()).expect("an address").open().await.expect("a store");
            let (raw, connection) = tokio_postgres::connect(&server.url(), NoTls).await.expect("a connection");
            tokio::spawn(connection);
            let sql = "SELECT substring(prosrc FROM 'anykv_[0-9a-f]{16}') FROM pg_proc WHERE proname LIKE '% tell'";
            let channel = raw.query_one(sql, &[]).await.expect("the function of the trigger").get(0);
            let observer = Observer::start(&store).await;
            (store, raw, channel, Mutex::new(observer))
        });
        Fixture { _server: server, runtime, store, raw, channel, observer }
    })
}

/// Deadlines at the limits of the column, and outside the range of a clock.
const EXPIRES: [&str; 8] =
    ["NULL", "now()", "'1970-01-01'", "'9999-12-31'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-01-01'"];

/// Prefixes of the payload of a notification: prefixes of the store and foreign prefixes.
const KINDS: [&str; 8] = ["t ", "x ", "l ", "s", "d ", "f", "? ", ""];

/// Takes the columns of a row and the payload of a notification from the input. Checks that the row is read as an entry
/// or as damage, that the notification is received as a message or ignored, and that neither affects another key,
/// watcher or subscriber.
pub fn postgres_row(data: &[u8]) {
    let Fixture { runtime, store, raw, channel, observer, .. } = fixture();
    let (flags, rest) = data.split_first().unwrap_or((&0, &[]));
    let (split, rest) = rest.split_first().unwrap_or((&0, &[]));
    let (checksum, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], rest));
    let (version, value) = rest.split_at_checked(usize::from(*split)).unwrap_or((rest, &[]));
    let text = String::from_utf8_lossy(value).replace('\0', "");

    // A foreign row, whose key column is not the text of a key.
    let name = if flags & 1 == 0 { "k" } else { &text };
    let checksum = if flags & 2 == 0 {
        i32::from_be_bytes(*checksum)
    } else {
        // A foreign version or deadline with a valid checksum.
        let key = Key::new(["k"]).expect("a key");
        crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), version), value)
            .cast_signed()
    };
    let (expires, kind) = (EXPIRES.get(usize::from(flags >> 2 & 7)), KINDS.get(usize::from(flags >> 5)));
    let (expires, kind) = (expires.unwrap_or(&"NULL"), kind.unwrap_or(&""));
    let notified: String = format!("{kind}{text}")
        .chars()
        .scan(0, |used, character| {
            *used += character.len_utf8();
            (*used < 8_000).then_some(character)
        })
        .collect();

    runtime.block_on(async {
        let mut observer = observer.lock().await;
        raw.batch_execute("DELETE FROM kv").await.expect("an empty table");
        let sql =
            format!("INSERT INTO kv (key, value, version, checksum, expires_at) VALUES ($1, $2, $3, $4, {expires})");
        // The server refuses a name that is too long for the index.
        let _ = raw.execute(&sql, &[&name, &value, &version, &checksum]).await;
        raw.execute("SELECT pg_notify($1, $2)", &[channel, &notified]).await.expect("a notification");
        assert_contained(store, Listing::MayFail).await;
        observer.check(store, |_| notified.starts_with(['t', 'x'])).await;
    });
}
