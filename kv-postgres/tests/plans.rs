//! The work of the server for a statement: the rows that it reads, and the pages that it changes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use kv_core::{
    Clock, Expiry, IncrementOptions, Key, KvStore, ListQuery, NewExpiry, SetItem, SetOptions, SystemClock, Transaction,
    When,
};
use kv_postgres::PostgresStore;
use test_servers::postgres::Postgres;

mod support;
use support::{get, impatient, key, test};

fn main() {
    support::main(
        |_| unreachable!("there are no children"),
        vec![
            test("overwrites_with_a_deadline_stay_in_their_page", hot_updates),
            test("plans_use_the_index_after_the_table_grew", plans),
        ],
    );
}

async fn hot_updates() {
    let server = Postgres::start().unwrap();
    let store = PostgresStore::open(&server.url()).await.unwrap();
    for number in 0..2_000_u64 {
        let options = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60 + number)));
        assert!(store.set(&key(number % 50), "v".into(), &options).await.unwrap().is_stored());
    }
    // A session reports its counters to the statistics only after it has been idle for a while.
    SystemClock.sleep(Duration::from_secs(2)).await;
    get(&store, "none").await.unwrap();
    SystemClock.sleep(Duration::from_secs(1)).await;
    let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'kv'";
    let counted = server.psql("kv", sql).unwrap();
    let (all, within) = counted.trim().split_once('|').unwrap();
    let (all, within): (u64, u64) = (all.parse().unwrap(), within.parse().unwrap());
    assert!(all >= 1_000 && within * 2 >= all, "only {within} of {all} stayed in their page");
}

/// Prepares the statements on an empty table, and uses them after the table grew without `ANALYZE`.
async fn plans() {
    const ROWS: u64 = 60_000;
    let server = Postgres::builder().setting("autovacuum", "off").start().unwrap();
    let store = impatient(&server).operation_timeout(Duration::from_secs(10)).connections(1).open().await.unwrap();
    for _ in 0..10 {
        get(&store, "none").await.unwrap();
        store.get_many(&[key("none"), key("other")]).await.into_iter().for_each(|result| drop(result.unwrap()));
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
    // A session reports its counters to the statistics only after it has been idle for a while.
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
        // These keys are at the end of the index, so a scan from its start would fetch many rows.
        let (last, other) = (at(ROWS - 1 - number), at(ROWS - 1_000 - number));
        let both = [last.clone(), other.clone()];
        assert!(store.get(&last).await.unwrap().is_some());
        assert!(store.get_many(&both).await.into_iter().all(|result| result.unwrap().is_some()));
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
    assert_eq!(after.0, before.0, "a scan of the whole table read rows");
    assert!(after.1 - before.1 < 50 * 150, "{} rows were fetched", after.1 - before.1);
}
