//! What every store owes to whoever meets a record that is none of its own, or no longer.

use kv_core::{
    DeleteOptions, ErrorKind, Expiry, IncrementOptions, Key, KvStore, ListQuery, NewExpiry, Result, SetItem,
    SetOptions, Transaction, When,
};

/// What a list is to do with a damaged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// Passes it over.
    PassesOver,
    /// May tell of it.
    MayTell,
}

fn key(name: &str) -> Key {
    Key::new([name]).expect("a key")
}

fn typed<T: std::fmt::Debug>(what: &str, result: Result<T>) {
    if let Err(error) = result {
        let is_told = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid);
        assert!(is_told, "{what} says {error:?}");
    }
}

/// Asks everything of the key `k`, whose record may be anything, and of a sound one beside it. Damage is told as such, is in
/// nobody's way, and is overwritten.
pub(crate) async fn is_harmless(store: &dyn KvStore, listing: Listing) {
    let (damaged, other) = (key("k"), key("other"));
    let sound = |value: &str| SetItem::new(other.clone(), value.to_owned());
    let _ = store.set(&other, "sound".into(), &SetOptions::default()).await.expect("a set beside it");

    let found = store.get(&damaged).await;
    assert!(found.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Corrupt), "{found:?}");
    typed("contains", store.contains(&damaged).await);
    let many = store.get_many(&[damaged.clone(), other.clone()]).await;
    assert!(many.get(1).is_some_and(Result::is_ok), "what stands beside it is read: {many:?}");
    match store.list(&ListQuery::default()).await {
        Ok(page) => assert!(page.items.iter().any(|item| item.key == other), "what stands beside it is listed"),
        Err(error) => assert_eq!((error.kind(), listing), (ErrorKind::Corrupt, Listing::MayTell), "{error}"),
    }

    let if_absent = SetOptions::default().with_when(When::Absent).with_previous();
    typed("a conditional set", store.set(&damaged, "v".into(), &if_absent).await);
    let keeping = SetOptions::default().with_expiry(Expiry::Keep);
    typed("a set that keeps the deadline", store.set(&damaged, "v".into(), &keeping).await);
    typed("increment", store.increment(&damaged, 1, &IncrementOptions::default()).await);
    typed("touch", store.touch(&damaged, NewExpiry::Never).await);
    let transaction = Transaction::new().check(damaged.clone(), When::Absent).set(damaged.clone(), "v", Expiry::Never);
    typed("a transaction", store.commit(&transaction).await);
    let both = [SetItem::new(damaged.clone(), "v"), sound("beside")];
    let stored = store.set_many(&both).await;
    assert!(stored.get(1).is_some_and(Result::is_ok), "what stands beside it is written: {stored:?}");
    let deleted = store.delete(&damaged, &DeleteOptions::default().with_previous()).await;
    let is_told = deleted.as_ref().err().is_some_and(|error| error.kind() == ErrorKind::Corrupt);
    assert!(!is_told || store.get(&damaged).await.is_err(), "what is refused as damaged is still there: {deleted:?}");
    typed("delete", deleted);
    typed("sweep", store.sweep().await);

    let _ = store.set(&damaged, "new".into(), &SetOptions::default()).await.expect("a set over it");
    for (key, value) in [(&damaged, "new"), (&other, "beside")] {
        let found = store.get(key).await.expect("what was set over it").map(|entry| entry.value);
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
    }
}
