//! Replays of the recorded workload on correct stores.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use serde_json::Value;

use self::support::{kv, workload};

fn report(arguments: &[&str], file: &std::path::Path) -> Value {
    let output = kv().args(["--format", "json", "replay"]).arg(file).args(arguments).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

fn count(report: &Value, operation: &str) -> u64 {
    let latencies = report["latencies"].as_array().unwrap();
    latencies
        .iter()
        .find(|latency| latency["operation"] == operation)
        .map_or(0, |latency| latency["count"].as_u64().unwrap())
}

#[test]
fn the_whole_recording_has_no_wrong_result_with_1_and_16_clients() {
    for clients in ["1", "16"] {
        let report = report(&["--clients", clients], &workload());
        assert_eq!(
            (&report["wrong"], &report["errors"], &report["unchecked"]),
            (&0.into(), &0.into(), &0.into()),
            "{report}"
        );
        assert_eq!(report["rounds"][0]["operations"], 10_714);
        let counts = ["get", "set", "delete", "cas", "list"].map(|operation| count(&report, operation));
        assert_eq!(counts, [7_749, 2_777, 155, 32, 1]);
    }
}

#[test]
fn the_first_2000_lines_replay_from_a_plain_file() {
    let mut plain = tempfile::NamedTempFile::new().unwrap();
    let lines = BufReader::new(flate2::read::MultiGzDecoder::new(File::open(workload()).unwrap())).lines();
    for line in lines.take(2_000) {
        writeln!(plain, "{}", line.unwrap()).unwrap();
    }
    let report = report(&["--clients", "4", "--rounds", "3"], plain.path());
    assert_eq!((&report["wrong"], &report["errors"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(report["rounds"].as_array().unwrap().len(), 3);
    assert_eq!(
        ["get", "set", "delete", "cas", "list"].map(|operation| count(&report, operation)).iter().sum::<u64>(),
        6_000
    );
}

#[test]
fn a_prefilled_store_has_no_wrong_result() {
    let report = report(&["--clients", "16", "--prefill", "--prefill-scale", "0.01"], &workload());
    assert_eq!((&report["wrong"], &report["errors"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(report["prefill"]["entries"], 3_150);
}

#[test]
fn the_text_report_has_rates_latencies_and_wrong_results() {
    let output = kv().arg("replay").arg(workload()).args(["--clients", "2"]).assert().success().get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["10714 operations", "per second", "p99.9", "errors 0, wrong results 0"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_malformed_recording_is_rejected() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{{\"op\":\"get\",\"key\":[]}}").unwrap();
    let output = kv().arg("replay").arg(file.path()).assert().code(11).get_output().clone();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("line 1: ") && message.contains("segment"), "{message}");
}

#[test]
fn a_store_that_evicts_has_no_wrong_result() {
    let bounded = kv()
        .args(["--store", "memory:?max_entries=200", "--format", "json", "replay", "--clients", "4"])
        .arg(workload())
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&bounded.get_output().stdout).unwrap();
    assert_eq!((&report["wrong"], &report["errors"]), (&0.into(), &0.into()), "{report}");
}
