//! Listing as a stream.
#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use futures_util::{StreamExt, TryStreamExt};
use kv_core::{Capability, ErrorKind, Key, Kv, List};
use support::{CORE, DAMAGED, FULL, SCANNING, Tiny, UNREACHABLE};

async fn filled(store: &Tiny, count: usize) -> Kv {
    let kv = store.kv().namespace(["app"]).unwrap();
    for number in 0..count {
        kv.set(["n", &format!("{number:03}")], &number).await.unwrap();
    }
    kv.set(["other"], &0).await.unwrap();
    store.calls();
    kv
}

fn numbers(items: Vec<(Key, usize)>) -> Vec<usize> {
    items.into_iter().map(|(_, number)| number).collect()
}

#[tokio::test]
async fn nothing_happens_before_the_first_poll() {
    let store = Tiny::new(FULL);
    let kv = filled(&store, 3).await;
    let mut list = kv.list::<usize>(["n"]).page_size(2);
    assert_eq!(store.calls(), [] as [&str; 0]);
    let (key, number) = list.next().await.unwrap().unwrap();
    assert_eq!((key.as_str(), number), ("n#000", 0));
    assert_eq!(store.calls(), ["list"]);
}

#[tokio::test]
async fn a_listing_spans_many_pages_in_order() {
    let store = Tiny::new(FULL);
    let kv = filled(&store, 100).await;
    let all = kv.list(["n"]).page_size(7).all().await.unwrap();
    assert_eq!(numbers(all), (0..100).collect::<Vec<_>>());
    assert_eq!(store.calls(), ["list"; 15]);

    let reversed: Vec<(Key, usize)> = kv.list(["n"]).page_size(7).reverse().try_collect().await.unwrap();
    assert_eq!(numbers(reversed), (0..100).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn bounds_and_limit_hold_across_pages_and_directions() {
    for capabilities in [FULL, SCANNING] {
        let store = Tiny::new(capabilities);
        let kv = filled(&store, 50).await;
        let list = || kv.list::<usize>(["n"]).page_size(4).after(["n", "009"]).before(("n", "031"));
        assert_eq!(numbers(list().all().await.unwrap()), (10..31).collect::<Vec<_>>());
        assert_eq!(numbers(list().limit(10).all().await.unwrap()), (10..20).collect::<Vec<_>>());
        assert_eq!(numbers(list().reverse().limit(3).all().await.unwrap()), [30, 29, 28]);
        assert_eq!(kv.keys(["n"]).page_size(4).limit(9).all().await.unwrap().len(), 9);
        assert_eq!(kv.keys(()).all().await.unwrap().len(), 51);
        store.calls();
        assert!(list().limit(0).all().await.unwrap().is_empty());
        assert_eq!(store.calls(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_limit_caps_the_request_to_the_store() {
    let store = Tiny::new(FULL);
    let kv = filled(&store, 20).await;
    assert_eq!(kv.entries(["n"]).limit(5).all().await.unwrap().len(), 5);
    assert_eq!(store.calls(), ["list"]);
}

#[tokio::test]
async fn a_scanning_store_is_scanned_once_per_listing() {
    let store = Tiny::new(SCANNING);
    let kv = filled(&store, 20).await;
    let all = kv.list(["n"]).page_size(8).all().await.unwrap();
    assert_eq!(numbers(all), (0..20).collect::<Vec<_>>());
    assert_eq!(store.calls(), ["list", "get_many", "get_many", "get_many"]);
    assert_eq!(kv.keys(["n"]).page_size(8).all().await.unwrap().len(), 20);
    assert_eq!(store.calls(), ["list"]);
    assert_eq!(kv.keys(["n"]).limit(3).all().await.unwrap().len(), 3);
    assert_eq!(store.calls(), ["list"]);
}

#[tokio::test]
async fn a_key_removed_after_the_scan_is_skipped_and_does_not_count_for_the_limit() {
    let store = Tiny::new(SCANNING);
    let kv = filled(&store, 10).await;
    let mut list = kv.list::<usize>(["n"]).page_size(2).limit(4);
    assert_eq!(list.next().await.unwrap().unwrap().1, 0);
    for removed in ["002", "003", "004"] {
        assert!(kv.delete(["n", removed]).await.unwrap());
    }
    assert_eq!(numbers(list.all().await.unwrap()), [1, 5, 6]);
}

#[tokio::test]
async fn a_value_that_does_not_decode_is_one_error_between_items() {
    for capabilities in [FULL, SCANNING] {
        let kv = filled(&Tiny::new(capabilities), 3).await;
        kv.set(["n", "001"], "text").await.unwrap();
        let items: Vec<_> = kv.list::<usize>(["n"]).collect().await;
        assert_eq!(items.len(), 3);
        let error = items[1].as_ref().unwrap_err();
        assert_eq!((error.kind(), error.key().unwrap().as_str()), (ErrorKind::Corrupt, "n#001"));
        assert_eq!(items[2].as_ref().unwrap().1, 2);
    }
}

#[tokio::test]
async fn an_impossible_listing_yields_an_error_and_ends() {
    let kv = Tiny::new(CORE).kv();
    let mut list = kv.keys(());
    assert_eq!(list.next().await.unwrap().unwrap_err().capability(), Some(Capability::List));
    assert!(list.next().await.is_none());
    for capabilities in [FULL, SCANNING] {
        let error = Tiny::new(capabilities).kv().keys(()).page_size(0).all().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(FULL.list, List::Native);
}

#[tokio::test]
async fn a_listing_continues_after_a_damaged_entry_and_ends_when_the_store_is_unavailable() {
    let kv = filled(&Tiny::new(SCANNING), 5).await;
    kv.set_bytes(["n", "001"], DAMAGED).await.unwrap();
    kv.set_bytes(["n", "003"], UNREACHABLE).await.unwrap();
    let items: Vec<_> = kv.entries(["n"]).collect().await;
    let kinds: Vec<_> = items.iter().map(|item| item.as_ref().err().map(kv_core::Error::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::Corrupt), None, Some(ErrorKind::Unavailable)]);
    assert_eq!(items[3].as_ref().unwrap_err().key().unwrap().as_str(), "n#003");
}

#[tokio::test]
async fn a_native_listing_returns_the_error_of_a_damaged_entry_in_its_place() {
    let kv = filled(&Tiny::new(FULL), 5).await;
    kv.set_bytes(["n", "001"], DAMAGED).await.unwrap();
    for reverse in [false, true] {
        for page_size in [1, 2, 256] {
            let listing = kv.entries(["n"]).page_size(page_size);
            let listing = if reverse { listing.reverse() } else { listing };
            let items: Vec<_> = listing.collect().await;
            let mut kinds: Vec<_> = items.iter().map(|item| item.as_ref().err().map(kv_core::Error::kind)).collect();
            if reverse {
                kinds.reverse();
            }
            assert_eq!(kinds, [None, Some(ErrorKind::Corrupt), None, None, None], "{reverse} {page_size}");
        }
    }
    let keys: Vec<_> = kv.keys(["n"]).collect().await;
    assert!(keys.len() == 5 && keys.iter().all(Result::is_ok));
}
