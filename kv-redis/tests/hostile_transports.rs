//! Servers that send more than the reply to a command has, through TCP, through TLS and in a cluster. Each test counts
//! the bytes that the server could send, which bound the memory of the client.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::{Clock, ErrorKind, KvStore, ListQuery, Result, SystemClock};
use kv_redis::RedisStore;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

mod support;
use support::{at, fake, key};

/// The maximum number of bytes of a reply without stored values.
const MAX_REPLY: u64 = 16 << 20;
/// The bytes that the buffers of the sockets may hold in addition.
const BUFFERS: u64 = 16 << 20;
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Tls,
    Cluster,
    ClusterTls,
}

const ALL: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::Cluster, Transport::ClusterTls];

/// A server that replies to one command with `begin`, and then with `repeat` again and again.
struct Hostile {
    command: &'static str,
    begin: Vec<u8>,
    repeat: Vec<u8>,
    pause: Duration,
    port: u16,
    /// The number of bytes of hostile replies that the server could send.
    sent: AtomicU64,
    /// Has a permit for each connection that the client has closed during a hostile reply.
    closed: Semaphore,
}

impl Hostile {
    /// Returns the reply to a command, or `None` for the hostile reply.
    fn reply(&self, words: &[String]) -> Option<Vec<u8>> {
        if words[0] == self.command && words[1] != "kv!layout" {
            return None;
        }
        if words[0] != "cluster" {
            return Some(fake::default_reply(words));
        }
        let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n", self.port);
        Some(slots.into_bytes())
    }

    async fn serve(&self, mut connection: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut received = Vec::new();
        loop {
            while let Some((words, length)) = fake::command(&received) {
                received.drain(..length);
                let Some(reply) = self.reply(&words) else {
                    self.send_hostile(&mut connection).await;
                    return Ok(());
                };
                connection.write_all(&reply).await?;
            }
            if connection.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn send_hostile(&self, connection: &mut (impl AsyncWrite + Unpin)) {
        let mut part = &self.begin;
        while connection.write_all(part).await.is_ok() && connection.flush().await.is_ok() {
            self.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
            part = &self.repeat;
            SystemClock.sleep(self.pause).await;
        }
        self.closed.add_permits(1);
    }

    /// Waits until the client has closed the connection. Returns the number of bytes that the server could send.
    async fn bytes_sent(&self) -> u64 {
        timeout(DEADLINE, self.closed.acquire()).await.unwrap().unwrap().forget();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Creates a certificate for the server. Returns its acceptor, and the certificate as PEM.
fn certificate() -> (TlsAcceptor, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let private = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], private).unwrap();
    (TlsAcceptor::from(Arc::new(config)), own.cert.pem())
}

/// Starts a hostile server. Returns it with a result of opening a store there.
async fn start(
    transport: Transport,
    (command, begin, repeat, pause): (&'static str, &[u8], &[u8], Duration),
    deadline: Duration,
) -> (Arc<Hostile>, Result<RedisStore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Arc::new(Hostile {
        command,
        begin: begin.to_vec(),
        repeat: repeat.to_vec(),
        pause,
        port,
        sent: AtomicU64::new(0),
        closed: Semaphore::new(0),
    });
    let has_tls = matches!(transport, Transport::Tls | Transport::ClusterTls);
    let (acceptor, pem) = certificate();
    let folder = tempfile::tempdir().unwrap();
    let ca: PathBuf = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let accepting = Arc::clone(&server);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (server, acceptor) = (Arc::clone(&accepting), acceptor.clone());
            tokio::spawn(async move {
                if has_tls {
                    server.serve(acceptor.accept(connection).await?).await
                } else {
                    server.serve(connection).await
                }
            });
        }
    });
    let ca = ca.display();
    let url = match transport {
        Transport::Tcp => format!("redis://127.0.0.1:{port}"),
        Transport::Tls => format!("rediss://127.0.0.1:{port}?ca={ca}"),
        Transport::Cluster => format!("redis-cluster://127.0.0.1:{port}"),
        Transport::ClusterTls => format!("redis-cluster://127.0.0.1:{port}?tls=true&ca={ca}"),
    };
    let hour = Duration::from_secs(3_600);
    let builder = at(&url).buckets(1).connect_timeout(deadline).operation_timeout(deadline);
    (server, builder.heartbeat(hour).sweep_interval(hour).open().await)
}

/// Checks that a connection ends before the server has sent more than `max_bytes`, if it replies to this command with
/// `begin` and then `repeat` again and again.
async fn assert_bounded(transport: Transport, command: &'static str, begin: &[u8], repeat: &[u8], max_bytes: u64) {
    let (server, store) = start(transport, (command, begin, repeat, Duration::ZERO), DEADLINE).await;
    let (store, start) = (store.unwrap(), Instant::now());
    let error = match command {
        "get" => store.get(&key("k")).await.unwrap_err(),
        _ => store.list(&ListQuery::default()).await.unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{transport:?}: {error}");
    assert!(start.elapsed() < DEADLINE, "{transport:?}: {:?}", start.elapsed());
    let sent = server.bytes_sent().await;
    assert!(sent <= max_bytes, "{transport:?}: the client has received {sent} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_one_gibibyte_is_refused_when_it_is_announced() {
    for transport in ALL {
        assert_bounded(transport, "get", b"$1073741824\r\n", &b"x".repeat(1 << 16), BUFFERS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_line_ends_the_connection() {
    for transport in ALL {
        assert_bounded(transport, "get", b"+", &b"x".repeat(1 << 16), BUFFERS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_strings_that_are_short_enough_do_not_add_up_to_an_endless_reply() {
    let part = [b"$65536\r\n".as_slice(), b"x".repeat(1 << 16).as_slice(), b"\r\n"].concat();
    for transport in ALL {
        assert_bounded(transport, "zrange", b"*1000000\r\n", &part, MAX_REPLY + BUFFERS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_nobody_asked_for_is_bounded() {
    let part = [b"$65536\r\n".as_slice(), b"x".repeat(1 << 16).as_slice(), b"\r\n"].concat();
    assert_bounded(Transport::Tls, "get", b">1000000\r\n", &part, (64 << 20) + BUFFERS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_hostile_cluster_are_bounded() {
    // One byte more than the limit of a reply without stored values. The header does not count.
    let begin = format!("${}\r\n", MAX_REPLY + 1).into_bytes();
    for transport in [Transport::Cluster, Transport::ClusterTls] {
        let reply = ("cluster", begin.as_slice(), b"x".as_slice(), Duration::from_millis(100));
        let (server, store) = start(transport, reply, DEADLINE).await;
        assert!(store.is_err());
        // The store closes the connection when the header announces the size of the reply, and does not wait for the
        // timeout. To explain the failure, the store then opens a second connection and gets the same reply.
        let sent = server.bytes_sent().await;
        assert!(sent < 2 * begin.len() as u64 + 8, "{transport:?}: the client has received {sent} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_never_ends_is_given_up_at_the_deadline() {
    let deadline = Duration::from_millis(1_500);
    for transport in ALL {
        let reply = ("get", b"*1000000\r\n".as_slice(), b"$3\r\nabc\r\n".as_slice(), Duration::from_millis(5));
        let (server, store) = start(transport, reply, deadline).await;
        let (store, start) = (store.unwrap(), Instant::now());
        let error = store.get(&key("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{transport:?}: {error}");
        assert!(start.elapsed() < 2 * deadline, "{transport:?}: {:?}", start.elapsed());
        server.bytes_sent().await;
    }
}
