//! Single values and batches through the handle.

mod support;

use std::time::Duration;

use kv_core::{Capability, Codec, Error, ErrorKind, Expires, Expiry, Key, Kv, Limits, SetOutcome, When};
use serde::{Deserialize, Serialize, Serializer};
use support::{BY_VALUE, CORE, FULL, Tiny};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

/// A value that no codec can encode.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

fn too_long() -> [String; 1] {
    ["x".repeat(3_000)]
}

#[tokio::test]
async fn a_read_and_a_write_each_make_one_call_to_the_store() {
    let store = Tiny::new(CORE);
    let kv = store.kv().namespace(["app"]).unwrap();
    kv.set(["users", "1"], &User { name: "ada".into() }).ttl(Duration::from_secs(5)).await.unwrap();
    assert_eq!(store.calls(), ["set"]);
    assert_eq!(kv.get::<User>(["users", "1"]).await.unwrap(), Some(User { name: "ada".into() }));
    assert_eq!(store.calls(), ["get"]);
    assert_eq!(kv.get_bytes(("users", "1")).await.unwrap().unwrap(), r#"{"name":"ada"}"#);
    assert_eq!(store.calls(), ["get"]);
    assert!(kv.delete(["users", "1"]).await.unwrap());
    assert!(!kv.delete(["users", "1"]).await.unwrap());
    assert_eq!(store.calls(), ["delete", "delete"]);
}

#[tokio::test]
async fn a_stored_null_is_not_an_absent_key() {
    let kv = Tiny::new(CORE).kv();
    kv.set(["null"], &None::<u8>).await.unwrap();
    assert_eq!(kv.get::<Option<u8>>(["null"]).await.unwrap(), Some(None));
    assert_eq!(kv.get::<Option<u8>>(["absent"]).await.unwrap(), None);
    let error = kv.get::<u8>(["null"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.key(), Some(&Key::new(["null"]).unwrap()));
    assert!(kv.contains(["null"]).await.unwrap());
    assert_eq!(kv.get_many::<Option<u8>>([["null"], ["absent"]]).await.all().unwrap(), [Some(None), None]);
}

#[tokio::test]
async fn awaiting_a_call_with_an_invalid_key_or_value_fails_and_sends_nothing() {
    let store = Tiny::new(FULL).with_limits(Limits::DEFAULT.with_max_value_bytes(8));
    let kv = store.kv();
    kv.set(["k"], "old").await.unwrap();
    store.calls();

    let mut errors: Vec<Error> = vec![
        kv.set(too_long(), "new").await.unwrap_err(),
        kv.set(too_long(), "new").if_absent().await.unwrap_err(),
        kv.set(["k"], &Unwritable).await.unwrap_err(),
        kv.set(["k"], "new").if_value(&Unwritable).await.unwrap_err(),
        kv.set(["k"], "much too long").await.unwrap_err(),
        kv.set_bytes(Vec::<String>::new(), "new").await.unwrap_err(),
        kv.set(["k"], "new").ttl_text("5 lightyears").unwrap_err(),
        kv.delete(too_long()).await.unwrap_err(),
        kv.get::<u8>(too_long()).await.unwrap_err(),
        kv.take::<u8>(too_long()).await.unwrap_err(),
        kv.persist(too_long()).await.unwrap_err(),
        kv.clear(too_long()).await.unwrap_err(),
        kv.update(too_long(), |old: Option<u8>| old).await.unwrap_err(),
        kv.compare_and_swap(too_long(), None, Some(&1)).await.unwrap_err(),
        kv.transaction().set(["k"], "new").check_absent(too_long()).delete(["k"]).commit().await.unwrap_err(),
        kv.transaction().set(["k"], &Unwritable).commit().await.unwrap_err(),
        kv.keys(too_long()).all().await.unwrap_err(),
        kv.watch(too_long()).await.err().unwrap(),
        kv.lock(too_long(), Duration::from_secs(1)).await.unwrap_err(),
    ];
    errors.extend(kv.get_or_insert_with(too_long(), async || Ok::<u8, Error>(1)).await.err());
    assert_eq!(errors.len(), 20);
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(store.calls(), [] as [&str; 0]);
    assert_eq!(kv.get::<String>(["k"]).await.unwrap().as_deref(), Some("old"));
}

#[tokio::test]
async fn an_error_of_the_store_has_the_key_that_the_caller_passed() {
    let kv = Tiny::new(CORE).kv().namespace(["app"]).unwrap();
    let error = kv.set(["k"], "v").if_absent().await.unwrap_err();
    assert_eq!(error.capability(), Some(Capability::Conditions));
    assert_eq!(error.key().unwrap().as_str(), "k");
}

#[tokio::test]
async fn a_conditional_write_returns_the_outcome_of_its_condition() {
    let kv = Tiny::new(FULL).kv();
    let first = kv.set(["k"], "a").await.unwrap().unwrap();
    assert!(!kv.set(["k"], "b").if_absent().await.unwrap().is_stored());
    let outcome = kv.set(["k"], "b").if_version(first).with_previous().await.unwrap();
    let SetOutcome::Stored { version, previous } = outcome else { panic!("{outcome:?}") };
    assert_ne!(version, Some(first));
    assert_eq!(previous.unwrap().value, r#""a""#);
    let SetOutcome::Refused { current } = kv.set(["k"], "c").if_version(first).await.unwrap() else { panic!() };
    assert_eq!(current.unwrap().value, r#""b""#);
    assert!(kv.set(["k"], "c").if_value("b").await.unwrap().is_stored());
    assert!(kv.set(["k"], "d").if_bytes(r#""c""#).await.unwrap().is_stored());
    assert!(!kv.set(["other"], "d").if_present().await.unwrap().is_stored());
    assert!(!kv.delete(["k"]).if_version(first).await.unwrap().is_deleted());
    assert!(kv.delete(["k"]).if_value("d").await.unwrap().is_deleted());
    assert!(!kv.contains(["k"]).await.unwrap());
}

#[tokio::test]
async fn the_expiry_of_an_entry_comes_from_the_write_or_from_the_handle() {
    let store = Tiny::new(FULL);
    let (clock, minute) = (store.clock(), Duration::from_secs(60));
    let kv = store.kv().with_default_expiry(Expiry::After(minute));
    let left = async |key: &str| {
        use kv_core::Clock;
        kv.get_entry([key]).await.unwrap().unwrap().expires.remaining(clock.now())
    };
    kv.set(["default"], "").await.unwrap();
    kv.set(["explicit"], "").ttl_text("1h").unwrap().await.unwrap();
    kv.set(["forever"], "").forever().await.unwrap();
    kv.set_many([(["many"], "")]).await.all().unwrap();
    assert_eq!(left("default").await, Some(minute));
    assert_eq!(left("many").await, Some(minute));
    assert_eq!(left("explicit").await, Some(minute * 60));
    assert_eq!(left("forever").await, None);

    clock.advance(minute / 2);
    kv.set(["explicit"], "again").keep_ttl().await.unwrap();
    assert_eq!(left("explicit").await, Some(minute / 2 * 119));
    assert!(kv.expire_after(["forever"], minute).await.unwrap());
    assert_eq!(left("forever").await, Some(minute));
    assert!(kv.persist(["default"]).await.unwrap());
    assert_eq!(left("default").await, None);
    assert!(!kv.persist(["absent"]).await.unwrap());
    clock.advance(minute);
    assert!(!kv.contains(["forever"]).await.unwrap());
}

#[tokio::test]
async fn a_batch_has_results_in_input_order_and_each_key_fails_separately() {
    let store = Tiny::new(FULL);
    let kv = store.kv().namespace(["app"]).unwrap();
    let batch = kv.set_many([(vec!["a".into()], "1"), (too_long().into(), "2"), (vec!["b".to_owned()], "3")]).await;
    assert_eq!((batch.len(), batch.errors().count()), (3, 1));
    assert!(batch.all().is_err());
    store.calls();

    kv.set_bytes(["damaged"], "{").await.unwrap();
    store.calls();
    let answers = kv.get_many::<String>([["b"], ["none"], ["damaged"], ["a"], ["b"]]).await;
    assert_eq!(store.calls(), ["get_many"]);
    assert_eq!(answers.errors().next().unwrap().key().unwrap().as_str(), "damaged");
    let answers: Vec<_> = answers.into_iter().map(Result::ok).collect();
    let (one, three) = (Some(Some("1".to_owned())), Some(Some("3".to_owned())));
    assert_eq!(answers, [three.clone(), Some(None), None, one, three]);

    assert_eq!(kv.delete_many([["a"], ["none"]]).await.all().unwrap(), [true, false]);
    assert!(kv.get_many::<u8>([] as [[&str; 1]; 0]).await.is_empty());
}

#[tokio::test]
async fn exactly_one_caller_takes_a_value() {
    for capabilities in [FULL, BY_VALUE, CORE.with_previous(), FULL.with_list(kv_core::List::None)] {
        let kv = Tiny::new(capabilities).kv();
        for round in 0..20_u64 {
            kv.set(["token"], &round).await.unwrap();
            let takers: Vec<_> = (0..8)
                .map(|taker| {
                    let kv = kv.clone();
                    tokio::spawn(async move {
                        if taker % 2 == 0 {
                            kv.take::<u64>(["token"]).await.unwrap()
                        } else {
                            let bytes = kv.take_bytes(["token"]).await.unwrap();
                            bytes.map(|bytes| kv.decode(&bytes).unwrap())
                        }
                    })
                })
                .collect();
            let mut taken = Vec::new();
            for taker in takers {
                taken.extend(taker.await.unwrap());
            }
            assert_eq!(taken, [round], "{capabilities:?}");
        }
    }
}

#[tokio::test]
async fn a_value_that_does_not_decode_is_not_taken() {
    let kv = Tiny::new(FULL).kv();
    kv.set(["k"], "text").await.unwrap();
    assert_eq!(kv.take::<u8>(["k"]).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(kv.take::<String>(["k"]).await.unwrap().as_deref(), Some("text"));
}

#[tokio::test]
async fn taking_needs_conditions_or_previous_values() {
    let store = Tiny::new(CORE);
    let kv = store.kv();
    kv.set(["k"], "v").await.unwrap();
    assert_eq!(kv.take::<String>(["k"]).await.unwrap_err().capability(), Some(Capability::Previous));
    assert_eq!(kv.take_bytes(["k"]).await.unwrap_err().capability(), Some(Capability::Previous));
    assert!(kv.contains(["k"]).await.unwrap());
}

#[tokio::test]
async fn any_store_converts_to_a_handle_and_namespaces_nest() {
    fn framework(kv: impl Into<Kv>) -> Kv {
        kv.into()
    }
    let store = Tiny::new(FULL);
    let kv = framework(store.clone());
    let same: std::sync::Arc<dyn kv_core::KvStore> = std::sync::Arc::new(store);
    let (outer, again) = (framework(same).namespace(["app"]).unwrap(), framework(kv.clone()));
    let inner = outer.namespace(("eu", "west")).unwrap();
    inner.set(["k"], &1).await.unwrap();
    outer.set(["k"], &2).await.unwrap();
    assert_eq!(
        again.keys(()).all().await.unwrap().iter().map(Key::as_str).collect::<Vec<_>>(),
        ["app#k", "app$23eu$23west#k"]
    );
    assert_eq!(outer.clear(()).await.unwrap(), 1);
    assert_eq!(inner.get::<u8>(["k"]).await.unwrap(), Some(1));
}

#[tokio::test]
async fn missing_features_are_errors_of_the_store() {
    let kv = Tiny::new(FULL).kv().with_codec(Codec::Json);
    assert_eq!(kv.decode::<Vec<u8>>(&kv.encode(&[1, 2]).unwrap()).unwrap(), [1, 2]);
    // The error comes from the store, which has no transactions.
    let error = kv.transaction().check_absent(["a"]).set(["a"], "1").commit().await.unwrap_err();
    assert_eq!(error.capability(), Some(Capability::Transactions));
    assert!(When::Absent.holds(None));
    assert_eq!(kv.increment(["n"], 1).await.unwrap_err().capability(), Some(Capability::Counters));
    assert_eq!(kv.publish(["c"], "m").await.unwrap_err().capability(), Some(Capability::Messages));
    assert_eq!(kv.watch_key(["k"]).keys_only().await.err().unwrap().capability(), Some(Capability::Watch));
    let read = kv.get_entry(["k"]).await.unwrap().map_or(Expires::Never, |entry| entry.expires);
    assert_eq!(read, Expires::Never);
}
