//! The results of the program `allocations`.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use kv_cli::bench::{Table, figure};

use crate::bar::{Bar, Required};
use crate::programs::build;

type Counts = BTreeMap<String, f64>;

/// Runs the program once and returns its counts.
fn counts() -> &'static Counts {
    static COUNTS: OnceLock<Counts> = OnceLock::new();
    COUNTS.get_or_init(|| {
        let output = Command::new(build(None, "allocations")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// Returns the bars on allocations, for the bars of `ids` that are selected.
pub(crate) fn bars(ids: &[&'static str], is_selected: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let count = |name: &str| counts()[name];
    let bar = |&id: &&'static str| match id {
        "bar-mem-get" => {
            Bar::once(id, "get: allocations, including the boxed future", Required::AtMost(1.0), count("memory: get"))
        }
        "bar-mem-list" => {
            let (ours, map) = (count("memory: bytes per entry"), count("HashMap: bytes per entry"));
            Bar::once(id, "bytes per entry vs HashMap", Required::AtMost(1.7), ours / map)
                .details(format!("{ours:.0} B, {map:.0} B"))
        }
        _ => Bar::once(id, "kv.get_bytes: allocations", Required::AtMost(2.0), count("handle: get")),
    };
    ids.iter().filter(|id| is_selected(id)).map(bar).collect()
}

/// Returns the table of all counts.
pub(crate) fn table() -> Table {
    let mut table = Table::new(["measurement", "allocations per call, or bytes per entry"]);
    for (name, count) in counts() {
        table.row([name.clone(), figure(*count)]);
    }
    table
}
