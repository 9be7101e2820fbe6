//! The child process that opens a store. A test can kill the child process if it hangs on damaged files.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Clock, Key, KvStore, ListQuery, SetOptions, SystemClock};
use kv_sled::SledStore;

const FOLDER: &str = "KV_SLED_FAULT_FOLDER";
const TASK: &str = "KV_SLED_FAULT_TASK";

/// Runs a child with a task and returns the child's response; `None` after the timeout `limit`.
pub(crate) fn run(path: &Path, task: &str, limit: Duration) -> Option<String> {
    let (response, process) = start(path, task, "exec \"$0\" \"$@\"", limit);
    drop(process);
    response
}

/// Starts a child by a shell command. Returns the first response of the child, and the child.
pub(crate) fn start(path: &Path, task: &str, shell: &str, limit: Duration) -> (Option<String>, Running) {
    let mut process = Command::new("sh")
        .args(["-c", shell])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_opens", "--nocapture"])
        .env(FOLDER, path)
        .env(TASK, task)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let (sender, responses) = channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if let Some(response) = line.strip_prefix('>') {
                let _ = sender.send(response.to_owned());
            }
        }
    });
    let response = match responses.recv_timeout(limit) {
        Ok(response) => Some(response),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some("ended without a response".to_owned()),
    };
    (response, Running { process })
}

/// A child process. It is killed when this value is dropped.
pub(crate) struct Running {
    process: std::process::Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number of keys of a history. A history is a fixed sequence of writes that cycles through these keys.
pub(crate) const KEYS: u64 = 1_200;

/// Returns the key and the value that a step of a history writes.
pub(crate) fn step(number: u64) -> (Key, Bytes) {
    let key = Key::new(["history", &format!("{:04}", number % KEYS)]).unwrap();
    let length = if number.is_multiple_of(97) { 200_000 } else { 100 + usize::try_from(number % 400).unwrap() };
    let mut value = number.to_string().into_bytes();
    value.resize(length, b'.');
    (key, value.into())
}

pub(crate) fn main() {
    let Ok(path) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let response = runtime.block_on(async {
        match std::env::var(TASK).unwrap().as_str() {
            "history" => history(&path).await,
            "hold" => hold(&path).await,
            "descriptors" => descriptors(&path).await,
            other => panic!("no task {other}"),
        }
    });
    println!("\n>{response}");
    // Exit without waiting for threads that hang inside sled.
    std::process::exit(0);
}

/// Opens the store and compares its entries with the history. Returns `prefix N` if the entries are those after the
/// first N steps of the history, and `wrong values` if they match no prefix.
async fn history(path: &str) -> String {
    let opening = SledStore::builder().open_timeout(Duration::from_millis(1_500)).open(path);
    let store = match opening.await {
        Ok(store) => store,
        Err(error) => return format!("error {:?}{}", error.kind(), found_by(&error)),
    };
    let mut found = std::collections::BTreeMap::new();
    let mut query = ListQuery::default();
    loop {
        let page = match store.list(&query).await {
            Ok(page) => page,
            Err(error) => return format!("opened, then error {error}"),
        };
        for item in page.items {
            found.insert(item.key, item.entry.unwrap().value);
        }
        let Some(next) = page.next else { break };
        query = query.resume(next);
    }
    let number = |value: &Bytes| {
        let digits = value.split(|&byte| byte == b'.').next().unwrap();
        std::str::from_utf8(digits).unwrap().parse::<u64>().unwrap()
    };
    let Some(last) = found.values().map(number).max() else { return "prefix 0".to_owned() };
    let expected: std::collections::BTreeMap<_, _> = (0..=last).map(step).collect();
    if found == expected { format!("prefix {}", last + 1) } else { "wrong values".to_owned() }
}

/// Returns, from the error text, the check that has found the damage.
fn found_by(error: &kv_core::Error) -> &'static str {
    match error.message() {
        text if text.contains("tree checksum") => " by the tree checksum",
        text if text.contains("panicked") => " by a panic",
        text if text.contains("hangs") => " by a hang",
        _ => "",
    }
}

/// Opens the store and keeps it open until the child is killed.
async fn hold(path: &str) -> String {
    let store = SledStore::open(path).await.unwrap();
    println!("\n>holding");
    SystemClock.sleep(Duration::from_secs(60)).await;
    store.close().await.unwrap();
    "closed".to_owned()
}

/// Opens the store, uses up all remaining file descriptors, and writes.
async fn descriptors(path: &str) -> String {
    let opening = SledStore::builder().operation_timeout(Duration::from_secs(2)).open(path);
    let store = match opening.await {
        Ok(store) => store,
        Err(error) => return format!("error {:?}", error.kind()),
    };
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    let mut responses = Vec::new();
    for size in [10, 300_000, 10] {
        let key = Key::new([size.to_string()]).unwrap();
        let stored = store.set(&key, vec![7; size].into(), &SetOptions::default()).await;
        responses.push(match stored {
            Ok(_) => "stored".to_owned(),
            Err(error) => format!("{:?}", error.kind()).split(' ').next().unwrap().to_owned(),
        });
    }
    format!("opened {}", responses.join(" "))
}
