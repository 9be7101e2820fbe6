//! Tests of a single PostgreSQL server and the options of its builder.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use test_servers::postgres::Postgres;
use test_servers::tls::Certificate;

/// Runs SQL with `psql` by URL, as an independent client.
fn connect(url: &str, sql: &str) -> Output {
    let mut command = Command::new("psql");
    command.args(["-X", "-A", "-t", "-q", "-c", sql, url]).env_remove("PGPASSWORD").output().unwrap()
}

fn query(url: &str, sql: &str) -> String {
    let output = connect(url, sql);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_server_answers_at_its_address_and_at_its_socket() {
    let postgres = Postgres::start().unwrap();
    let sql = "select current_user, current_database(), current_setting('server_encoding'), current_setting('max_connections')";
    assert_eq!(query(&postgres.url(), sql), "kv|kv|UTF8|200");
    assert_eq!(query(&postgres.socket_url(), "select inet_server_addr() is null"), "t");
    assert_eq!(query(&postgres.url(), "select current_setting('fsync'), 'a' < 'B'"), "off|f");
    let wrong = connect(&postgres.url_of("kv", "wrong", "kv"), "select 1");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("password authentication failed"));
    assert!(!format!("{postgres:?}").contains(postgres.password()));
}

#[test]
fn drop_removes_process_folder_and_shared_memory() {
    let mut postgres = Postgres::start().unwrap();
    let (pid, folder) = (postgres.pid(), postgres.socket_folder().to_owned());
    postgres.pause().unwrap();
    let segment = shared_memory_of(&folder);
    assert!(shared_memory().contains(&segment));
    drop(postgres);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!folder.exists());
    assert!(!shared_memory().contains(&segment));
}

#[test]
fn drop_of_a_killed_server_removes_folder_and_shared_memory() {
    let mut postgres = Postgres::start().unwrap();
    let folder = postgres.socket_folder().to_owned();
    postgres.kill().unwrap();
    let segment = shared_memory_of(&folder);
    drop(postgres);
    assert!(!folder.exists());
    assert!(!shared_memory().contains(&segment));
}

