//! The JSON-lines protocol.

use std::time::Duration;

use kv_core::Kv;
use kv_memory::MemoryStore;
use tokio::io::{AsyncReadExt, duplex};

/// How long a session over some kilobytes may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Any bytes are answered in lines of JSON, and the session ends with its input.
pub fn json_lines(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answered = runtime.block_on(async {
        let kv = Kv::new(MemoryStore::new());
        let (mut read, write) = duplex(1 << 16);
        let session = kv_lines::session(&kv, data, write);
        let mut answers = Vec::new();
        let read = read.read_to_end(&mut answers);
        let both = tokio::time::timeout(PATIENCE, futures_util::future::join(session, read)).await;
        let (session, read) = both.expect("a session ends with its input");
        session.and(read.map(drop)).expect("a session in memory does not fail");
        answers
    });
    let answers = String::from_utf8(answered).expect("answers are text");
    for line in answers.lines() {
        let answer: serde_json::Value = serde_json::from_str(line).expect("an answer is JSON");
        assert!(answer.is_object(), "an answer is no object: {line}");
    }
}
