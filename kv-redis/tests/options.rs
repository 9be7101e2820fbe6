//! Options that do not apply to the scheme or the format are refused before anything is sent.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kv_core::ErrorKind;
use kv_redis::{Format, RedisStore, redis};

/// URLs, each with the name of the option that is refused. No server listens on port 9, so if an option were accepted,
/// opening would fail with `Unavailable` instead.
const REFUSED: [(&str, &str); 17] = [
    ("redis://127.0.0.1:9?tls=true", "tls"),
    ("redis://127.0.0.1:9?tls=false", "tls"),
    ("redis://127.0.0.1:9?ca=/nowhere", "ca"),
    ("redis://127.0.0.1:9?cert=/nowhere", "cert"),
    ("redis://127.0.0.1:9?key=/nowhere", "key"),
    ("rediss://127.0.0.1:9?tls=false", "tls"),
    ("rediss://127.0.0.1:9?key=/nowhere", "key"),
    ("redis+unix:///nowhere?tls=true", "tls"),
    ("redis+unix:///nowhere?ca=/nowhere", "ca"),
    ("redis+unix:///nowhere?nodelay=true", "nodelay"),
    ("redis-cluster://127.0.0.1:9?ca=/nowhere", "ca"),
    ("redis-cluster://127.0.0.1:9?tls=false&cert=/nowhere", "cert"),
    ("redis-cluster://127.0.0.1:9?db=0", "db"),
    ("redis://127.0.0.1:9?format=plain&buckets=4", "buckets"),
    ("redis://127.0.0.1:9?format=plain&group_segments=2", "group_segments"),
    ("redis://127.0.0.1:9?format=plain&sweep_interval=1s", "sweep_interval"),
    ("redis://127.0.0.1:9?index=none&sweep_interval=1s", "sweep_interval"),
];

#[tokio::test]
async fn an_option_that_does_not_apply_is_refused_and_the_error_names_the_option() {
    for (url, option) in REFUSED {
        let error = RedisStore::open(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}: {error}");
        assert!(error.message().contains(&format!("`{option}`")), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_setting_of_the_builder_that_does_not_apply_to_the_address_is_refused() {
    let client = redis::Client::open("redis://127.0.0.1:9").unwrap();
    let single = || RedisStore::builder().client(&client);
    let cases = [
        (single().ca("/nowhere"), "ca"),
        (single().format(Format::Plain).buckets(4), "buckets"),
        (single().format(Format::Plain).group_segments(3), "group_segments"),
    ];
    for (builder, option) in cases {
        let error = builder.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{option}: {error}");
        assert!(error.message().contains(&format!("`{option}`")), "{error}");
    }
}

/// URLs whose address and options contradict each other, each with the name of the option that is refused.
const CONTRADICTIONS: [(&str, &str); 7] = [
    ("redis://127.0.0.1:9/3?db=5", "db"),
    ("redis://127.0.0.1:9/0?db=5", "db"),
    ("rediss://127.0.0.1:9/3?db=0", "db"),
    ("redis://ada:s3cret@127.0.0.1:9?user=eve", "user"),
    ("redis://ada:s3cret@127.0.0.1:9?user=ada&pass=canary", "pass"),
    ("redis://:s3cret@127.0.0.1:9?pass=canary", "pass"),
    ("redis-cluster://ada:s3cret@127.0.0.1:9?user=eve", "user"),
];

#[tokio::test]
async fn an_option_that_contradicts_the_address_is_refused_by_name() {
    for (url, option) in CONTRADICTIONS {
        let error = RedisStore::open(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}: {error}");
        assert!(error.message().contains(&format!("`{option}`")), "{url}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("canary"), "{shown}");
    }
    // No server listens on this port.
    for url in ["redis://127.0.0.1:9/3?db=3", "redis://ada:s%33cret@127.0.0.1:9/?user=ada&pass=s3cret&db=2"] {
        let error = RedisStore::open(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
    }
}
