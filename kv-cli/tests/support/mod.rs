//! What the tests of the program share.

use std::path::PathBuf;

use assert_cmd::Command;

/// The program over an empty store in memory, whatever its default is.
#[allow(dead_code, reason = "not every test file runs it")]
pub(crate) fn kv() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kv"));
    command.env("KV_STORE", "memory:");
    command
}

/// The recorded workload.
#[allow(dead_code, reason = "not every test file replays")]
pub(crate) fn workload() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "workloads", "federation.jsonl.gz"].iter().collect()
}
