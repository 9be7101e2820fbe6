//! What a server, a database, a table or a URL may be like, and what the store makes of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::error::Error as _;
use std::time::Duration;

use kv_core::{
    Clock, Error, ErrorKind, Expires, Expiry, IncrementOptions, Key, KeyPrefix, Kv, KvStore, ListQuery, NewExpiry,
    Reach, SetItem, SetOptions, SystemClock, Transaction, WatchQuery, When,
};
use kv_postgres::{CAPABILITIES, POOLED_CAPABILITIES, PostgresStore};
use test_servers::pgbouncer::PgBouncer;
use test_servers::postgres::Postgres;
use test_servers::tls::Certificate;

mod support;
use support::{get, impatient, key, now, pause, set, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("what_breaks_others_is_fine", what_breaks_others),
            test("names_of_schema_and_table_keep_their_case", mixed_case),
            test("a_table_of_another_program_is_left_alone", foreign_table),
            test("a_newer_layout_is_refused", newer_layout),
            test("a_database_that_is_not_in_utf8_is_refused", latin1),
            test("wrong_addresses_and_credentials_are_told_apart_and_show_no_secret", wrong_addresses),
            test("a_role_without_rights_is_denied", no_rights),
            test("a_server_with_an_unknown_certificate_is_refused", unknown_certificate),
            test("a_server_without_tls_is_refused_where_tls_is_asked_for", downgrade),
            test("a_pooler_that_was_not_declared_is_refused_and_a_declared_one_hears_nothing", pooler),
            test("the_time_zone_of_a_session_does_not_matter", time_zones),
            test("a_damaged_row_is_corrupt_and_the_others_are_fine", damaged_row),
            test("overwrites_with_a_deadline_stay_in_their_page", stays_in_page),
            test("a_certificate_whose_time_is_over_is_refused", expired_certificate),
            test("rows_of_others_do_not_end_a_list", foreign_rows),
            test("a_counter_at_its_deadline_is_the_old_one_or_a_new_one", expiring_counter),
            test("a_table_that_was_dropped_is_made_again", dropped_table),
            test("truncating_the_table_is_told_to_watchers", truncated),
            test("plans_follow_the_index_however_the_table_grew", plans),
            test("every_form_of_url_opens", urls),
        ],
    );
}

async fn what_breaks_others() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let kv = Kv::new(store.clone());
    kv.set(["null"], &serde_json::Value::Null).await.unwrap();
    assert_eq!(kv.get::<Option<u8>>(["null"]).await.unwrap(), Some(None));
    assert_eq!(kv.get::<Option<u8>>(["none"]).await.unwrap(), None);
    kv.set(["a\0b"], &1).await.unwrap();
    assert_eq!(kv.get::<u8>(["a\0b"]).await.unwrap(), Some(1));
    // Random, so that it is not compressed into the index.
    let long: String = (0..64).map(|_| kv_core::Version::random().to_string()).collect();
    let long = Key::new([&long[..Key::MAX_BYTES]]).unwrap();
    let _ = store.set(&long, "v".into(), &SetOptions::default()).await.unwrap();
    assert!(store.contains(&long).await.unwrap());
    let soon = SetOptions::default().with_expiry(Expiry::After(Duration::from_millis(50)));
    let started = now();
    let _ = store.set(&key("soon"), "v".into(), &soon).await.unwrap();
    if get(&store, "soon").await.unwrap().is_none() {
        assert!(now().duration_since(started).unwrap() >= Duration::from_millis(50));
    }
    pause(Duration::from_millis(60)).await;
    assert_eq!(get(&store, "soon").await.unwrap(), None);
}

