//! A good store with bounded reads passes the suite, and a good store whose sinks are called over a link does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use conformance_tests::Suite;
use conformance_tests::faulty::near_tier;

async fn passes(suite: Suite) {
    let report = suite.with_cases_at_once(4).with_time_limit(Duration::from_secs(300)).run("").await;
    assert!(report.is_green(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_near_tier_with_bounded_reads_passes() {
    passes(support::suite("near", near_tier)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_over_a_link_pass() {
    passes(support::suite_with_heartbeats("heartbeats", |good, _| good)).await;
}
