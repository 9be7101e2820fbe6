//! Lists report damaged entries, and read a bounded number of records for a page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{
    Clock, ErrorKind, Expiry, Key, KeyPrefix, KvStore, ListPage, ListQuery, ManualClock, Operation, SetItem, SetOptions,
};
use kv_sled::{SledCheck, SledDurability, SledStore};

fn key(number: u32) -> Key {
    Key::new(["k", &format!("{number:08}")]).unwrap()
}

async fn fill(store: &SledStore, numbers: std::ops::Range<u32>, options: &SetOptions) {
    let numbers: Vec<_> = numbers.collect();
    for numbers in numbers.chunks(1_000) {
        let item = |&number: &u32| SetItem::new(key(number), "value").with_options(options.clone());
        let items: Vec<_> = numbers.iter().map(item).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    }
}

/// Changes the tree of a closed store.
fn edit(path: &Path, edit: impl FnOnce(&sled::Db)) {
    let db = sled::open(path).unwrap();
    edit(&db);
    db.flush().unwrap();
}

/// Flips a bit of an entry: in the deadline if `is_deadline`, otherwise in the value.
fn damage(db: &sled::Db, key: &Key, is_deadline: bool) {
    let physical = format!("d{}", key.as_str());
    let mut stored = db.get(&physical).unwrap().unwrap().to_vec();
    let offset = if is_deadline { 3 } else { stored.len() - 1 };
    stored[offset] ^= 1;
    db.insert(physical, stored).unwrap();
}

fn keys(page: &ListPage) -> Vec<Key> {
    page.items.iter().map(|item| item.key.clone()).collect()
}

#[tokio::test]
async fn a_list_reports_each_damaged_entry_and_continues() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::open(&path).await.unwrap();
    fill(&store, 0..6, &SetOptions::default()).await;
    store.close().await.unwrap();
    edit(&path, |db| {
        damage(db, &key(2), false);
        damage(db, &key(3), true);
        // A foreign record: its key is not a canonical text.
        db.insert(b"d\xff", "theirs").unwrap();
    });
    std::fs::remove_file(path.join("sealed")).unwrap();
    let store = SledStore::builder().check(SledCheck::Nothing).open(&path).await.unwrap();
    let query = ListQuery::new(KeyPrefix::ALL);
    for query in [query.clone(), query.clone().with_reverse()] {
        let page = store.list(&query).await.unwrap();
        let (mut live, mut damaged) = (vec![key(0), key(1), key(4), key(5)], vec![key(2), key(3)]);
        if query.reverse {
            live.reverse();
            damaged.reverse();
        }
        assert_eq!(keys(&page), live);
        assert_eq!(page.damaged.iter().map(|error| error.key().unwrap().clone()).collect::<Vec<_>>(), damaged);
        for error in &page.damaged {
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Corrupt, Some(Operation::List)));
            assert_eq!(error.backend(), Some("sled"));
        }
    }
    // A list of keys does not check the values, so it detects only the damaged deadline.
    let page = store.list(&query.clone().with_keys_only()).await.unwrap();
    assert_eq!((page.items.len(), page.damaged.len()), (5, 1));
    // A damaged entry counts towards the limit and the bytes of a page.
    let page = store.list(&query.clone().with_limit(3)).await.unwrap();
    assert_eq!((page.items.len(), page.damaged.len(), page.next), (2, 1, Some(key(2))));
    let page = store.list(&query.with_after(key(1)).with_max_page_bytes(6)).await.unwrap();
    assert_eq!((page.items.len(), page.damaged.len(), page.next), (0, 2, Some(key(3))));
}

/// Lists all pages of a query. Returns the keys of the entries and of the damaged entries, in the order of the pages.
async fn all_pages(store: &SledStore, mut query: ListQuery) -> (Vec<Key>, Vec<Key>) {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    loop {
        let page = store.list(&query).await.unwrap();
        assert!(page.items.len() + page.damaged.len() <= query.limit.unwrap_or(usize::MAX));
        found.extend(keys(&page));
        damaged.extend(page.damaged.iter().map(|error| error.key().unwrap().clone()));
        let Some(next) = page.next else { return (found, damaged) };
        query = query.resume(next);
    }
}