async fn mixed_case() {
    let server = Postgres::start().unwrap();
    let (upper, lower) = (impatient(&server).schema("Mine").table("Kv"), impatient(&server).schema("mine").table("kv"));
    let (upper, lower) = (upper.open().await.unwrap(), lower.open().await.unwrap());
    set(&upper, "k", "upper").await.unwrap();
    set(&lower, "k", "lower").await.unwrap();
    assert_eq!(get(&upper, "k").await.unwrap().as_deref(), Some("upper"));
    assert_eq!(server.psql("kv", "SELECT value FROM \"Mine\".\"Kv\"").unwrap().trim(), "\\x7570706572");
    for name in ["a\"b", "x; DROP TABLE kv", ""] {
        assert_eq!(impatient(&server).table(name).open().await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

async fn foreign_table() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE TABLE kv (id int); INSERT INTO kv VALUES (7)").unwrap();
    let error = impatient(&server).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert_eq!(server.psql("kv", "SELECT id FROM kv").unwrap().trim(), "7");
}

async fn newer_layout() {
    let server = Postgres::start().unwrap();
    impatient(&server).open().await.unwrap();
    server.psql("kv", "COMMENT ON TABLE kv IS 'anykv layout 2'").unwrap();
    let error = impatient(&server).open().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("layout 2"), "{error:?}");
}

async fn latin1() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").unwrap();
    let error = PostgresStore::open(&server.url_to("latin")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("LATIN1"), "{error:?}");
}

/// Everything that an error says.
fn whole(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} {cause} {cause:?}");
        source = cause.source();
    }
    text
}

async fn wrong_addresses() {
    let server = Postgres::start().unwrap();
    let closed = server.url_of("kv", "c4n4ry", "kv").replace(&server.port().to_string(), "1");
    let cases = [
        (server.url_of("kv", "c4n4ry", "kv"), ErrorKind::Denied),
        (server.url_of("nobody", "c4n4ry", "kv"), ErrorKind::Denied),
        (server.url_to("missing"), ErrorKind::Denied),
        (closed, ErrorKind::Unavailable),
        (format!("{}?no_such_option=c4n4ry", server.url()), ErrorKind::Invalid),
        (format!("{}?sslmode=c4n4ry", server.url()), ErrorKind::Invalid),
    ];
    for (url, kind) in cases {
        let error = match PostgresStore::builder().url(&url) {
            Ok(builder) => {
                assert!(!format!("{builder:?}").contains("c4n4ry"));
                builder.open().await.unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), kind, "{error:?}");
        let shown = whole(&error);
        assert!(!shown.contains("c4n4ry") && !shown.contains(server.password()), "{shown}");
    }
    let store = PostgresStore::open(&server.url()).await.unwrap();
    assert!(!format!("{store:?} {store:#?}").contains(server.password()));
}

async fn no_rights() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "CREATE ROLE guest LOGIN PASSWORD 'guest'").unwrap();
    let guest = server.url_of("guest", "guest", "kv");
    assert_eq!(PostgresStore::open(&guest).await.unwrap_err().kind(), ErrorKind::Denied);
    // On a table that is there, the rights to read and write are enough.
    let owner = PostgresStore::open(&server.url()).await.unwrap();
    set(&owner, "k", "v").await.unwrap();
    server.psql("kv", "GRANT SELECT ON kv TO guest").unwrap();
    let store = PostgresStore::open(&guest).await.unwrap();
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(set(&store, "k", "new").await.unwrap_err().kind(), ErrorKind::Denied);
    server.psql("kv", "GRANT INSERT, UPDATE, DELETE ON kv TO guest").unwrap();
    set(&store, "k", "new").await.unwrap();
    let watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await;
    assert_eq!(watch.map(drop).unwrap_err().kind(), ErrorKind::Denied);
}

