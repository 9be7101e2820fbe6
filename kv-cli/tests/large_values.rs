//! Export and import of values of the greatest size that a store takes, and of lines that are too long.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::io::{BufReader, Read};
use std::path::Path;

use anykv::{Bytes, ErrorKind, Key, Kv, KvStore, SetOptions};
use kv_cli::{Failure, Progress, transfer};

use self::support::kv;

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

/// Values of `bytes` bytes: plain text, text in which each character is escaped, text that is shorter as base64, and
/// bytes that are not text.
fn values(bytes: usize) -> [(&'static str, Bytes); 4] {
    [("plain", b'a'), ("quotes", b'"'), ("controls", 1), ("bytes", 0xff)]
        .map(|(name, byte)| (name, vec![byte; bytes].into()))
}

fn encoded_as_base64(export: &[u8]) -> usize {
    let lines = export.split(|&byte| byte == b'\n');
    lines.filter(|line| String::from_utf8_lossy(line).contains("\"encoding\":\"base64\"")).count()
}

/// Fills a store with the greatest values, and pipes its export into another store by the program.
async fn round_trip(from: &str, to: &str, name: &str, kinds: &[&str]) {
    let (source, target) = (anykv::open(from).await.unwrap(), anykv::open(to).await.unwrap());
    let max = source.store().info().limits.max_value_bytes;
    assert_eq!(target.store().info().limits.max_value_bytes, max, "{name}");
    let values = || values(max).into_iter().filter(|(name, _)| kinds.contains(name));
    for (name, value) in values() {
        let _ = source.store().set(&key(name), value, &SetOptions::default()).await.unwrap();
    }
    let above = source.store().set(&key("above"), vec![7; max + 1].into(), &SetOptions::default()).await;
    assert_eq!(above.unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    source.close().await.unwrap();
    target.close().await.unwrap();
    let (from, to) = (from.to_owned(), to.to_owned());
    let (export, to) = tokio::task::spawn_blocking(move || {
        let export = kv().args(["--store", &from, "export"]).assert().success().get_output().stdout.clone();
        kv().args(["--store", &to, "import", "-"]).write_stdin(export.clone()).assert().success();
        (export, to)
    })
    .await
    .unwrap();
    let not_plain = kinds.iter().filter(|kind| **kind != "plain").count();
    assert_eq!(encoded_as_base64(&export), not_plain, "{name}");
    let target = anykv::open(&to).await.unwrap();
    for (value_name, value) in values() {
        let found = target.store().get(&key(value_name)).await.unwrap().unwrap();
        assert!(found.value == value, "{name}: {value_name}");
    }
    target.close().await.unwrap();
}

#[tokio::test]
async fn values_of_the_greatest_size_survive_export_and_import() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, scheme, options, kinds) in [
        ("the default limit of sqlite", "sqlite", "", ["plain", "quotes", "controls", "bytes"].as_slice()),
        ("a greater limit", "sqlite", "?max_value=24MiB", &["controls"]),
        ("sled", "sled", "", &["controls"]),
    ] {
        let [from, to] = ["from", "to"].map(|end| format!("{scheme}:{}{options}", path(&format!("{name} {end}"))));
        round_trip(&from, &to, name, kinds).await;
    }
}

/// An import from a reader, so that a long line takes no memory beforehand.
async fn import(kv: &Kv, source: impl Read + Send) -> Result<u64, Failure> {
    transfer::import(kv.store(), &mut BufReader::new(source), &Progress::hidden()).await
}

const HEADER: &str =
    "{\"format\":\"anykv-export\",\"version\":1}\n{\"key\":\"new\",\"value\":\"n\",\"expires_at\":null}\n";

async fn store_with_an_entry(folder: &Path, options: &str) -> Kv {
    let kv = anykv::open(&format!("sqlite:{}{options}", folder.join("kv.db").display())).await.unwrap();
    let _ = kv.store().set(&key("old"), "precious".into(), &SetOptions::default()).await.unwrap();
    kv
}

#[tokio::test]
async fn a_line_over_the_limit_is_an_error_with_the_line_number_and_no_stored_entry_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let kv = store_with_an_entry(folder.path(), "").await;
    let long = b"{\"key\":\"old\",\"value\":\"".chain(std::io::repeat(b'a').take(200 << 20));
    let failure = import(&kv, HEADER.as_bytes().chain(long)).await.unwrap_err();
    let text = failure.to_string();
    assert_eq!(failure.code(), 11, "{text}");
    assert!(text.contains("line 3: the line is longer than 134217728 bytes"), "{text}");
    assert_eq!(kv.store().get(&key("old")).await.unwrap().unwrap().value, "precious");
}

#[tokio::test]
async fn a_value_over_the_limit_of_the_store_is_an_error_with_the_line_number_and_no_stored_entry_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let kv = store_with_an_entry(folder.path(), "?max_value=8MiB").await;
    for (value, encoding) in [("a".repeat((8 << 20) + 1), ""), ("AAAA".repeat(3 << 20), ",\"encoding\":\"base64\"")] {
        let line = format!("{{\"key\":\"old\",\"value\":\"{value}\"{encoding},\"expires_at\":null}}\n");
        let failure = import(&kv, HEADER.as_bytes().chain(line.as_bytes())).await.unwrap_err();
        let text = failure.to_string();
        assert_eq!(failure.code(), 2, "{text}");
        // An error shows the hash of a key instead of the key, because a key may be a secret.
        assert!(text.contains("line 3: ") && text.contains("8388608") && text.contains("(key ~"), "{text}");
        assert_eq!(kv.store().get(&key("old")).await.unwrap().unwrap().value, "precious");
    }
}