/// 600 records are more than the store reads under one lock, so some damaged entries are beside the end of such a part.
#[tokio::test]
async fn each_damaged_entry_is_reported_once_by_pages_of_every_size_and_direction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::open(&path).await.unwrap();
    fill(&store, 0..600, &SetOptions::default()).await;
    store.close().await.unwrap();
    let (values, deadlines) = ([1, 256, 300, 598], [0, 2, 255, 343, 344, 599]);
    edit(&path, |db| {
        for number in values {
            damage(db, &key(number), false);
        }
        for number in deadlines {
            damage(db, &key(number), true);
        }
    });
    std::fs::remove_file(path.join("sealed")).unwrap();
    for durability in [SledDurability::Process, SledDurability::Interval(Duration::from_secs(600))] {
        let builder = SledStore::builder().check(SledCheck::Nothing).durability(durability);
        let store = builder.open(&path).await.unwrap();
        // With write-behind, this write is pending, and the list merges it with the records in the tree.
        fill(&store, 100..101, &SetOptions::default()).await;
        for case in 0..32 {
            let (reverse, keys_only) = (case & 1 != 0, case & 2 != 0);
            let mut query = ListQuery::new(KeyPrefix::ALL);
            (query.reverse, query.keys_only) = (reverse, keys_only);
            query.limit = [None, Some(1), Some(2), Some(7)][case / 4 % 4];
            if case >= 16 {
                query.max_page_bytes = 11;
            }
            // A list of keys does not read the values.
            let is_damaged = |number: &u32| deadlines.contains(number) || (!keys_only && values.contains(number));
            let (mut damaged, mut found): (Vec<_>, Vec<_>) = (0..600).partition(is_damaged);
            if reverse {
                damaged.reverse();
                found.reverse();
            }
            let expected = (found.into_iter().map(key).collect(), damaged.into_iter().map(key).collect());
            assert_eq!(all_pages(&store, query.clone()).await, expected, "{durability}: {query:?}");
        }
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_page_over_many_expired_entries_ends_early_and_yields() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let builder = SledStore::builder().clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let builder = builder.sweep_interval(Duration::from_secs(86_400));
    let store = builder.open(folder.path().join("store")).await.unwrap();
    let expiring = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60)));
    fill(&store, 0..40_000, &expiring).await;
    fill(&store, 40_000..40_001, &SetOptions::default()).await;
    clock.advance(Duration::from_secs(61));
    for keys_only in [false, true] {
        let mut query = ListQuery::new(KeyPrefix::ALL).with_limit(1);
        query.keys_only = keys_only;
        let mut pages = 0;
        loop {
            let page = store.list(&query).await.unwrap();
            pages += 1;
            let Some(next) = page.next.clone() else { panic!("the live entry was not found") };
            if !page.items.is_empty() {
                assert_eq!(keys(&page), [key(40_000)]);
                break;
            }
            query = query.resume(next);
        }
        assert!((2..=4).contains(&pages), "{pages}");
    }
    let query = ListQuery::new(KeyPrefix::ALL);
    let mut list = store.list(&query);
    assert!(futures_util::poll!(&mut list).is_pending(), "the page was read without a yield");
    drop(list);
}

#[tokio::test]
async fn a_page_of_live_entries_does_not_end_early() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path().join("store")).await.unwrap();
    fill(&store, 0..10_000, &SetOptions::default()).await;
    let page = store.list(&ListQuery::new(KeyPrefix::ALL)).await.unwrap();
    assert_eq!((page.items.len(), page.next), (10_000, None));
    let page = store.list(&ListQuery::new(KeyPrefix::ALL).with_limit(9_000)).await.unwrap();
    assert_eq!((page.items.len(), page.next), (9_000, Some(key(8_999))));
}