async fn unknown_certificate() {
    let (server, other) = (Postgres::builder().tls().start().unwrap(), Postgres::builder().tls().start().unwrap());
    let url = |mode: &str, authority: &Postgres| {
        format!("{}?sslmode={mode}&sslrootcert={}", server.url(), authority.ca_certificate().display())
    };
    for mode in ["verify-full", "verify-ca", "require"] {
        PostgresStore::open(&url(mode, &server)).await.unwrap();
        let error = PostgresStore::open(&url(mode, &other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{mode}: {error:?}");
    }
    // Encrypted and not verified: that is what these say.
    PostgresStore::open(&format!("{}?sslmode=require", server.url())).await.unwrap();
    PostgresStore::open(&format!("{}?sslmode=prefer", server.url())).await.unwrap();
    // The certificate is of the authority, and of no host of this name.
    let lenient = |mode: &str| format!("{}&hostaddr=127.0.0.1", url(mode, &server).replace("127.0.0.1", "elsewhere"));
    PostgresStore::open(&lenient("verify-ca")).await.unwrap();
    assert!(PostgresStore::open(&lenient("verify-full")).await.is_err());
}

async fn downgrade() {
    let server = Postgres::start().unwrap();
    let error = PostgresStore::open(&format!("{}?sslmode=require", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    PostgresStore::open(&format!("{}?sslmode=prefer", server.url())).await.unwrap();
}

async fn pooler() {
    let server = Postgres::start().unwrap();
    let pooler = PgBouncer::start(&server).unwrap();
    let through = || PostgresStore::builder().url(&pooler.url("kv")).unwrap();
    // Its settings of sessions are refused by the pooler already.
    let error = through().open().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("pooled"), "{error:?}");
    let deaf = through().pooled(true).open().await.unwrap();
    let durability = deaf.info().capabilities.durability;
    assert_eq!(deaf.info().capabilities, POOLED_CAPABILITIES.with_durability(durability));
    let watch = deaf.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.map(drop);
    assert!(matches!(watch.unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    let published = deaf.publish(&key("c"), "m".into()).await;
    assert!(matches!(published.unwrap_err().kind(), ErrorKind::Unsupported { .. }));
    let error = through().pooled(true).listen_url(pooler.url("kv")).open().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("listen_url"), "{error:?}");
    let hearing = through().pooled(true).listen_url(server.url()).open().await.unwrap();
    assert_eq!(hearing.info().capabilities, CAPABILITIES.with_durability(durability));
    assert_eq!(hearing.info().capabilities.watch, Reach::Shared);
}

async fn time_zones() {
    let server = Postgres::start().unwrap();
    server.psql("kv", "ALTER ROLE kv SET timezone = 'Pacific/Kiritimati'").unwrap();
    let east = PostgresStore::open(&server.url()).await.unwrap();
    server.psql("kv", "ALTER ROLE kv SET timezone = 'America/St_Johns'").unwrap();
    let west = PostgresStore::open(&server.url()).await.unwrap();
    let moment = now() + Duration::from_secs(600);
    let until = SetOptions::default().with_expiry(Expiry::At(moment));
    let hour = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(3_600)));
    let _ = east.set(&key("until"), "v".into(), &until).await.unwrap();
    let _ = east.set(&key("hour"), "v".into(), &hour).await.unwrap();
    for name in ["until", "hour"] {
        let (one, other) = (east.get(&key(name)).await.unwrap().unwrap(), west.get(&key(name)).await.unwrap().unwrap());
        assert_eq!(one, other);
        let left = one.expires.remaining(now()).unwrap().as_secs();
        let expected = if name == "hour" { 3_590..=3_601 } else { 590..=601 };
        assert!(expected.contains(&left), "{name}: {left} s");
    }
}

async fn damaged_row() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    for name in ["a", "b", "c"] {
        set(&store, name, "v").await.unwrap();
    }
    server.psql("kv", "UPDATE kv SET value = 'damaged' WHERE key = 'b'").unwrap();
    server.psql("kv", "INSERT INTO kv VALUES ('not$a key', 'x', 'x', 0, NULL, NULL)").unwrap();
    assert_eq!(get(&store, "b").await.unwrap_err().kind(), ErrorKind::Corrupt);
    let many = store.get_many(&[key("a"), key("b"), key("c")]).await;
    assert!(many[0].is_ok() && many[2].is_ok());
    assert_eq!(many[1].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
    let page = store.list(&ListQuery::default()).await.unwrap();
    assert_eq!((page.items.len(), page.next.clone()), (1, Some(key("a"))));
    let error = store.list(&ListQuery::default().resume(key("a"))).await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key("b"))));
    assert_eq!(store.list(&ListQuery::default().resume(key("b"))).await.unwrap().items.len(), 1);
    set(&store, "b", "healed").await.unwrap();
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().items.len(), 3);
}

