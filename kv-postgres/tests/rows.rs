//! Unusual rows: damaged, foreign, at their deadline, or removed by another program.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Entry, ErrorKind, Expires, Expiry, GapReason, IncrementOptions, Key, KeyPrefix, Kv, KvStore, ListQuery, Result,
    SetItem, SetOptions, SetOutcome, WatchEvent, WatchQuery,
};
use kv_postgres::PostgresStore;
use kv_postgres::deadpool_postgres::tokio_postgres::{self, NoTls};
use test_servers::postgres::Postgres;

mod support;
use support::{get, key, now, pause, set, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("a_null_value_a_nul_in_a_key_a_long_key_and_a_short_deadline_work", unusual_entries),
            test("the_time_zone_of_a_session_does_not_matter", time_zones),
            test("a_damaged_row_is_corrupt_and_the_other_rows_are_readable", damaged_row),
            test("a_row_that_the_server_cannot_read_is_corrupt_and_the_other_rows_are_readable", unreadable_rows),
            test("a_page_is_filled_up_to_its_limit_or_its_maximum_of_bytes", full_pages),
            test("foreign_rows_do_not_end_a_list", foreign_rows),
            test("an_increment_at_the_deadline_adds_to_the_old_counter_or_starts_a_new_counter", expiring_counter),
            test("the_previous_entry_has_the_deadline_of_a_touch_that_came_before", touched_before),
            test("truncating_the_table_gives_watchers_a_gap", truncated),
        ],
    );
}

async fn unusual_entries() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let kv = Kv::new(store.clone());
    kv.set(["null"], &serde_json::Value::Null).await.unwrap();
    assert_eq!(kv.get::<Option<u8>>(["null"]).await.unwrap(), Some(None));
    assert_eq!(kv.get::<Option<u8>>(["none"]).await.unwrap(), None);
    kv.set(["a\0b"], &1).await.unwrap();
    assert_eq!(kv.get::<u8>(["a\0b"]).await.unwrap(), Some(1));
    // The key is random, because the server compresses index entries.
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

/// A touch commits between the read and the write of a set that returns the previous entry.
async fn touched_before() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    for expiry in [Expiry::Never, Expiry::Keep] {
        set(&store, "k", "old").await.unwrap();
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        let running = tokio::spawn(connection);
        let touch =
            "BEGIN; UPDATE kv SET expires_at = date_trunc('milliseconds', now()) + interval '1 hour' WHERE key = 'k'";
        client.batch_execute(touch).await.unwrap();
        let setting = tokio::spawn({
            let store = store.clone();
            let options = SetOptions::default().with_expiry(expiry).with_previous();
            async move { store.set(&key("k"), "new".into(), &options).await }
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        while server.psql("kv", waiting).unwrap().trim() != "1" {
            pause(Duration::from_millis(20)).await;
        }
        client.batch_execute("COMMIT").await.unwrap();
        let SetOutcome::Stored { previous: Some(previous), .. } = setting.await.unwrap().unwrap() else {
            panic!("the set stored nothing or returned no previous entry")
        };
        assert!(matches!(previous.expires, Expires::At(_)), "{expiry:?}: {previous:?}");
        let expires = store.get(&key("k")).await.unwrap().unwrap().expires;
        assert_eq!(expires == Expires::Never, expiry == Expiry::Never, "{expires:?}");
        running.abort();
    }
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
    for query in [ListQuery::default(), ListQuery::default().with_reverse()] {
        let page = store.list(&query).await.unwrap();
        let keys: Vec<_> = page.items.iter().map(|item| &item.key).collect();
        let (first, last) = if query.reverse { ("c", "a") } else { ("a", "c") };
        assert_eq!((keys, page.next), (vec![&key(first), &key(last)], None));
        assert_eq!(page.damaged.len(), 1);
        assert_eq!((page.damaged[0].kind(), page.damaged[0].key()), (ErrorKind::Corrupt, Some(&key("b"))));
        assert_eq!(page.damaged[0].backend(), Some("postgres"));
    }
    // A damaged entry counts towards the limit and the maximum of bytes of its page.
    for query in [ListQuery::default().with_limit(2), ListQuery::default().with_max_page_bytes(2)] {
        let page = store.list(&query).await.unwrap();
        assert_eq!((page.items.len(), page.damaged.len(), page.next), (1, 1, Some(key("b"))));
        assert_eq!(store.list(&query.resume(key("b"))).await.unwrap().items.len(), 1);
    }
    let streamed: Vec<_> = Kv::new(store.clone()).entries(KeyPrefix::ALL).collect().await;
    assert_eq!(streamed.iter().filter(|item| item.is_ok()).count(), 2, "{streamed:?}");
    set(&store, "b", "healed").await.unwrap();
    let page = store.list(&ListQuery::default()).await.unwrap();
    assert_eq!((page.items.len(), page.damaged.len()), (3, 0));
}

/// The server stores large values in pieces. It reports SQLSTATE XX001 for a value whose pieces are missing.
async fn unreadable_rows() {
    let mut server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let large: Vec<u8> = (0..6_250).flat_map(|_| kv_core::Version::random().as_bytes().to_vec()).collect();
    let unreadable = [7, 31, 32, 39];
    for number in 0..40 {
        let value = if unreadable.contains(&number) { large.clone() } else { b"v".to_vec() };
        let name = key(format!("{number:02}"));
        let _ = store.set(&name, value.into(), &SetOptions::default()).await.unwrap();
    }
    let file = "CHECKPOINT; SELECT current_setting('data_directory') || '/' || pg_relation_filepath(reltoastrelid) \
                FROM pg_class WHERE oid = 'kv'::regclass";
    let file = server.psql("kv", file).unwrap().trim().to_owned();
    server.kill().unwrap();
    // Pages of zeros are empty.
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length > 0);
    file.set_len(0).unwrap();
    file.set_len(length).unwrap();
    server.restart().unwrap();

    let store = PostgresStore::open(&server.url()).await.unwrap();
    let names: Vec<_> = (0..40).map(|number| key(format!("{number:02}"))).collect();
    let check = |results: &[Result<Option<Entry>>]| {
        for (number, result) in results.iter().enumerate() {
            if unreadable.contains(&number) {
                let error = result.as_ref().unwrap_err();
                assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&names[number])), "{number}");
            } else {
                assert_eq!(result.as_ref().unwrap().as_ref().unwrap().value, "v", "{number}");
            }
        }
    };
    check(&store.get_many(&names).await);
    // Concurrent gets share statements.
    check(&futures_util::future::join_all(names.iter().map(|name| store.get(name))).await);
    for query in [ListQuery::default(), ListQuery::default().with_reverse(), ListQuery::default().with_limit(7)] {
        let (mut query, mut items, mut damaged) = (query, Vec::new(), Vec::new());
        loop {
            let page = store.list(&query).await.unwrap();
            items.extend(page.items.into_iter().map(|item| item.key));
            damaged.extend(page.damaged.iter().map(|error| error.key().unwrap().clone()));
            let Some(next) = page.next else { break };
            query = query.resume(next);
        }
        items.sort();
        damaged.sort();
        assert_eq!(damaged, unreadable.map(|number| names[number].clone()), "{query:?}");
        assert_eq!(items.len(), 36, "{query:?}");
        items.dedup();
        assert_eq!(items.len(), 36, "{query:?}");
    }
    set(&store, "07", "healed").await.unwrap();
    assert_eq!(get(&store, "07").await.unwrap().as_deref(), Some("healed"));
}

