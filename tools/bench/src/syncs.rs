//! The number of syncs per write of an embedded store. `strace` counts the system calls of a process that only writes.

use std::process::Command;
use std::sync::Arc;

use kv_cli::bench::{Dataset, Operation, StoreSubject, Subject};

use crate::bars::embedded::open;

/// The number of writes that this process makes.
const WRITES: usize = 3_200;

/// Runs this program with `only-write` under `strace`. Returns a text with the syncs per write.
pub(crate) fn per_write(name: &str, tasks: usize) -> String {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range", "-o"]).arg(&trace);
    command.arg(std::env::current_exe().unwrap()).args(["only-write", name, &tasks.to_string()]).arg(folder.path());
    match command.status() {
        Ok(status) if status.success() => {
            let lines = std::fs::read_to_string(trace).unwrap();
            // A call that another thread interrupts has two lines in the trace.
            let calls = lines.lines().filter(|line| !line.contains("resumed>")).count();
            format!("{:.3} syncs per write", calls as f64 / WRITES as f64)
        }
        Ok(status) => format!("syncs not counted: strace exited with {status}"),
        Err(error) => format!("syncs not counted: strace, {error}"),
    }
}

/// Runs the command `only-write`.
pub(crate) async fn only_write(name: &str, tasks: usize, folder: &std::path::Path) {
    let store = open(name, folder).await;
    let subject = Arc::new(StoreSubject::new(name, Arc::clone(&store)));
    let dataset = Arc::new(Dataset::new(100_000, 100, 1).unwrap());
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (subject, mut traffic) = (Arc::clone(&subject), dataset.traffic());
        running.spawn(async move {
            subject.operate(Operation::Overwrite, &mut traffic, WRITES / tasks).await.unwrap();
        });
    }
    running.join_all().await;
    store.close().await.unwrap();
}
