//! Results that the contract excludes become errors that are not retryable.

mod support;

use async_trait::async_trait;
use kv_core::{
    Bytes, DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, Key, Kv, KvStore, Operation, Registry, Result,
    Scheme, SetItem, SetOptions, SetOutcome, StoreInfo,
};
use support::{FULL, Tiny};

/// A store that breaks the contract.
#[derive(Debug)]
struct Defective {
    inner: Tiny,
    /// The store refuses every write.
    refuses: bool,
    /// The number of results of a call over several keys, minus the number of keys.
    surplus: isize,
}

impl Defective {
    fn resize<T>(&self, mut results: Vec<Result<T>>, extra: impl Fn() -> T) -> Vec<Result<T>> {
        let wanted = results.len().saturating_add_signed(self.surplus);
        results.resize_with(wanted, || Ok(extra()));
        results
    }
}

#[async_trait]
impl KvStore for Defective {
    fn info(&self) -> &StoreInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if self.refuses { Ok(SetOutcome::Refused { current: None }) } else { self.inner.set(key, value, options).await }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        if self.refuses { Ok(DeleteOutcome::Refused { current: None }) } else { self.inner.delete(key, options).await }
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        self.resize(self.inner.get_many(keys).await, || None)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::new();
        for SetItem { key, value, options, .. } in items {
            outcomes.push(self.set(key, value.clone(), options).await);
        }
        self.resize(outcomes, || SetOutcome::Stored { version: None, previous: None })
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes = Vec::new();
        for key in keys {
            outcomes.push(self.delete(key, &DeleteOptions::default()).await);
        }
        self.resize(outcomes, || DeleteOutcome::Missing)
    }
}

#[tokio::test]
async fn a_refused_write_without_a_condition_is_an_error_that_is_not_retryable() {
    let kv = Kv::new(Defective { inner: Tiny::new(FULL), refuses: true, surplus: 0 });
    let errors = [
        kv.set(["k"], &1).await.unwrap_err(),
        kv.set_many([(["k"], 1)]).await.all().unwrap_err(),
        kv.delete(["k"]).await.unwrap_err(),
        kv.delete_many([["k"]]).await.all().unwrap_err(),
        kv.take_bytes(["k"]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Defect, "{error}");
        assert!(!error.is_retryable() && error.maybe_applied());
        assert_eq!(error.key(), Some(&Key::new(["k"]).unwrap()), "{error}");
    }
    // With a condition a refusal is an outcome.
    assert!(!kv.set(["k"], &1).if_absent().await.unwrap().is_stored());
    assert!(!kv.delete(["k"]).with_previous().await.unwrap().is_deleted());
}

#[tokio::test]
async fn a_wrong_number_of_results_is_an_error_of_every_key_that_was_sent() {
    let empty = [""; 0];
    for surplus in [-2, -1, 1, 1_000] {
        let root = Kv::new(Defective { inner: Tiny::new(FULL), refuses: false, surplus });
        for kv in [root.clone(), root.namespace(["app"]).unwrap()] {
            let is_defect = |results: Vec<Option<Error>>| {
                let kinds: Vec<_> = results.iter().map(|error| error.as_ref().map(Error::kind)).collect();
                let expected = [ErrorKind::Defect, ErrorKind::Invalid, ErrorKind::Defect].map(Some);
                assert_eq!(kinds, expected, "{surplus}");
                assert_eq!(results[2].as_ref().unwrap().key(), Some(&Key::new(["b"]).unwrap()));
            };
            let keys = [&["a"][..], &empty[..], &["b"][..]];
            is_defect(kv.get_many::<u8>(keys).await.into_iter().map(Result::err).collect());
            is_defect(kv.set_many(keys.map(|key| (key, 1))).await.into_iter().map(Result::err).collect());
            is_defect(kv.delete_many(keys).await.into_iter().map(Result::err).collect());
        }
    }
}

#[tokio::test]
async fn an_error_of_a_verification_carries_the_operation() {
    let scheme = Scheme::new("broken", "broken:", |_| Box::pin(async { Err(Error::denied("no")) }))
        .with_verify(|_, _| Box::pin(async { Err(Error::denied("no")) }));
    let registry = Registry::new().with(scheme);
    let error = registry.verify("broken:", Box::new(|_, _| Ok(()))).await.unwrap_err();
    assert_eq!((error.operation(), error.backend()), (Some(Operation::Verify), Some("broken")));
    assert_eq!(error.to_string(), "verify on broken: denied: no");
    let error = registry.open("broken:").await.unwrap_err();
    assert_eq!(error.operation(), Some(Operation::Open));
}
