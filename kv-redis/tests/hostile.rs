//! Servers that send more bytes or values than a reply to any command of the store can have.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, ErrorKind, KvStore, ListQuery, SystemClock};
use kv_redis::RedisStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

mod support;
use support::{at, fake, key};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a store on a server that replies with these bytes to a `GET` of the entry `k`, and to `ZRANGE`.
async fn open(bytes: Vec<u8>) -> RedisStore {
    let reply = move |words: &[String]| match words[0].as_str() {
        "get" if words[1].ends_with("}k") => bytes.clone(),
        "zrange" => bytes.clone(),
        _ => Vec::new(),
    };
    let hour = Duration::from_secs(3_600);
    let builder = at(&fake::start(reply).await).operation_timeout(TIMEOUT).heartbeat(hour).sweep_interval(hour);
    builder.open().await.unwrap()
}

/// Checks that a connection ends at once if the server replies with these bytes.
async fn assert_connection_ends(bytes: &[u8]) {
    let store = open(bytes.to_vec()).await;
    let start = Instant::now();
    let error = store.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = store.list(&ListQuery::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(start.elapsed() < TIMEOUT / 2, "{:?}", start.elapsed());
    // The next call makes a new connection, and succeeds.
    assert_eq!(store.get(&key("other")).await.unwrap(), None);
}

#[tokio::test]
async fn a_reply_that_announces_one_gibibyte_ends_the_connection_at_once() {
    assert_connection_ends(&[b"$1073741824\r\n".as_slice(), &b"x".repeat(1 << 20)].concat()).await;
}

#[tokio::test]
async fn a_reply_that_announces_a_billion_values_ends_the_connection_at_once() {
    assert_connection_ends(b"*1000000000\r\n_\r\n").await;
    assert_connection_ends(b"%1000000000\r\n_\r\n").await;
    assert_connection_ends(b">1000000000\r\n_\r\n").await;
}

#[tokio::test]
async fn an_endless_line_ends_the_connection_at_once() {
    assert_connection_ends(&[b"+".as_slice(), &b"x".repeat(4 << 20)].concat()).await;
    assert_connection_ends(&[b"-".as_slice(), &b"x".repeat(4 << 20)].concat()).await;
}

/// Serves one connection, and replies to a `GET` of the entry `k` with a reply that never ends. Adds a permit to
/// `closed` when the client closes the connection.
async fn serve_endless(mut connection: TcpStream, closed: Arc<Semaphore>) -> std::io::Result<()> {
    let mut received = Vec::new();
    loop {
        while let Some((words, length)) = fake::command(&received) {
            received.drain(..length);
            if words[0] == "get" && words[1].ends_with("}k") {
                connection.write_all(b"*1000000\r\n").await?;
                while connection.write_all(b"$3\r\nabc\r\n").await.is_ok() {
                    SystemClock.sleep(Duration::from_millis(5)).await;
                }
                closed.add_permits(1);
                return Ok(());
            }
            connection.write_all(&fake::default_reply(&words)).await?;
        }
        if connection.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_connection_whose_reply_never_ends_is_closed_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let closed = Arc::new(Semaphore::new(0));
    let on_close = Arc::clone(&closed);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve_endless(connection, Arc::clone(&on_close)));
        }
    });
    let (deadline, hour) = (Duration::from_millis(500), Duration::from_secs(3_600));
    let store = at(&url).operation_timeout(deadline).heartbeat(hour).sweep_interval(hour).open().await.unwrap();
    let start = Instant::now();
    let error = store.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(start.elapsed() < 3 * deadline, "{:?}", start.elapsed());
    timeout(TIMEOUT, closed.acquire()).await.unwrap().unwrap().forget();
    assert_eq!(store.get(&key("other")).await.unwrap(), None);
}
