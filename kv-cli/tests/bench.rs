//! `kv bench`: its reports, its files, and its cleanup. No test depends on timing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test and its helpers may panic")]

mod support;

use std::fs;

use serde_json::Value;

use self::support::kv;

/// The shortest possible benchmark.
const SHORT: [&str; 8] = ["--duration", "20ms", "--rounds", "2", "--entries", "300", "--tasks", "1,3"];

const OPERATIONS: [&str; 9] = ["get", "get-miss", "overwrite", "set-ttl", "cas", "list", "get-many", "mixed", "insert"];

fn measured(arguments: &[&str]) -> Value {
    let output = kv().args(["--format", "json", "bench"]).args(arguments).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

#[test]
fn every_operation_is_measured_on_every_store_and_no_entry_remains() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}", folder.path().join("kv.db").display());
    kv().args(["--store", &sqlite, "set", "mine", "1"]).assert().success();
    let report = measured(&[&SHORT[..], &["memory:", &sqlite]].concat());

    let loads = report["loads"].as_array().unwrap();
    let summary =
        |load: &Value| (load["subject"].to_string(), load["durability"].to_string(), load["entries"].to_string());
    let expected = [("memory:", "nothing"), (sqlite.as_str(), "loss of power")];
    let expected = expected.map(|(name, survives)| (format!("{name:?}"), format!("{survives:?}"), "300".to_owned()));
    assert_eq!(loads.iter().map(summary).collect::<Vec<_>>(), expected);

    let closed = report["closed"].as_array().unwrap();
    let measured: Vec<_> = closed.iter().map(|closed| (closed["operation"].clone(), closed["tasks"].clone())).collect();
    let expected = OPERATIONS.iter().flat_map(|name| [1, 3].map(|tasks| ((*name).into(), tasks.into())));
    assert_eq!(measured, expected.collect::<Vec<_>>());
    for closed in closed {
        let [first, second] = &closed["sides"].as_array().unwrap()[..] else { panic!("{closed}") };
        assert!(first["ratio"].is_null() && second["ratio"]["median"].as_f64().unwrap() > 0.0, "{closed}");
        for side in [first, second] {
            let rate = ["min", "median", "max"].map(|part| side["rate"][part].as_f64().unwrap());
            assert!(rate[0] > 0.0 && rate.is_sorted(), "{side}");
            assert!(side["latency"]["samples"].as_u64().unwrap() >= 2, "{side}");
        }
    }
    for open in report["open"].as_array().unwrap() {
        for side in open["sides"].as_array().unwrap() {
            let latency = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
            assert!(latency.map(|part| side["latency"][part].as_f64().unwrap()).is_sorted(), "{side}");
            // 1,000 per second for 20 milliseconds.
            assert_eq!(side["latency"]["samples"], 20, "{side}");
        }
    }

    let remaining = kv().args(["--store", &sqlite, "list", "--keys"]).assert().success();
    assert_eq!(remaining.get_output().stdout, b"mine\n");
}

#[test]
fn a_report_has_tables_and_plots_for_all_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("a/report");
    let sizes = ["--operations", "get,list", "--entries", "100,1000", "--duration", "10ms", "--rounds", "1"];
    let output = kv().arg("bench").args(sizes).args(["--tasks", "1", "--report"]).arg(&report).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    for part in ["calls per second", "get, 1 task", "list at 1000/s", "by number of entries", "memory:, 1000"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let read = |file: &str| fs::read_to_string(report.join(file)).unwrap();
    assert_eq!(read("report.md").trim_end(), text.trim_end());
    assert_eq!(serde_json::from_str::<Value>(&read("report.json")).unwrap()["loads"].as_array().unwrap().len(), 2);
    for plot in ["throughput.svg", "latency.svg", "scaling.svg"] {
        assert!(read(plot).starts_with("<svg ") && read(plot).contains("memory:"), "{plot}");
    }
}

#[test]
fn unsupported_operations_are_skipped() {
    let url = "memory:?max_entries=1000";
    let report = measured(&[&SHORT[..], &["--rate", "0", "--operations", "get,get-miss,overwrite", url]].concat());
    let operations: Vec<_> = report["closed"].as_array().unwrap().iter().map(|closed| &closed["operation"]).collect();
    assert_eq!(operations, ["get-miss", "get-miss", "overwrite", "overwrite"]);
    assert_eq!(report["open"].as_array().unwrap().len(), 0);
}

#[test]
fn invalid_settings_are_rejected() {
    kv().args(["bench", "--operations", "fly"]).assert().code(2);
    kv().args(["bench", "--entries", "0"]).assert().code(2);
    kv().args(["bench", "--tasks", "0"]).assert().code(2);
    kv().args(["bench", "nowhere:"]).assert().code(2);
    // The value exceeds the limit of the store.
    let output = kv().args(["bench", "--value-bytes", "100000000", "--entries", "1"]).assert().code(2);
    assert!(String::from_utf8(output.get_output().stderr.clone()).unwrap().contains("invalid"));
}
