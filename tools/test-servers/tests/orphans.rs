//! A killed test process leaves no servers, folders or shared memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]
#![expect(clippy::disallowed_methods, reason = "processes exit on the system clock")]

use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use test_servers::postgres::Postgres;
use test_servers::redis::Redis;

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
#[ignore = "the process that the other test kills"]
fn server_owner() {
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    println!("pid {}\nfolder {}", redis.pid(), redis.socket().parent().unwrap().display());
    println!("pid {}\nfolder {}", postgres.pid(), postgres.socket_folder().display());
    let id = postgres.psql("kv", "select pg_backend_pid()").unwrap();
    println!("ready {id}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn servers_die_with_a_killed_process_and_the_next_start_removes_their_folders() {
    let mut server_owner = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "server_owner", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut processes: Vec<PathBuf> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for line in BufReader::new(server_owner.stdout.take().unwrap()).lines() {
        match line.unwrap().split_once(' ') {
            Some(("pid", pid)) => processes.push(Path::new("/proc").join(pid)),
            Some(("folder", folder)) => folders.push(folder.into()),
            Some(("ready", _)) => break,
            _ => {}
        }
    }
    assert_eq!((processes.len(), folders.len()), (2, 2));
    assert!(processes.iter().chain(&folders).all(|path| path.exists()));
    let segment = segment_of(&folders[1]);
    assert!(attached(&segment).is_some_and(|count| count != "0"));

    server_owner.kill().unwrap();
    server_owner.wait().unwrap();
    let start = Instant::now();
    while processes.iter().any(|process| process.exists()) || attached(&segment).is_some_and(|count| count != "0") {
        assert!(start.elapsed() < TIMEOUT, "the servers still run");
    }
    let _next = Redis::start().unwrap();
    // Another test process may be removing the folders.
    while folders.iter().any(|folder| folder.exists()) || attached(&segment).is_some() {
        assert!(start.elapsed() < TIMEOUT, "folders or shared memory were not removed");
    }
}

/// Returns the id of a server's System V shared memory segment.
fn segment_of(folder: &Path) -> String {
    let file = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

/// Returns the number of processes attached to the segment, or `None` if the segment does not exist.
fn attached(segment: &str) -> Option<String> {
    let list = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let mut lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|fields| fields[1] == segment).map(|fields| fields[6].to_owned())
}
