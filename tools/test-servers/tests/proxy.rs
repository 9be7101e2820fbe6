//! Each failure mode of the proxy, in front of a real server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

use std::io::ErrorKind;
use std::time::Duration;

use test_servers::proxy::{Direction, Proxy};
use test_servers::redis::Redis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";
const TIMEOUT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(100);

fn start() -> (Redis, Proxy) {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(redis.address()).unwrap();
    (redis, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends `PING` and reads the response of seven bytes.
async fn ping(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    stream.write_all(PING).await?;
    let mut response = vec![0; PONG.len()];
    timeout(TIMEOUT, stream.read_exact(&mut response)).await??;
    Ok(response)
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    timeout(TIMEOUT, stream.read_to_end(&mut all)).await.unwrap().unwrap();
    all
}

#[tokio::test]
async fn the_proxy_forwards_and_counts_bytes() {
    let (_redis, proxy) = start();
    let (mut one, mut two) = (connect(&proxy).await, connect(&proxy).await);
    assert_eq!(ping(&mut one).await.unwrap(), PONG);
    assert_eq!(ping(&mut two).await.unwrap(), PONG);
    assert_eq!(proxy.bytes(Direction::ToServer), 12);
    assert_eq!(proxy.bytes(Direction::ToClient), 14);
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_response_can_be_cut_after_every_byte() {
    let (_redis, proxy) = start();
    for bytes in 0..=PONG.len() {
        let mut stream = connect(&proxy).await;
        assert_eq!(ping(&mut stream).await.unwrap(), PONG);
        proxy.cut_after(Direction::ToClient, bytes as u64);
        stream.write_all(PING).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, &PONG[..bytes]);
    }
}

#[tokio::test]
async fn a_request_can_be_cut_after_every_byte_and_takes_effect_only_if_complete() {
    let (redis, proxy) = start();
    let request = b"INCR n\r\n";
    for bytes in 0..=request.len() {
        redis.cli(&["SET", "n", "0"]).unwrap();
        proxy.cut_after(Direction::ToServer, bytes as u64);
        let before = proxy.bytes(Direction::ToServer);
        let mut stream = connect(&proxy).await;
        stream.write_all(request).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, b"");
        assert_eq!(proxy.bytes(Direction::ToServer) - before, bytes as u64);
        let complete = bytes == request.len();
        if complete {
            let done = async {
                while redis.cli(&["GET", "n"]).unwrap() != "1" {
                    tokio::task::yield_now().await;
                }
            };
            timeout(TIMEOUT, done).await.unwrap();
        }
        assert_eq!(redis.cli(&["GET", "n"]).unwrap(), if complete { "1" } else { "0" });
    }
}

#[tokio::test]
async fn a_cut_counts_bytes_over_all_connections_and_happens_once() {
    let (_redis, proxy) = start();
    let (mut one, mut two) = (connect(&proxy).await, connect(&proxy).await);
    proxy.cut_after(Direction::ToClient, 10);
    assert_eq!(ping(&mut one).await.unwrap(), PONG);
    two.write_all(PING).await.unwrap();
    assert_eq!(read_to_end(&mut two).await, &PONG[..3]);
    assert_eq!(ping(&mut one).await.unwrap(), PONG);
}

#[tokio::test]
async fn a_reset_reaches_the_client_as_a_reset() {
    let (_redis, proxy) = start();
    let mut stream = connect(&proxy).await;
    proxy.reset_after(Direction::ToServer, 0);
    stream.write_all(PING).await.unwrap();
    let error = timeout(TIMEOUT, stream.read(&mut [0; 10])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_that_lost_bytes_stays_silent_and_new_connections_pass() {
    let (_redis, proxy) = start();
    let (mut old, mut idle) = (connect(&proxy).await, connect(&proxy).await);
    assert_eq!(ping(&mut old).await.unwrap(), PONG);
    assert_eq!(ping(&mut idle).await.unwrap(), PONG);
    proxy.black_hole();
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        stream.write_all(PING).await.unwrap();
        assert!(timeout(SILENCE, stream.read(&mut [0; 10])).await.is_err());
    }
    proxy.pass();
    old.write_all(PING).await.unwrap();
    assert!(timeout(SILENCE, old.read(&mut [0; 10])).await.is_err());
    assert_eq!(ping(&mut idle).await.unwrap(), PONG);
    assert_eq!(ping(&mut connect(&proxy).await).await.unwrap(), PONG);
    proxy.close_all();
    assert_eq!(read_to_end(&mut old).await, b"");
}

#[tokio::test]
async fn refuse_takes_effect_at_once_and_pass_reopens_the_port() {
    let (_redis, proxy) = start();
    let mut old = connect(&proxy).await;
    assert_eq!(ping(&mut old).await.unwrap(), PONG);
    for _ in 0..3 {
        proxy.refuse();
        let error = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ping(&mut old).await.unwrap(), PONG);
        proxy.pass();
        assert_eq!(ping(&mut connect(&proxy).await).await.unwrap(), PONG);
    }
}

#[tokio::test]
async fn a_delay_applies_to_each_direction() {
    let (_redis, proxy) = start();
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(80));
    stream.write_all(PING).await.unwrap();
    let mut response = [0; PONG.len()];
    assert!(timeout(SILENCE, stream.read_exact(&mut response)).await.is_err());
    timeout(TIMEOUT, stream.read_exact(&mut response)).await.unwrap().unwrap();
    assert_eq!(response, PONG);
}

#[tokio::test]
async fn close_all_closes_connections_and_new_connections_pass() {
    let (_redis, proxy) = start();
    let mut streams = [connect(&proxy).await, connect(&proxy).await];
    for stream in &mut streams {
        assert_eq!(ping(stream).await.unwrap(), PONG);
    }
    proxy.close_all();
    for stream in &mut streams {
        assert_eq!(read_to_end(stream).await, b"");
    }
    assert_eq!(ping(&mut connect(&proxy).await).await.unwrap(), PONG);
}

#[tokio::test]
async fn a_killed_server_resets_the_client() {
    let (mut redis, proxy) = start();
    redis.kill().unwrap();
    let mut stream = connect(&proxy).await;
    assert!(timeout(TIMEOUT, stream.read(&mut [0; 10])).await.unwrap().is_err());
    redis.restart().unwrap();
    assert_eq!(ping(&mut connect(&proxy).await).await.unwrap(), PONG);
}

#[tokio::test]
async fn a_dropped_proxy_closes_connections_and_port() {
    let (_redis, proxy) = start();
    let mut stream = connect(&proxy).await;
    assert_eq!(ping(&mut stream).await.unwrap(), PONG);
    let address = proxy.address();
    drop(proxy);
    let ended = timeout(TIMEOUT, stream.read(&mut [0; 10])).await.unwrap();
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