async fn full_pages() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let items: Vec<_> = (0..9_000).map(|number| SetItem::new(key(format!("{number:05}")), "v")).collect();
    store.set_many(&items).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    let last =
        |query: &ListQuery, taken: usize| key(format!("{:05}", if query.reverse { 9_000 - taken } else { taken - 1 }));
    let query = ListQuery::default().with_limit(8_000);
    for query in [query.clone(), query.clone().with_reverse(), query.with_keys_only()] {
        let page = store.list(&query).await.unwrap();
        assert_eq!((page.items.len(), page.next), (8_000, Some(last(&query, 8_000))));
        let page = store.list(&query.clone().resume(last(&query, 8_000))).await.unwrap();
        assert_eq!((page.items.len(), page.next), (1_000, None));
        let query = query.with_limit(9_000);
        let page = store.list(&query).await.unwrap();
        assert_eq!((page.items.len(), page.next), (9_000, None));
    }
    let query = ListQuery::default().with_limit(8_000).with_max_page_bytes(5_000);
    let page = store.list(&query).await.unwrap();
    assert_eq!((page.items.len(), page.next), (5_000, Some(last(&query, 5_000))));
    // Expired rows between live rows do not end a page.
    server.psql("kv", "UPDATE kv SET expires_at = clock_timestamp() WHERE key BETWEEN '00001' AND '06000'").unwrap();
    let query = ListQuery::default().with_limit(2);
    let page = store.list(&query).await.unwrap();
    assert_eq!((page.items.len(), page.next), (2, Some(key("06001"))));
}

async fn foreign_rows() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    for name in ["a", "z"] {
        set(&store, name, "v").await.unwrap();
    }
    // `$7a` is not canonical, so these rows are foreign.
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

/// Each increment of a short-lived counter either adds to the counter or starts a new counter with a new deadline.
async fn expiring_counter() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let options = IncrementOptions::default().with_expiry(Expiry::After(Duration::from_millis(3)));
    let (mut last, mut started) = (0, 0);
    for _ in 0..3_000 {
        let count = store.increment(&key("n"), 1, &options).await.unwrap();
        assert!(count == 1 || count == last + 1, "{count} after {last}");
        started += u32::from(count == 1);
        last = count;
        if let Some(entry) = store.get(&key("n")).await.unwrap() {
            assert!(matches!(entry.expires, Expires::At(_)), "{entry:?}");
        }
    }
    assert!(started > 100, "{started}");
}

async fn truncated() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    server.psql("kv", "TRUNCATE kv").unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(event, WatchEvent::Gap { reason: GapReason::Flushed });
}
