//! Stores that answer the same scripts differently fail the comparison, and the failure shows the script as Rust code.

mod support;

use conformance_tests::Suite;
use conformance_tests::faulty::Fault;
use kv_memory::{CAPABILITIES, MemoryStore};

fn memory() -> Suite {
    Suite::new("memory", CAPABILITIES, |fresh| async move { MemoryStore::builder().clock(fresh.clock()).build() })
        .with_clock()
}

fn broken(id: &str) -> Suite {
    let Some(fault) = Fault::all().find(|fault| fault.id == id) else { panic!("there is no broken store {id}") };
    support::suite("broken", |good, clock| fault.wrap(good, clock))
}

#[tokio::test(flavor = "multi_thread")]
async fn good_stores_give_the_same_answers() {
    let suites = [memory().with_seed(7), support::suite("bare", |good, _| good), memory()];
    Suite::compare(&suites).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_shown_as_code() {
    let suites = [memory().with_seed(7), broken("expiry/set_without_ttl_keeps_the_deadline")];
    let failure = Suite::compare(&suites).await.unwrap_err();
    let text = failure.message();
    assert!(text.starts_with("memory and broken answer differently at step "), "{text}");
    assert!(text.contains("async fn it_keeps_the_contract()") && text.contains("store.set("), "{text}");
    assert!(text.ends_with("seed 7"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_is_shortened() {
    let report = broken("counters/wrap_around").with_seed(7).run_named(&["random/counters"]).await;
    let text = report.to_string();
    let steps = text.lines().filter(|line| line.contains("store.") || line.contains("clock.advance")).count();
    assert!(!report.is_green() && text.contains("clause C-1"), "{text}");
    // The shortened script has at most two steps that bring the counter near the end of the range, and the step that
    // overflows.
    assert!((1..=3).contains(&steps), "{steps} steps:\n{text}");
}
