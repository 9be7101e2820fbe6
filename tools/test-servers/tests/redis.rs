//! One Redis server with each option of its builder.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use test_servers::redis::Redis;
use test_servers::tls::Certificate;

/// Sends inline commands on a new connection and returns the response, with a read timeout of `timeout`.
fn send(redis: &Redis, text: &str, timeout: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(redis.address())?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(text.as_bytes())?;
    let mut response = vec![0; 1_000];
    let length = stream.read(&mut response)?;
    Ok(String::from_utf8_lossy(&response[..length]).into_owned())
}

const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn a_server_answers_on_its_port_and_its_socket() {
    let redis = Redis::start().unwrap();
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}", redis.port()));
    assert_eq!(redis.unix_url(), format!("redis+unix://{}", redis.socket().display()));
    assert_eq!(send(&redis, "PING\r\n", TIMEOUT).unwrap(), "+PONG\r\n");
    assert_eq!(redis.cli(&["SET", "k", "v"]).unwrap(), "OK");
    assert_eq!(redis.cli(&["GET", "k"]).unwrap(), "v");
    assert!(redis.cli(&["NO-SUCH-COMMAND"]).unwrap_err().to_string().contains("unknown command"));
}

#[test]
fn drop_removes_process_and_folder() {
    let redis = Redis::start().unwrap();
    let (pid, folder) = (redis.pid(), redis.socket().parent().unwrap().to_owned());
    assert!(Path::new(&format!("/proc/{pid}")).exists() && folder.exists());
    drop(redis);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!folder.exists());
}

#[test]
fn a_killed_server_restarts_empty_on_its_port() {
    let mut redis = Redis::start().unwrap();
    redis.cli(&["SET", "k", "v"]).unwrap();
    let (pid, port) = (redis.pid(), redis.port());
    redis.kill().unwrap();
    assert_eq!(send(&redis, "PING\r\n", TIMEOUT).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    redis.restart().unwrap();
    assert_ne!(redis.pid(), pid);
    assert_eq!(redis.port(), port);
    assert_eq!(send(&redis, "GET k\r\n", TIMEOUT).unwrap(), "$-1\r\n");
}

#[test]
fn an_append_only_server_keeps_acknowledged_writes() {
    let mut redis = Redis::builder().append_only().start().unwrap();
    redis.cli(&["SET", "k", "v"]).unwrap();
    redis.restart().unwrap();
    assert_eq!(redis.cli(&["GET", "k"]).unwrap(), "v");
}

#[test]
fn a_paused_server_answers_nothing_until_resumed() {
    let mut redis = Redis::start().unwrap();
    redis.pause().unwrap();
    let silence = send(&redis, "PING\r\n", Duration::from_millis(200)).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    redis.resume().unwrap();
    assert_eq!(send(&redis, "PING\r\n", TIMEOUT).unwrap(), "+PONG\r\n");
    redis.kill().unwrap();
    assert!(redis.pause().is_err());
}

#[test]
fn passwords_users_and_settings_take_effect() {
    let redis = Redis::builder()
        .password("a \"p\\w")
        .acl_user("tenant", "secret", "~tenant:* +@all")
        .max_memory("4mb", "noeviction")
        .setting("timeout", "77")
        .start()
        .unwrap();
    assert_eq!(redis.url(), format!("redis://:a%20%22p%5Cw@127.0.0.1:{}", redis.port()));
    assert!(redis.unix_url().ends_with("/redis.sock?pass=a%20%22p%5Cw"));
    assert_eq!(redis.url_of("tenant", "secret"), format!("redis://tenant:secret@127.0.0.1:{}", redis.port()));
    assert!(send(&redis, "PING\r\n", TIMEOUT).unwrap().starts_with("-NOAUTH"));
    let login = send(&redis, "AUTH tenant secret\r\n", TIMEOUT).unwrap();
    assert_eq!(login, "+OK\r\n");
    assert_eq!(redis.cli(&["CONFIG", "GET", "timeout"]).unwrap(), "timeout\n77");
    assert_eq!(redis.cli(&["CONFIG", "GET", "maxmemory"]).unwrap(), "maxmemory\n4194304");
    let full = (0..5_000).map(|n| redis.cli(&["SETRANGE", &format!("k{n}"), "500000", "x"])).find_map(Result::err);
    assert!(full.unwrap().to_string().contains("OOM"));
    assert!(!format!("{redis:?}").contains("p\\\\w"));
}

#[test]
fn a_replica_has_the_data_of_its_master_and_refuses_writes() {
    let master = Redis::builder().password("secret").start().unwrap();
    master.cli(&["SET", "k", "v"]).unwrap();
    let replica = Redis::builder().password("secret").replica_of(master.port()).start().unwrap();
    assert_eq!(replica.cli(&["GET", "k"]).unwrap(), "v");
    assert!(replica.cli(&["SET", "k", "w"]).unwrap_err().to_string().contains("READONLY"));
}

#[test]
fn tls_certificates_are_verified_by_the_authority_of_their_server() {
    let redis = Redis::builder().password("secret").tls().start().unwrap();
    let port = redis.tls_address().port();
    assert_eq!(redis.tls_url(), format!("rediss://:secret@localhost:{port}"));
    let ping = |port: u16, authority: &Path| {
        std::process::Command::new("redis-cli")
            .args(["-e", "--tls", "-h", "localhost", "-p", &port.to_string(), "--cacert"])
            .arg(authority)
            .arg("PING")
            .env("REDISCLI_AUTH", "secret")
            .output()
            .unwrap()
    };
    assert_eq!(ping(port, redis.ca_certificate()).stdout, b"PONG\n");
    let other = Redis::builder().tls().start().unwrap();
    assert!(!ping(port, other.ca_certificate()).status.success());
    let expired = Redis::builder().tls_with(Certificate::Expired).start().unwrap();
    let refused = ping(expired.tls_address().port(), expired.ca_certificate());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("certificate verify failed"), "{refused:?}");
}

#[test]
fn a_failed_start_returns_the_log() {
    let error = Redis::builder().setting("no-such-setting", "1").start().unwrap_err().to_string();
    assert!(error.contains("no-such-setting"), "{error}");
}