/// Returns the id of a server's System V shared memory segment.
fn shared_memory_of(folder: &Path) -> String {
    let file = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

fn shared_memory() -> Vec<String> {
    let list = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    list.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

#[test]
fn databases_are_separate() {
    let postgres = Postgres::start().unwrap();
    let one = postgres.create_database("One \"quoted\"").unwrap();
    let two = postgres.create_database("two").unwrap();
    query(&one, "create table t ()");
    assert_eq!(query(&one, "select count(*) from pg_class where relname = 't'"), "1");
    assert_eq!(query(&two, "select count(*) from pg_class where relname = 't'"), "0");
    assert!(postgres.create_database("two").unwrap_err().to_string().contains("already exists"));
}

#[test]
fn a_killed_server_restarts_with_its_rows_on_its_port() {
    let mut postgres = Postgres::start().unwrap();
    postgres.psql("kv", "create table t as select 7 as n").unwrap();
    let (url, pid) = (postgres.url(), postgres.pid());
    postgres.kill().unwrap();
    assert_eq!(TcpStream::connect(postgres.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    postgres.restart().unwrap();
    assert_ne!(postgres.pid(), pid);
    assert_eq!(query(&url, "select n from t"), "7");
    postgres.restart().unwrap();
    assert_eq!(query(&url, "select n from t"), "7");
}

#[test]
fn a_paused_server_answers_nothing_until_resumed() {
    let mut postgres = Postgres::start().unwrap();
    postgres.pause().unwrap();
    let mut stream = TcpStream::connect(postgres.address()).unwrap();
    // An SSLRequest, which the server answers with one byte.
    std::io::Write::write_all(&mut stream, &[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let silence = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    postgres.resume().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut response = [0];
    stream.read_exact(&mut response).unwrap();
    assert_eq!(&response, b"N");
}

#[test]
fn pause_also_stops_busy_backends() {
    let mut postgres = Postgres::start().unwrap();
    let sql = "create table t (n int); select pg_backend_pid(); \
               do $$ begin for i in 1..1000000 loop insert into t values (i); commit; end loop; end $$";
    let mut busy = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", &postgres.url()])
        .stdin(std::process::Stdio::piped())
        .spawn();
    let busy = busy.as_mut().unwrap();
    std::io::Write::write_all(busy.stdin.as_mut().unwrap(), sql.as_bytes()).unwrap();
    drop(busy.stdin.take());
    while postgres.psql("kv", "select count(*) > 0 from t").unwrap_or_default() != "t" {}
    let pid =
        postgres.psql("kv", "select pid from pg_stat_activity where query like '%loop%' and pid <> pg_backend_pid()");
    postgres.pause().unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap())).unwrap();
    assert!(state.contains("State:\tT"), "{state}");
    postgres.kill().unwrap();
    busy.wait().unwrap();
}

#[test]
fn a_killed_backend_makes_the_server_recover() {
    let mut postgres = Postgres::start().unwrap();
    let mut session = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", &postgres.url(), "-c", "select pg_sleep(100)"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let query = "select pid from pg_stat_activity where query = 'select pg_sleep(100)' and pid <> pg_backend_pid()";
    let pid = loop {
        if let Ok(pid) = postgres.psql("kv", query).unwrap().parse() {
            break pid;
        }
    };
    postgres.kill_backend(pid).unwrap();
    assert!(!session.wait().unwrap().success());
    while postgres.psql("kv", "select 1").is_err() {}
    assert!(postgres.kill_backend(std::process::id()).is_err());
    assert!(postgres.kill_backend(pid).is_err());
    postgres.kill().unwrap();
}

#[test]
fn tls_certificates_are_verified_by_the_authority_of_their_server() {
    let postgres = Postgres::builder().tls().fsync(true).setting("work_mem", "5MB").start().unwrap();
    let other = Postgres::builder().tls_with(Certificate::OtherName).start().unwrap();
    let verified_at = |postgres: &Postgres, host: &str, authority: &Path| {
        let url = postgres.url().replace("127.0.0.1", host);
        let url = format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display());
        connect(
            &url,
            "select ssl, current_setting('fsync'), current_setting('work_mem') from pg_stat_ssl where pid = pg_backend_pid()",
        )
    };
    let verified = |host: &str, authority: &Path| verified_at(&postgres, host, authority);
    assert_eq!(verified("localhost", postgres.ca_certificate()).stdout, b"t|on|5MB\n");
    assert_eq!(verified("127.0.0.1", postgres.ca_certificate()).stdout, b"t|on|5MB\n");
    assert!(String::from_utf8_lossy(&verified("localhost", other.ca_certificate()).stderr).contains("verify failed"));
    let renamed = verified_at(&other, "localhost", other.ca_certificate());
    assert!(String::from_utf8_lossy(&renamed.stderr).contains("does not match host name"), "{renamed:?}");
}

/// Mounting may be forbidden on this machine. In this case, the error must name the missing right.
#[test]
fn a_small_disk_becomes_full() {
    let postgres = match Postgres::builder().data_on_tmpfs(64 << 20).start() {
        Ok(postgres) => postgres,
        Err(error) => return assert!(error.to_string().contains("needs the right to mount"), "{error}"),
    };
    let data = postgres.socket_folder().join("data");
    let full = postgres.psql("kv", "create table t as select repeat(n::text, 100) from generate_series(1, 1000000) n");
    assert!(full.unwrap_err().to_string().contains("No space left on device"));
    assert_eq!(postgres.psql("kv", "select 1").unwrap(), "1");
    drop(postgres);
    assert!(!std::fs::read_to_string("/proc/mounts").unwrap().contains(&*data.to_string_lossy()));
}

#[test]
fn a_failed_start_returns_the_log() {
    let error = Postgres::builder().setting("no_such_setting", "1").start().unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}
