//! The kinds of errors when a connection cannot be made.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use kv_core::{Error, ErrorKind};
use kv_redis::RedisStore;
use test_servers::redis::Redis;

mod support;
use support::at;

async fn refused(url: &str) -> Error {
    let url = format!("{url}{}connect_timeout=2s", if url.contains('?') { '&' } else { '?' });
    RedisStore::open(&url).await.unwrap_err()
}

/// Returns the options `ca`, `cert` and `key` of a URL: the certificate authority of one server, and the certificate
/// and key of another server.
fn options(authority: &Redis, own: &Redis) -> String {
    let file = |name: &str| own.ca_certificate().with_file_name(name);
    let text = |path: &Path| path.display().to_string();
    let (ca, cert, key) = (authority.ca_certificate(), file("server.pem"), file("server.key"));
    format!("?ca={}&cert={}&key={}", text(ca), text(&cert), text(&key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_a_server_with_as_many_connections_as_it_allows_fails_with_capacity() {
    let server = Redis::start().unwrap();
    server.cli(&["CONFIG", "SET", "maxclients", "1"]).unwrap();
    let mut first = None;
    support::eventually(|| async { at(&server.url()).open().await.is_ok() }).await;
    for _ in 0..50 {
        match at(&server.url()).open().await {
            Ok(store) => first = Some(store),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Capacity, "{error} {error:?}"),
        }
    }
    assert!(first.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_the_other_side_does_not_accept_is_denied() {
    let server = Redis::builder().tls().setting("tls-auth-clients", "yes").start().unwrap();
    let other = Redis::builder().tls().start().unwrap();
    let store = RedisStore::open(&format!("{}{}", server.tls_url(), options(&server, &server))).await;
    drop(store.unwrap());
    let ca = server.ca_certificate().display();
    let cases = [
        ("wrong authority", format!("{}{}", server.tls_url(), options(&other, &server))),
        ("wrong client certificate", format!("{}{}", server.tls_url(), options(&server, &other))),
        ("no client certificate", format!("{}?ca={ca}", server.tls_url())),
    ];
    for (name, url) in cases {
        let error = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error} {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheme_that_does_not_fit_the_port_is_invalid() {
    let server = Redis::builder().tls().start().unwrap();
    let error = refused(&format!("redis://{}", server.tls_address())).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error} {error:?}");
    assert!(error.message().contains("`rediss:`"), "{error}");
    let error = refused(&format!("rediss://{}", server.address())).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error} {error:?}");
    assert!(error.message().contains("TLS"), "{error}");
}
