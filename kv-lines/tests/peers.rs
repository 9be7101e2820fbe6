//! Peers that are not clients, and peers that need much memory. The server limits them and continues to serve others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::net::SocketAddr;
use std::time::Duration;

use kv_core::{Clock, ErrorKind, Key, Kv, KvStore, SetOptions, SystemClock};
use kv_lines::{LinesBuilder, LinesStore, Listener, ServeConfig, Token};
use kv_memory::MemoryStore;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn token() -> Token {
    "a-token-of-this-test".parse().unwrap()
}

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

/// Serves a memory store on the runtime of the test. The value of the key `big` is 16 MiB of the byte 0x01.
async fn serve(config: ServeConfig) -> (MemoryStore, SocketAddr) {
    let store = MemoryStore::new();
    let big = vec![1; 16 << 20].into();
    assert!(store.set(&key("big"), big, &SetOptions::default()).await.unwrap().is_stored());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kv = Kv::new(store.clone());
    tokio::spawn(async move {
        kv_lines::listen(&kv, Listener::tcp(listener, token()).unwrap(), &config).await.unwrap();
    });
    (store, address)
}

/// Connects and sends these bytes.
async fn peer(address: SocketAddr, bytes: &[u8]) -> BufReader<TcpStream> {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    BufReader::new(connection)
}

/// Connects, sends a correct first line, and then sends these lines.
async fn client(address: SocketAddr, lines: &str) -> BufReader<TcpStream> {
    let hello = format!("{{\"op\":\"hello\",\"version\":1,\"token\":\"{}\"}}\n", token().reveal());
    let mut peer = peer(address, format!("{hello}{lines}").as_bytes()).await;
    let mut welcome = String::new();
    peer.read_line(&mut welcome).await.unwrap();
    assert_eq!(welcome, "{\"id\":null,\"result\":{\"version\":1}}\n");
    peer
}

async fn open(address: SocketAddr) -> LinesStore {
    LinesBuilder::new(address).token(token()).open().await.unwrap()
}

/// Asserts that a new client is served in less than two seconds.
async fn assert_others_are_served(address: SocketAddr) {
    let served = async {
        let store = open(address).await;
        assert!(store.set(&key("small"), "v".into(), &SetOptions::default()).await.unwrap().is_stored());
        assert_eq!(store.get(&key("small")).await.unwrap().unwrap().value, "v");
    };
    let served = tokio::time::timeout(Duration::from_secs(2), served).await;
    assert!(served.is_ok(), "other clients are not served");
}

/// Returns the peak memory of this process in bytes.
#[cfg(target_os = "linux")]
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[cfg(not(target_os = "linux"))]
fn peak_memory() -> usize {
    0
}

