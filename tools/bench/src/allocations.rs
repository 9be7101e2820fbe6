//! What the program `allocations` counted.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use kv_cli::bench::{Table, figure};

use crate::bar::{Bar, Required};
use crate::programs::program;

type Counted = BTreeMap<String, f64>;

/// Counted once for all who ask.
fn counted() -> &'static Counted {
    static COUNTED: OnceLock<Counted> = OnceLock::new();
    COUNTED.get_or_init(|| {
        let output = Command::new(program(None, "allocations")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// Those of these bars that are about allocations.
pub(crate) fn bars(ids: &[&'static str], wants: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let each = |what: &str| counted()[what];
    let bar = |&id: &&'static str| match id {
        "bar-mem-get" => {
            Bar::once(id, "get: allocations, the future's own included", Required::AtMost(1.0), each("memory: get"))
        }
        "bar-mem-list" => {
            let (ours, map) = (each("memory: bytes an entry"), each("HashMap: bytes an entry"));
            Bar::once(id, "bytes an entry beside HashMap's", Required::AtMost(1.7), ours / map)
                .beside(format!("{ours:.0} B, {map:.0} B"))
        }
        _ => Bar::once(id, "kv.get_bytes: allocations", Required::AtMost(2.0), each("handle: get")),
    };
    ids.iter().filter(|id| wants(id)).map(bar).collect()
}

/// All of it.
pub(crate) fn table() -> Table {
    let mut table = Table::new(["what", "allocations of a call, or bytes"]);
    for (what, each) in counted() {
        table.row([what.clone(), figure(*each)]);
    }
    table
}
