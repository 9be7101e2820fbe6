//! What stands in PostgreSQL where rows of a store could be, and what is notified on its channel.

use std::sync::OnceLock;

use kv_core::Key;
use kv_postgres::PostgresStore;
use kv_postgres::deadpool_postgres::tokio_postgres::{self, Client, NoTls};
use test_servers::postgres::Postgres;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::harmless::{Listing, is_harmless};
use crate::heard::Heard;

struct Place {
    _server: Postgres,
    runtime: Runtime,
    store: PostgresStore,
    raw: Client,
    channel: String,
    heard: Mutex<Heard>,
}

/// One server and one store for all inputs.
fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let server = Postgres::start().expect("a server");
        let runtime = Runtime::new().expect("a runtime");
        let (store, raw, channel, heard) = runtime.block_on(async {
            let store = PostgresStore::builder().url(&server.url()).expect("an address").open().await.expect("a store");
            let (raw, connection) = tokio_postgres::connect(&server.url(), NoTls).await.expect("a connection");
            tokio::spawn(connection);
            let sql = "SELECT substring(prosrc FROM 'anykv_[0-9a-f]{16}') FROM pg_proc WHERE proname LIKE '% tell'";
            let channel = raw.query_one(sql, &[]).await.expect("the function of the trigger").get(0);
            let heard = Heard::start(&store).await;
            (store, raw, channel, Mutex::new(heard))
        });
        Place { _server: server, runtime, store, raw, channel, heard }
    })
}

/// Deadlines at the ends of what a column holds, and beside what a clock does.
const EXPIRES: [&str; 8] =
    ["NULL", "now()", "'1970-01-01'", "'9999-12-31'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-01-01'"];

/// What a notification's payload begins with, ours and others.
const KINDS: [&str; 8] = ["t ", "x ", "l ", "s", "d ", "f", "? ", ""];

/// Any columns, cut from the bytes, are an entry or damage of their own key, any notification is a message or nothing, and both
/// are in nobody's way.
pub fn postgres_row(data: &[u8]) {
    let Place { runtime, store, raw, channel, heard, .. } = place();
    let (what, rest) = data.split_first().unwrap_or((&0, &[]));
    let (split, rest) = rest.split_first().unwrap_or((&0, &[]));
    let (checksum, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], rest));
    let (version, value) = rest.split_at_checked(usize::from(*split)).unwrap_or((rest, &[]));
    let text = String::from_utf8_lossy(value).replace('\0', "");

    // A key that is none of ours is a row of somebody else.
    let name = if what & 1 == 0 { "k" } else { &text };
    let checksum = if what & 2 == 0 {
        i32::from_be_bytes(*checksum)
    } else {
        // What a version or a deadline of others would be under a check that holds.
        let key = Key::new(["k"]).expect("a key");
        crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), version), value)
            .cast_signed()
    };
    let (expires, kind) = (EXPIRES.get(usize::from(what >> 2 & 7)), KINDS.get(usize::from(what >> 5)));
    let (expires, kind) = (expires.unwrap_or(&"NULL"), kind.unwrap_or(&""));
    let notified: String = format!("{kind}{text}")
        .chars()
        .scan(0, |used, letter| {
            *used += letter.len_utf8();
            (*used < 8_000).then_some(letter)
        })
        .collect();

    runtime.block_on(async {
        let mut heard = heard.lock().await;
        raw.batch_execute("DELETE FROM kv").await.expect("an empty table");
        let sql =
            format!("INSERT INTO kv (key, value, version, checksum, expires_at) VALUES ($1, $2, $3, $4, {expires})");
        // A name that is too long for the index is refused by the server.
        let _ = raw.execute(&sql, &[&name, &value, &version, &checksum]).await;
        raw.execute("SELECT pg_notify($1, $2)", &[channel, &notified]).await.expect("a notification");
        is_harmless(store, Listing::MayTell).await;
        heard.goes_on(store, |_| notified.starts_with(['t', 'x'])).await;
    });
}
