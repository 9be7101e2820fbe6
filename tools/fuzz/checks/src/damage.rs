//! The checks of a store with a damaged or foreign record.

use kv_core::{
    DeleteOptions, ErrorKind, Expiry, IncrementOptions, Key, KvStore, ListQuery, NewExpiry, Result, SetItem,
    SetOptions, Transaction, When,
};

/// The behaviour of `list` with a damaged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// Skips the record.
    Skips,
    /// Reports the record as damaged, or fails with `Corrupt`.
    MayFail,
}

fn key(name: &str) -> Key {
    Key::new([name]).expect("a key")
}

fn assert_error_kind<T: std::fmt::Debug>(operation: &str, result: Result<T>) {
    if let Err(error) = result {
        let is_expected = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid);
        assert!(is_expected, "{operation} failed with {error:?}");
    }
}

/// Runs every operation on the key `k`, whose record may be damaged or foreign, and on a sound key. Checks that damage
/// is reported as `Corrupt` and does not affect the sound key, and that a write replaces the damaged record.
pub(crate) async fn assert_contained(store: &dyn KvStore, listing: Listing) {
    let (damaged, other) = (key("k"), key("other"));
    let sound = |value: &str| SetItem::new(other.clone(), value.to_owned());
    let _ = store.set(&other, "sound".into(), &SetOptions::default()).await.expect("a set of the sound key");

    let found = store.get(&damaged).await;
    assert!(found.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Corrupt), "{found:?}");
    assert_error_kind("contains", store.contains(&damaged).await);
    let many = store.get_many(&[damaged.clone(), other.clone()]).await;
    assert!(many.get(1).is_some_and(Result::is_ok), "the sound key was not read: {many:?}");
    match store.list(&ListQuery::default()).await {
        Ok(page) => assert!(page.items.iter().any(|item| item.key == other), "the sound key was not listed"),
        Err(error) => assert_eq!((error.kind(), listing), (ErrorKind::Corrupt, Listing::MayFail), "{error}"),
    }

    let if_absent = SetOptions::default().with_when(When::Absent).with_previous();
    assert_error_kind("a conditional set", store.set(&damaged, "v".into(), &if_absent).await);
    let keeping = SetOptions::default().with_expiry(Expiry::Keep);
    assert_error_kind("a set that keeps the deadline", store.set(&damaged, "v".into(), &keeping).await);
    assert_error_kind("increment", store.increment(&damaged, 1, &IncrementOptions::default()).await);
    assert_error_kind("touch", store.touch(&damaged, NewExpiry::Never).await);
    let transaction = Transaction::new().check(damaged.clone(), When::Absent).set(damaged.clone(), "v", Expiry::Never);
    assert_error_kind("a transaction", store.commit(&transaction).await);
    let both = [SetItem::new(damaged.clone(), "v"), sound("beside")];
    let stored = store.set_many(&both).await;
    assert!(stored.get(1).is_some_and(Result::is_ok), "the sound key was not written: {stored:?}");
    let deleted = store.delete(&damaged, &DeleteOptions::default().with_previous()).await;
    let is_corrupt = deleted.as_ref().err().is_some_and(|error| error.kind() == ErrorKind::Corrupt);
    assert!(!is_corrupt || store.get(&damaged).await.is_err(), "delete failed but removed the record: {deleted:?}");
    assert_error_kind("delete", deleted);
    assert_error_kind("sweep", store.sweep().await);

    let _ = store.set(&damaged, "new".into(), &SetOptions::default()).await.expect("a set overwrites the record");
    for (key, value) in [(&damaged, "new"), (&other, "beside")] {
        let found = store.get(key).await.expect("the new value is read").map(|entry| entry.value);
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
    }
}