async fn stays_in_page() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    for number in 0..2_000_u64 {
        let options = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60 + number)));
        assert!(store.set(&key(number % 50), "v".into(), &options).await.unwrap().is_stored());
    }
    // The counters are told a while after the session was idle.
    SystemClock.sleep(Duration::from_secs(2)).await;
    get(&store, "none").await.unwrap();
    SystemClock.sleep(Duration::from_secs(1)).await;
    let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'kv'";
    let counted = server.psql("kv", sql).unwrap();
    let (all, within) = counted.trim().split_once('|').unwrap();
    let (all, within): (u64, u64) = (all.parse().unwrap(), within.parse().unwrap());
    assert!(all >= 1_000 && within * 2 >= all, "{within} of {all} stayed in their page");
}

async fn expired_certificate() {
    let server = Postgres::builder().tls_with(Certificate::Expired).start().unwrap();
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), server.ca_certificate().display());
    let error = PostgresStore::open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

async fn foreign_rows() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    for name in ["a", "z"] {
        set(&store, name, "v").await.unwrap();
    }
    // `$7a` is not canonical, so no key of ours.
    let foreign = "INSERT INTO kv SELECT 'b$7a' || lpad(n::text, 5, '0'), 'x', 'x', 0, NULL, NULL FROM generate_series(1, 4500) n";
    server.psql("kv", foreign).unwrap();
    for (query, first, last) in [(ListQuery::default(), "a", "z"), (ListQuery::default().with_reverse(), "z", "a")] {
        for query in [query.clone(), query.clone().with_limit(1), query.clone().with_keys_only()] {
            let (mut query, mut found) = (query, Vec::new());
            loop {
                let page = store.list(&query).await.unwrap();
                found.extend(page.items.into_iter().map(|item| item.key));
                let Some(next) = page.next else { break };
                query = query.resume(next);
            }
            assert_eq!(found, [key(first), key(last)]);
        }
    }
}

/// Increments of a counter that lives for a moment: each finds it whole, or begins anew with a new deadline.
async fn expiring_counter() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let options = IncrementOptions::default().with_expiry(Expiry::After(Duration::from_millis(3)));
    let (mut reached, mut begun) = (0, 0);
    for _ in 0..3_000 {
        let count = store.increment(&key("n"), 1, &options).await.unwrap();
        assert!(count == 1 || count == reached + 1, "{count} behind {reached}");
        begun += u32::from(count == 1);
        reached = count;
        if let Some(entry) = store.get(&key("n")).await.unwrap() {
            assert!(matches!(entry.expires, Expires::At(_)), "{entry:?}");
        }
    }
    assert!(begun > 100, "{begun}");
}

async fn dropped_table() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    set(&store, "k", "v").await.unwrap();
    store.close().await.unwrap();
    server.psql("kv", "DROP TABLE kv").unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    assert_eq!(get(&store, "k").await.unwrap(), None);
    set(&store, "k", "w").await.unwrap();
    assert_eq!(get(&store, "k").await.unwrap().as_deref(), Some("w"));
}

async fn truncated() {
    use futures_util::StreamExt;
    use kv_core::{GapReason, WatchEvent};
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    server.psql("kv", "TRUNCATE kv").unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(told, WatchEvent::Gap { reason: GapReason::Flushed });
}