#[tokio::test]
async fn a_request_from_a_web_page_executes_no_operation() {
    let (store, address) = serve(ServeConfig::default()).await;
    assert!(store.set(&key("y"), "kept".into(), &SetOptions::default()).await.unwrap().is_stored());
    let body = "\n{\"op\":\"set\",\"key\":[\"x\"],\"value\":\"1\"}\n{\"op\":\"clear\",\"prefix\":[\"y\"]}\n{\"op\":\"close\"}\n";
    let http = format!("POST / HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let hello = |token: &str| format!("{{\"op\":\"hello\",\"version\":1{token}}}\n{body}");
    let firsts = [
        http,
        body.to_owned(),
        hello(""),
        hello(",\"token\":\"another-token-of-this-test\""),
        hello(&format!(",\"token\":\"{}\"", token().reveal())).replace("\"version\":1", "\"version\":2"),
        format!("{{\"op\":\"ping\"}}\n{}{body}", hello(&format!(",\"token\":\"{}\"", token().reveal()))),
    ];
    for first in firsts {
        let mut peer = peer(address, first.as_bytes()).await;
        let mut response = Vec::new();
        // The server closes the connection with unread input, so the connection may be reset.
        let _ = peer.read_to_end(&mut response).await;
        assert!(String::from_utf8_lossy(&response).lines().count() <= 1, "{first}");
        assert!(!String::from_utf8_lossy(&response).contains("result"), "{first}");
    }
    assert_eq!(store.get(&key("x")).await.unwrap(), None);
    assert_eq!(store.get(&key("y")).await.unwrap().unwrap().value, "kept");
}

#[tokio::test]
async fn a_client_without_the_token_is_denied() {
    let (_, address) = serve(ServeConfig::default()).await;
    for builder in [LinesBuilder::new(address), LinesBuilder::new(address).token(Token::random())] {
        assert_eq!(builder.open().await.unwrap_err().kind(), ErrorKind::Denied);
    }
    let store = open(address).await;
    assert!(!format!("{store:?} {store:#?}").contains(token().reveal()));
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_private_and_needs_no_token() {
    use std::os::unix::fs::PermissionsExt;

    let folder = std::env::temp_dir().join(format!("kv-lines-{}", Token::random().reveal().split_at(12).0));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("kv.sock");
    // This socket file is like the file that a killed server leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::unix(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kv = Kv::new(MemoryStore::new());
    let serving = tokio::spawn(async move { kv_lines::listen(&kv, listener, &ServeConfig::default()).await });
    assert!(Listener::unix(&path).is_err(), "two servers on one socket");
    let url = format!("lines:unix:{}", path.display());
    let store = LinesBuilder::from_url(&url.parse().unwrap()).unwrap().open().await.unwrap();
    assert!(store.set(&key("k"), "v".into(), &SetOptions::default()).await.unwrap().is_stored());
    serving.abort();
    let _ = serving.await;
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert!(Listener::unix(&path).is_err(), "a file was replaced");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_takes_bounded_memory() {
    let (_, address) = serve(ServeConfig::default()).await;
    let watch = |number| format!("{{\"id\":{number},\"op\":\"watch\",\"prefix\":[],\"snapshot\":true}}\n");
    let watches = (0..40).map(watch).collect::<Vec<_>>().concat();
    let watching = client(address, &watches).await;
    let gets = "{\"op\":\"get\",\"key\":[\"big\"]}\n".repeat(1_000);
    let getting = [client(address, &gets).await, client(address, &gets).await];
    for _ in 0..5 {
        assert_others_are_served(address).await;
    }
    let peak = peak_memory();
    assert!(peak < 600 << 20, "{} MiB", peak >> 20);
    drop((watching, getting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_unfinished_large_lines_take_bounded_memory_and_the_sessions_above_the_limit_end() {
    let (_, address) = serve(ServeConfig::default()).await;
    let block = vec![b' '; 1 << 20];
    let mut sending = Vec::new();
    for _ in 0..20 {
        let mut peer = client(address, "").await;
        let block = block.clone();
        sending.push(tokio::spawn(async move {
            for _ in 0..30 {
                if peer.get_mut().write_all(&block).await.is_err() {
                    break;
                }
            }
            let mut line = String::new();
            // The server sends an error line and closes the connection. A reset may destroy the line before the peer
            // reads it.
            let response = tokio::time::timeout(Duration::from_secs(3), peer.read_line(&mut line)).await;
            (response.is_ok(), line)
        }));
    }
    assert_others_are_served(address).await;
    let mut ended = 0;
    for sending in sending {
        let (is_ended, line) = sending.await.unwrap();
        assert!(line.is_empty() || line.contains("\"capacity\""), "{line}");
        ended += usize::from(is_ended);
    }
    // The server holds at most four large lines. Within the timeout of this test, at least twelve further sessions end.
    assert!((12..20).contains(&ended), "{ended}");
    assert!(peak_memory() < 600 << 20, "{} MiB", peak_memory() >> 20);
}

#[tokio::test]
async fn connections_above_the_maximum_wait_until_idle_sessions_end() {
    let config = ServeConfig::default().with_max_connections(2).with_idle_timeout(Duration::from_millis(300));
    let (_, address) = serve(config).await;
    let mut idle = [client(address, "").await, client(address, "").await];
    // The third connection is served when one of the idle sessions has ended.
    let third = client(address, "{\"id\":1,\"op\":\"ping\"}\n");
    tokio::time::timeout(Duration::from_secs(5), third).await.unwrap();
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    // A session with a running watch is not idle.
    let mut watching = client(address, "{\"id\":1,\"op\":\"watch\",\"prefix\":[]}\n").await;
    let mut line = String::new();
    watching.read_line(&mut line).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(900), watching.read_line(&mut line)).await.is_err(), "{line}");
}

#[tokio::test]
async fn a_peer_that_sends_no_hello_is_disconnected() {
    let (_, address) = serve(ServeConfig::default().with_max_connections(2)).await;
    let mut silent = [peer(address, b"").await, peer(address, b"{\"op\":").await];
    for peer in &mut silent {
        let mut rest = Vec::new();
        let ended = peer.read_to_end(&mut rest);
        tokio::time::timeout(Duration::from_secs(8), ended).await.unwrap().unwrap();
    }
    assert_others_are_served(address).await;
}

#[tokio::test]
async fn peers_without_a_hello_do_not_keep_clients_out() {
    let (_, address) = serve(ServeConfig::default().with_max_connections(2)).await;
    let mut strangers = Vec::new();
    for _ in 0..300 {
        strangers.push(peer(address, b"{").await);
    }
    assert_others_are_served(address).await;
    // The oldest connections made room for the newer ones.
    let ended = tokio::time::timeout(Duration::from_secs(1), strangers[0].read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "the server holds all of them");
}

#[tokio::test]
async fn silent_peers_keep_no_permit_of_a_large_line() {
    let (store, address) = serve(ServeConfig::default()).await;
    let padding = " ".repeat(150 << 10);
    let large_lines = [
        format!("{{\"id\":2,\"op\":\"watch\",\"prefix\":[\"other\"]{padding}}}"),
        format!("{{\"id\":2,\"op\":\"subscribe\",\"channels\":[]{padding}}}"),
        format!("{{\"id\":1,\"op\":\"watch\",\"prefix\":[]{padding}}}"),
        "x".repeat((32 << 20) + 2),
    ];
    let mut silent = Vec::new();
    for line in large_lines {
        let mut peer = client(address, "{\"id\":1,\"op\":\"watch\",\"key\":[\"big\"]}\n").await;
        peer.read_line(&mut String::new()).await.unwrap();
        peer.get_mut().write_all(line.as_bytes()).await.unwrap();
        silent.push(peer);
    }
    SystemClock.sleep(Duration::from_millis(200)).await;
    // The peers do not read the event of this change, which fills the queues of their sessions.
    assert!(store.touch(&key("big"), kv_core::NewExpiry::After(Duration::from_secs(3_600))).await.unwrap());
    SystemClock.sleep(Duration::from_millis(200)).await;
    for peer in &mut silent {
        peer.get_mut().write_all(b"\n").await.unwrap();
    }
    SystemClock.sleep(Duration::from_millis(200)).await;
    let mut honest = client(address, &format!("{{\"id\":3,\"op\":\"ping\"{padding}}}\n")).await;
    let mut line = String::new();
    let answered = tokio::time::timeout(Duration::from_secs(4), honest.read_line(&mut line)).await;
    assert!(answered.is_ok() && line.contains("\"result\":null"), "{line}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_of_a_busy_or_a_later_server_is_left_alone() {
    let folder = std::env::temp_dir().join(format!("kv-lines-{}", Token::random().reveal().split_at(12).0));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("kv.sock");
    // A server that accepts nothing, with a full backlog.
    let busy = tokio::net::UnixSocket::new_stream().unwrap();
    busy.bind(&path).unwrap();
    let busy = busy.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(connection) = tokio::net::UnixStream::connect(&path).await {
        waiting.push(connection);
        assert!(waiting.len() < 100, "the backlog has no limit");
    }
    let (runtime, (send, bound)) = (tokio::runtime::Handle::current(), std::sync::mpsc::channel());
    let in_use = path.clone();
    std::thread::spawn(move || {
        let _runtime = runtime.enter();
        let _ = send.send(Listener::unix(in_use).map_err(|error| error.kind()));
    });
    let bound = bound.recv_timeout(Duration::from_secs(5)).expect("binding waits for the other server");
    assert_eq!(bound.unwrap_err(), std::io::ErrorKind::AddrInUse);
    drop((busy, waiting));

    let first = Listener::unix(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Listener::unix(&path).unwrap();
    drop(first);
    assert!(path.exists(), "the first server removed the socket of the second");
    drop(second);
    assert!(!path.exists());
    std::fs::remove_dir_all(&folder).unwrap();
}
