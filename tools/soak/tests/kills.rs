//! Short runs of the program.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

use assert_cmd::Command;
use assert_cmd::assert::Assert;

fn soak(arguments: &[&str]) -> Assert {
    Command::cargo_bin("soak").unwrap().arg("kills").args(arguments).assert()
}

/// Runs a few rounds and returns the counted kills and acknowledged operations.
fn survives(store: &str) {
    let assert = soak(&[store, "--rounds", "5", "--seed", "7"]).success();
    let output = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    let line = output.lines().last().unwrap();
    assert!(line.contains("5 rounds, 5 kills") && line.ends_with("0 lost, 0 wrong"), "{output}");
    assert!(!line.contains(" 0 operations acknowledged"), "{output}");
}

#[test]
fn sqlite_survives_kills() {
    survives("sqlite");
}

#[test]
fn sled_survives_kills() {
    survives("sled");
}

#[test]
fn a_damaged_store_ends_with_the_exit_code_1() {
    for (damage, expected) in [
        ("lost", "Lost at key task"),
        ("torn", "the keys have parts of several transactions"),
        ("doubled", "Wrong at key shared#count1"),
    ] {
        let assert = soak(&["sqlite", "--rounds", "3", "--seed", "7", "--damage", damage]).code(1);
        let output = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
        assert!(output.contains(expected), "{damage}: {output}");
    }
}

#[test]
fn a_store_that_loses_acknowledged_writes_by_declaration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sled:{}?durability=interval:1s", folder.path().join("store").display());
    let assert = soak(&[&url, "--rounds", "1"]).code(2);
    let output = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(output.contains("acknowledged writes may be lost"), "{output}");
}
