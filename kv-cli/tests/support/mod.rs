//! Helpers that the tests share.

use std::path::PathBuf;

use assert_cmd::Command;

/// Returns the program with an empty memory store as its default store.
#[allow(dead_code, reason = "not every test file runs it")]
pub(crate) fn kv() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kv"));
    command.env("KV_STORE", "memory:");
    command
}

/// Returns the path of the recorded workload.
#[allow(dead_code, reason = "not every test file replays")]
pub(crate) fn workload() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "workloads", "federation.jsonl.gz"].iter().collect()
}