/// Statements that were prepared over an empty table, and used while it grew, without the server having looked at it.
async fn plans() {
    const ROWS: u64 = 60_000;
    let server = Postgres::builder().setting("autovacuum", "off").start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(10)).connections(1).open().await.unwrap();
    for _ in 0..10 {
        get(&store, "none").await.unwrap();
        store.get_many(&[key("none"), key("other")]).await.into_iter().for_each(|answer| drop(answer.unwrap()));
        store.list(&ListQuery::default().with_limit(10)).await.unwrap();
        store.clear(&key("none").into()).await.unwrap();
        store.sweep().await.unwrap();
        let transaction = Transaction::new().check(key("none"), When::Absent).delete(key("other"));
        assert!(store.commit(&transaction).await.unwrap().is_committed());
    }
    for start in (0..ROWS).step_by(5_000) {
        let items: Vec<_> = (start..start + 5_000).map(|number| SetItem::new(key(Key::ordered(number)), "v")).collect();
        store.set_many(&items).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    }
    // The counters are told a while after the session was idle.
    SystemClock.sleep(Duration::from_secs(2)).await;
    get(&store, "none").await.unwrap();
    SystemClock.sleep(Duration::from_secs(1)).await;
    let scans = || {
        let sql = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'kv'";
        let counted = server.psql("kv", sql).unwrap();
        let (scanned, fetched) = counted.trim().split_once('|').unwrap();
        (scanned.parse::<u64>().unwrap(), fetched.parse::<u64>().unwrap())
    };
    let before = scans();
    let at = |number: u64| key(Key::ordered(number));
    let (plain, present) = (SetOptions::default(), SetOptions::default().with_when(When::Present));
    for number in 0..50 {
        // At the end of the index: a walk from its beginning would be seen.
        let (last, other) = (at(ROWS - 1 - number), at(ROWS - 1_000 - number));
        let both = [last.clone(), other.clone()];
        assert!(store.get(&last).await.unwrap().is_some());
        assert!(store.get_many(&both).await.into_iter().all(|answer| answer.unwrap().is_some()));
        let page = store.list(&ListQuery::default().with_after(at(ROWS - 500)).with_limit(10)).await.unwrap();
        assert_eq!(page.items.len(), 10);
        let items = both.clone().map(|key| SetItem::new(key, "w"));
        assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
        assert!(store.set(&other, "x".into(), &plain).await.unwrap().is_stored());
        assert!(store.set(&other, "y".into(), &present).await.unwrap().is_stored());
        assert!(store.touch(&other, NewExpiry::Never).await.unwrap());
        store.increment(&key("count"), 1, &IncrementOptions::default()).await.unwrap();
        let transaction = Transaction::new()
            .check(last.clone(), When::Present)
            .check(key("none"), When::Absent)
            .set(last.clone(), "t", Expiry::Never)
            .delete(at(ROWS - 2_000 - number));
        assert!(store.commit(&transaction).await.unwrap().is_committed());
        assert!(
            store
                .delete_many(&[at(ROWS - 3_000 - number)])
                .await
                .into_iter()
                .all(|outcome| outcome.unwrap().is_deleted())
        );
        assert_eq!(store.clear(&last.into()).await.unwrap(), 1);
        store.sweep().await.unwrap();
    }
    SystemClock.sleep(Duration::from_secs(2)).await;
    get(&store, "none").await.unwrap();
    SystemClock.sleep(Duration::from_secs(1)).await;
    let after = scans();
    assert_eq!(after.0, before.0, "rows that were read by scans of the whole table");
    assert!(after.1 - before.1 < 50 * 150, "{} rows were fetched", after.1 - before.1);
}

async fn urls() {
    let server = Postgres::start().unwrap();
    let port = server.port();
    let (password, folder) = (server.password(), server.socket_folder().display());
    for url in [
        server.url(),
        server.socket_url(),
        server.url().replace("postgres://", "postgresql://"),
        format!("postgres://kv@localhost:{port}/kv?password={password}"),
        format!("postgres:///kv?host={folder}&port={port}&user=kv&password={password}"),
        format!("postgres://kv:{password}@127.0.0.1:1,127.0.0.1:{port}/kv"),
        format!(
            "{}?connect_timeout=3&application_name=mine&keepalives_idle=10&target_session_attrs=read-write",
            server.url()
        ),
    ] {
        let store = PostgresStore::open(&url).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        set(&store, "k", "v").await.unwrap();
    }
}
