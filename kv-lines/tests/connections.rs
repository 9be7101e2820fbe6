//! Servers that stop, restart, send malformed responses, or do not respond.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Clock, ErrorKind, GapReason, IncrementOptions, Key, KeyPrefix, Kv, KvStore, SetOptions, SystemClock, WatchEvent,
    WatchQuery,
};
use kv_lines::{LinesBuilder, LinesStore, Listener, ServeConfig, Token};
use kv_memory::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const TIMEOUT: Duration = Duration::from_millis(300);

fn key() -> Key {
    Key::new(["k"]).unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves the store on a separate runtime. Shutting the runtime down breaks every connection.
fn serve(store: &MemoryStore, listener: TcpListener) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = listener.into_std().unwrap();
    let kv = Kv::new(store.clone());
    runtime.spawn(async move {
        let listener = Listener::tcp(TcpListener::from_std(listener).unwrap(), token()).unwrap();
        kv_lines::listen(&kv, listener, &ServeConfig::default()).await
    });
    runtime
}

fn token() -> Token {
    "the token of this test".replace(' ', "-").parse().unwrap()
}

async fn open(address: SocketAddr) -> LinesStore {
    LinesBuilder::new(address).token(token()).operation_timeout(TIMEOUT).open().await.unwrap()
}

#[tokio::test]
async fn a_handle_reconnects_to_a_restarted_server() {
    let inner = MemoryStore::new();
    let (first, address) = listener().await;
    let serving = serve(&inner, first);
    let store = open(address).await;
    let mut events = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    assert!(store.set(&key(), "v".into(), &SetOptions::default()).await.unwrap().is_stored());
    assert!(matches!(events.next().await.unwrap().unwrap(), WatchEvent::Set { .. }));

    serving.shutdown_background();
    let error = loop {
        // The server may still respond to calls that run during the shutdown.
        if let Err(error) = store.get(&key()).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.key(), Some(&key()));

    let rebound = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => SystemClock.sleep(Duration::from_millis(20)).await,
        }
    };
    let serving = serve(&inner, rebound);
    assert_eq!(store.get(&key()).await.unwrap().unwrap().value, "v");
    let gap = events.next().await.unwrap().unwrap();
    assert_eq!(gap, WatchEvent::Gap { reason: GapReason::Reconnected });
    assert!(store.set(&key(), "w".into(), &SetOptions::default()).await.unwrap().is_stored());
    assert!(matches!(events.next().await.unwrap().unwrap(), WatchEvent::Set { .. }));
    serving.shutdown_background();
}

/// Serves the first connection correctly. On each later connection, sends the result of `hello`, and then responds to
/// the first request with the bytes of `response`, which may be empty.
fn hostile(listener: TcpListener, response: &'static [u8], then_close: bool) -> JoinHandle<()> {
    tokio::spawn(async move {
        let kv = Kv::new(MemoryStore::new());
        let mut is_first = true;
        let mut held = Vec::new();
        loop {
            let (mut peer, _) = listener.accept().await.unwrap();
            if std::mem::take(&mut is_first) {
                let kv = kv.clone();
                let (input, output) = peer.into_split();
                tokio::spawn(async move { kv_lines::session(&kv, input, output).await });
                continue;
            }
            let mut request = [0; 4_096];
            assert!(peer.read(&mut request).await.unwrap() > 0);
            peer.write_all(b"{\"id\":0,\"result\":{\"version\":1}}\n").await.unwrap();
            assert!(peer.read(&mut request).await.unwrap() > 0);
            peer.write_all(response).await.unwrap();
            if !then_close {
                held.push(peer);
            }
        }
    })
}

#[tokio::test]
async fn without_a_response_a_write_is_indeterminate_and_a_read_is_unavailable() {
    for (response, then_close) in [(&b""[..], true), (b"", false), (b"{\"id\":1,\"resu", true), (b"{\"id\":1,", false)]
    {
        let (listener, address) = listener().await;
        let serving = hostile(listener, response, then_close);
        let store = open(address).await;
        let written = store.increment(&key(), 1, &IncrementOptions::default()).await.unwrap_err();
        assert!(written.maybe_applied(), "{response:?}: {written}");
        let read = store.get(&key()).await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Unavailable, "{response:?}: {read}");
        serving.abort();
    }
}

#[tokio::test]
async fn a_malformed_response_is_corrupt_and_its_bytes_are_not_in_the_error() {
    for response in [&b"canary\n"[..], b"\xff\xfe\n", b"{\"result\":{\"canary\":1}}\n", b"[]\n", b"\n"] {
        let (listener, address) = listener().await;
        let serving = hostile(listener, response, false);
        let store = open(address).await;
        let read = store.get(&key()).await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Corrupt, "{response:?}: {read}");
        assert!(!format!("{read:#?}").contains("canary"), "{read:#?}");
        let written = store.set(&key(), "v".into(), &SetOptions::default()).await.unwrap_err();
        assert!(written.maybe_applied(), "{response:?}: {written}");
        serving.abort();
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_the_handle_usable() {
    let (listener, address) = listener().await;
    let serving = serve(&MemoryStore::new(), listener);
    let store = open(address).await;
    for polls in 0..200 {
        let value = polls.to_string();
        let (dropped, plain) = (key(), SetOptions::default());
        let mut call = Box::pin(store.set(&dropped, value.clone().into(), &plain));
        for _ in 0..polls % 5 {
            if futures_util::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        assert!(store.set(&key(), "after".into(), &SetOptions::default()).await.unwrap().is_stored());
        let found = store.get(&key()).await.unwrap().unwrap().value;
        assert!(found == "after" || found == value, "{found:?}");
    }
    serving.shutdown_background();
}
