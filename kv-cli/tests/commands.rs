//! Runs the commands of the program: answers, exit codes and output formats.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use self::support::kv;

fn stdout(command: &mut assert_cmd::Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn stderr(command: &mut assert_cmd::Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn set_prints_the_version_of_the_write() {
    let version = stdout(kv().args(["set", "users#1", "ada"]));
    assert!(version.trim_end().parse::<anykv::Version>().is_ok(), "{version:?}");
    let shown = json_lines(&stdout(kv().args(["--format", "json", "set", "users#1", "-"]).write_stdin("ada")));
    assert!(shown[0]["outcome"] == "stored" && shown[0]["version"].is_string(), "{shown:?}");
}

#[test]
fn a_missing_key_is_the_answer_no() {
    for command in [&["get", "a"][..], &["delete", "a"], &["ttl", "a"], &["ttl", "a", "--never"]] {
        let message = stderr(kv().args(command), 1);
        assert!(message.contains("no entry under `a`"), "{command:?}: {message}");
    }
    let output = kv().args(["get", "a", "--format", "json"]).assert().code(1).get_output().stdout.clone();
    assert_eq!(output, b"null\n");
}

#[test]
fn a_refused_condition_is_the_answer_no() {
    let version = "00112233445566778899aabbccddeeff";
    for condition in [&["--if-present"][..], &["--if-version", version]] {
        assert!(stderr(kv().args(["set", "a", "b"]).args(condition), 1).contains("refused"));
    }
    let output = kv().args(["set", "a", "b", "--if-present", "--format", "json"]).assert().code(1).get_output().clone();
    assert_eq!(json_lines(std::str::from_utf8(&output.stdout).unwrap()), [json!({"outcome":"refused","current":null})]);
    assert!(stderr(kv().args(["delete", "a", "--if-version", version]), 1).contains("refused"));
    kv().args(["set", "a", "b", "--if-absent"]).assert().success();
}

#[test]
fn wrong_usage_exits_with_2_and_lists_the_alternatives() {
    assert!(stderr(kv().args(["list", "--revers"]), 2).contains("--reverse"));
    assert!(stderr(kv().args(["gett", "a"]), 2).contains("get"));
    assert!(stderr(kv().args(["set", "a", "b", "--if-absent", "--if-present"]), 2).contains("cannot be used with"));
    assert!(stderr(kv().args(["get", "a b"]), 2).contains("not canonical"));
    assert!(stderr(kv().args(["set", "a", "b", "--ttl", "soon"]), 2).contains("duration"));
    let option = stderr(kv().args(["--store", "memory:?max_entris=5", "list"]), 2);
    // The option itself may be a secret that was typed in the wrong place.
    assert!(option.contains("unknown") && option.contains("did you mean `max_entries`?"), "{option}");
    let scheme = stderr(kv().args(["--store", "memroy:", "list"]), 2);
    assert!(scheme.contains("memroy:") && scheme.contains("memory:"), "{scheme}");
    assert!(
        stderr(kv().args(["serve", "--json-lines", "--listen", "0.0.0.0:0"]), 2).contains("not a loopback address")
    );
    assert!(stderr(kv().args(["serve"]), 2).contains("--json-lines"));
}

#[test]
fn an_unreadable_file_and_a_wrong_format_have_different_exit_codes() {
    assert!(stderr(kv().args(["import", "/nonexistent/file"]), 10).contains("/nonexistent/file"));
    assert!(stderr(kv().args(["set", "a", "@/nonexistent/file"]), 10).contains("/nonexistent/file"));
    assert!(
        stderr(kv().args(["import", "-"]).write_stdin("hello\n"), 11).contains("line 1: the file is not an export")
    );
}

#[test]
fn the_store_option_overrides_the_environment() {
    assert!(stderr(kv().env("KV_STORE", "nowhere:").arg("list"), 2).contains("nowhere"));
    kv().env("KV_STORE", "nowhere:").args(["--store", "memory:", "list"]).assert().success();
    let help = stdout(kv().env("KV_STORE", "redis://ada:canary@host").arg("--help"));
    assert!(help.contains("KV_STORE") && !help.contains("canary"), "{help}");
}

#[test]
fn watch_prints_the_snapshot_and_exits_after_the_count() {
    let text = stdout(kv().args(["watch", "--snapshot", "--count", "1"]));
    assert_eq!(text, "snapshot-end\n");
    let shown = json_lines(&stdout(kv().args(["watch", "users", "--snapshot", "--count", "1", "--format", "json"])));
    assert_eq!(shown, [json!({"event": "snapshot-end"})]);
}

#[test]
fn schemes_and_completions_are_printed() {
    let schemes = json_lines(&stdout(kv().args(["schemes", "--format", "json"])));
    assert!(schemes.iter().any(|scheme| scheme["scheme"] == "memory"), "{schemes:?}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(kv().args(["completions", shell])).contains("if-absent"), "{shell}");
    }
}

#[test]
fn a_closed_stdout_ends_the_program_without_a_message() {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("kv"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_command_that_reads_does_not_create_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/kv.db", folder.path().display());
    kv().args(["--store", &url, "set", "a", "1"]).assert().success();
    let mistyped = format!("{url}?table=mistyped");
    for _ in 0..2 {
        for arguments in [&["get", "a"][..], &["list"], &["export"], &["verify"], &["copy", &mistyped, "memory:"]] {
            let output = kv().args(["--store", &mistyped]).args(arguments).assert().code(2).get_output().clone();
            let message = String::from_utf8(output.stderr).unwrap();
            assert!(message.contains("there is no store"), "{arguments:?}: {message}");
        }
    }
    kv().args(["--store", &mistyped, "set", "a", "1"]).assert().success();
    kv().args(["--store", &mistyped, "get", "a"]).assert().success();
}

#[test]
fn an_empty_file_is_no_store_and_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kv.db");
    std::fs::write(&file, "").unwrap();
    for arguments in [&["list"][..], &["verify"]] {
        kv().args(["--store", &format!("sqlite:{}", file.display())]).args(arguments).assert().code(2);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 0, "{arguments:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{arguments:?}");
    }
}

#[test]
fn a_command_that_reads_does_not_create_a_store() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["sqlite", "sled"].map(|scheme| format!("{scheme}:{}/mistyped", folder.path().display())) {
        for arguments in [
            &["get", "a"][..],
            &["list"],
            &["export"],
            &["copy", &url, "memory:"],
            &["watch", "--snapshot", "--count", "1"],
            &["ttl", "a"],
            &["verify"],
        ] {
            let output = kv().args(["--store", &url]).args(arguments).assert().failure().get_output().clone();
            let message = String::from_utf8(output.stderr).unwrap();
            assert!(message.contains("there is no store"), "{arguments:?}: {message}");
            assert!(output.status.code() == Some(2), "{arguments:?}: {message}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{url}");
        kv().args(["--store", &url, "set", "a", "1"]).assert().success();
        kv().args(["--store", &url, "get", "a"]).assert().success();
        let path = folder.path().join("mistyped");
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        // Remove the files beside the store file, such as a log.
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let _ = std::fs::remove_file(file.unwrap().path());
        }
    }
}

#[test]
fn an_invalid_path_exits_with_2() {
    for url in ["sqlite:", "sled:", "sqlite:%ff"] {
        kv().args(["--store", url, "set", "a", "1"]).assert().code(2);
        kv().args(["--store", url, "get", "a"]).assert().code(2);
    }
}
