//! The JSON-lines protocol.

use std::time::Duration;

use kv_core::Kv;
use kv_memory::MemoryStore;
use tokio::io::{AsyncReadExt, duplex};

/// The timeout of a session.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The first line of a session. Without this line, the server reads nothing else.
const HELLO: &[u8] = b"{\"op\":\"hello\",\"version\":1}\n";

/// Checks that the server responds to any bytes after the first line with lines of JSON, and that the session ends when
/// the input ends. The bytes are also the first line of a second session.
pub fn json_lines(data: &[u8]) {
    run_session(&[HELLO, data].concat());
    run_session(data);
}

fn run_session(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let output = runtime.block_on(async {
        let kv = Kv::new(MemoryStore::new());
        let (mut read, write) = duplex(1 << 16);
        let session = kv_lines::session(&kv, data, write);
        let mut output = Vec::new();
        let read = read.read_to_end(&mut output);
        let both = tokio::time::timeout(TIMEOUT, futures_util::future::join(session, read)).await;
        let (session, read) = both.expect("a session ends with its input");
        session.and(read.map(drop)).expect("a session in memory does not fail");
        output
    });
    let replies = String::from_utf8(output).expect("replies are text");
    for line in replies.lines() {
        let reply: serde_json::Value = serde_json::from_str(line).expect("a reply is JSON");
        assert!(reply.is_object(), "a reply is not an object: {line}");
    }
}
