//! The proxy's ways to fail, each in front of a real server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

use std::io::ErrorKind;
use std::time::Duration;

use test_servers::proxy::{Direction, Proxy};
use test_servers::redis::Redis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

fn started() -> (Redis, Proxy) {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(redis.address()).unwrap();
    (redis, proxy)
}

async fn connected(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Asks and reads an answer of seven bytes.
async fn ping(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    stream.write_all(PING).await?;
    let mut answer = vec![0; PONG.len()];
    timeout(LONG, stream.read_exact(&mut answer)).await??;
    Ok(answer)
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    timeout(LONG, stream.read_to_end(&mut all)).await.unwrap().unwrap();
    all
}

#[tokio::test]
async fn it_passes_and_counts() {
    let (_redis, proxy) = started();
    let (mut one, mut two) = (connected(&proxy).await, connected(&proxy).await);
    assert_eq!(ping(&mut one).await.unwrap(), PONG);
    assert_eq!(ping(&mut two).await.unwrap(), PONG);
    assert_eq!(proxy.bytes(Direction::ToServer), 12);
    assert_eq!(proxy.bytes(Direction::ToClient), 14);
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn an_answer_is_cut_after_every_byte() {
    let (_redis, proxy) = started();
    for bytes in 0..=PONG.len() {
        let mut stream = connected(&proxy).await;
        assert_eq!(ping(&mut stream).await.unwrap(), PONG);
        proxy.cut_after(Direction::ToClient, bytes as u64);
        stream.write_all(PING).await.unwrap();
        assert_eq!(rest(&mut stream).await, &PONG[..bytes]);
    }
}

#[tokio::test]
async fn a_request_is_cut_after_every_byte_and_done_only_when_whole() {
    let (redis, proxy) = started();
    let request = b"INCR n\r\n";
    for bytes in 0..=request.len() {
        redis.cli(&["SET", "n", "0"]).unwrap();
        proxy.cut_after(Direction::ToServer, bytes as u64);
        let before = proxy.bytes(Direction::ToServer);
        let mut stream = connected(&proxy).await;
        stream.write_all(request).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
        assert_eq!(proxy.bytes(Direction::ToServer) - before, bytes as u64);
        let whole = bytes == request.len();
        if whole {
            let done = async {
                while redis.cli(&["GET", "n"]).unwrap() != "1" {
                    tokio::task::yield_now().await;
                }
            };
            timeout(LONG, done).await.unwrap();
        }
        assert_eq!(redis.cli(&["GET", "n"]).unwrap(), if whole { "1" } else { "0" });
    }
}

#[tokio::test]
async fn a_cut_is_counted_over_connections_and_comes_once() {
    let (_redis, proxy) = started();
    let (mut one, mut two) = (connected(&proxy).await, connected(&proxy).await);
    proxy.cut_after(Direction::ToClient, 10);
    assert_eq!(ping(&mut one).await.unwrap(), PONG);
    two.write_all(PING).await.unwrap();
    assert_eq!(rest(&mut two).await, &PONG[..3]);
    assert_eq!(ping(&mut one).await.unwrap(), PONG);
}

#[tokio::test]
async fn a_reset_is_seen_as_one() {
    let (_redis, proxy) = started();
    let mut stream = connected(&proxy).await;
    proxy.reset_after(Direction::ToServer, 0);
    stream.write_all(PING).await.unwrap();
    let error = timeout(LONG, stream.read(&mut [0; 10])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_black_hole_keeps_what_it_took_and_new_connections_pass_later() {
    let (_redis, proxy) = started();
    let (mut old, mut idle) = (connected(&proxy).await, connected(&proxy).await);
    assert_eq!(ping(&mut old).await.unwrap(), PONG);
    assert_eq!(ping(&mut idle).await.unwrap(), PONG);
    proxy.black_hole();
    let mut new = connected(&proxy).await;
    for stream in [&mut old, &mut new] {
        stream.write_all(PING).await.unwrap();
        assert!(timeout(SHORT, stream.read(&mut [0; 10])).await.is_err());
    }
    proxy.pass();
    old.write_all(PING).await.unwrap();
    assert!(timeout(SHORT, old.read(&mut [0; 10])).await.is_err());
    assert_eq!(ping(&mut idle).await.unwrap(), PONG);
    assert_eq!(ping(&mut connected(&proxy).await).await.unwrap(), PONG);
    proxy.close_all();
    assert_eq!(rest(&mut old).await, b"");
}

#[tokio::test]
async fn refused_is_refused_at_once_and_its_port_comes_back() {
    let (_redis, proxy) = started();
    let mut old = connected(&proxy).await;
    assert_eq!(ping(&mut old).await.unwrap(), PONG);
    for _ in 0..3 {
        proxy.refuse();
        let error = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ping(&mut old).await.unwrap(), PONG);
        proxy.pass();
        assert_eq!(ping(&mut connected(&proxy).await).await.unwrap(), PONG);
    }
}

#[tokio::test]
async fn a_delay_holds_each_direction() {
    let (_redis, proxy) = started();
    let mut stream = connected(&proxy).await;
    proxy.delay(Duration::from_millis(80));
    stream.write_all(PING).await.unwrap();
    let mut answer = [0; PONG.len()];
    assert!(timeout(SHORT, stream.read_exact(&mut answer)).await.is_err());
    timeout(LONG, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, PONG);
}

#[tokio::test]
async fn all_connections_are_closed_and_new_ones_pass() {
    let (_redis, proxy) = started();
    let mut streams = [connected(&proxy).await, connected(&proxy).await];
    for stream in &mut streams {
        assert_eq!(ping(stream).await.unwrap(), PONG);
    }
    proxy.close_all();
    for stream in &mut streams {
        assert_eq!(rest(stream).await, b"");
    }
    assert_eq!(ping(&mut connected(&proxy).await).await.unwrap(), PONG);
}

#[tokio::test]
async fn a_server_that_is_gone_resets_the_client() {
    let (mut redis, proxy) = started();
    redis.kill().unwrap();
    let mut stream = connected(&proxy).await;
    assert!(timeout(LONG, stream.read(&mut [0; 10])).await.unwrap().is_err());
    redis.restart().unwrap();
    assert_eq!(ping(&mut connected(&proxy).await).await.unwrap(), PONG);
}

#[tokio::test]
async fn a_dropped_proxy_closes_everything() {
    let (_redis, proxy) = started();
    let mut stream = connected(&proxy).await;
    assert_eq!(ping(&mut stream).await.unwrap(), PONG);
    let address = proxy.address();
    drop(proxy);
    let ended = timeout(LONG, stream.read(&mut [0; 10])).await.unwrap();
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
