//! The same scripts on several stores come to the same answers, and where they do not the script is told.

mod support;

use conformance_tests::Suite;
use conformance_tests::faulty::Fault;
use kv_memory::{CAPABILITIES, MemoryStore};

fn memory() -> Suite {
    Suite::new("memory", CAPABILITIES, |fresh| async move { MemoryStore::builder().clock(fresh.clock()).build() })
        .with_clock()
}

fn broken(id: &str) -> Suite {
    let Some(fault) = Fault::all().find(|fault| fault.id == id) else { panic!("there is no fault {id}") };
    support::suite("broken", |good, clock| fault.wrap(good, clock))
}

#[tokio::test(flavor = "multi_thread")]
async fn good_stores_answer_alike() {
    let suites = [memory().with_seed(7), support::suite("shelf", |good, _| good), memory()];
    Suite::compare(&suites).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_told_as_code() {
    let suites = [memory().with_seed(7), broken("expiry/overwrite_stays_mortal")];
    let failure = Suite::compare(&suites).await.unwrap_err();
    let text = failure.message();
    assert!(text.starts_with("memory and broken part at step "), "{text}");
    assert!(text.contains("async fn it_keeps_the_contract()") && text.contains("store.set("), "{text}");
    assert!(text.ends_with("seed 7"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_is_made_short() {
    let report = broken("counters/wrap_around").with_seed(7).run_named(&["random/counters"]).await;
    let text = report.to_string();
    let steps = text.lines().filter(|line| line.contains("store.") || line.contains("clock.advance")).count();
    assert!(!report.is_green() && text.contains("clause C-1"), "{text}");
    // At most two that come close to the end, and the one that goes over it.
    assert!((1..=3).contains(&steps), "{steps} steps:\n{text}");
}
