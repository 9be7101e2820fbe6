//! Export, import and copy preserve every entry exactly.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::time::{Duration, SystemTime};

use anykv::{Expires, Expiry, Key, KeyPrefix, Kv, ListQuery, SetOptions};
use kv_cli::{Failure, Progress, transfer};

use self::support::kv;

const YEAR_2100: Duration = Duration::from_secs(4_102_444_800);

async fn memory() -> Kv {
    anykv::open("memory:").await.unwrap()
}

/// Returns a store with unusual keys, binary values and deadlines.
async fn filled() -> Kv {
    let kv = memory().await;
    let keys: [&[&str]; 9] = [
        &[""],
        &["", ""],
        &["a"],
        &["a", "b\n\0"],
        &["a#b", "$41"],
        &["é🦀", "\u{202e}\u{7f}\u{9b}"],
        &["\"quoted\"", "\\"],
        &["https://example.com/a#b"],
        &["end"],
    ];
    let values: [&[u8]; 5] = [b"", b"text \xc3\xa9", b"\xff\x00\xfe", b"{\"end\":{\"entries\":1}}\n", &[0x80; 3_000]];
    for ((number, segments), value) in keys.iter().enumerate().zip(values.iter().cycle()) {
        let deadline = SystemTime::UNIX_EPOCH + YEAR_2100 + Duration::from_millis(number as u64);
        let expiry = if number % 2 == 0 { Expiry::Never } else { Expiry::At(deadline) };
        let options = SetOptions::default().with_expiry(expiry);
        let value = value.to_vec().into();
        let _ = kv.store().set(&Key::new(*segments).unwrap(), value, &options).await.unwrap();
    }
    for number in 0..2_500 {
        let key = Key::new(["many", &Key::ordered(number)]).unwrap();
        let _ = kv.store().set(&key, number.to_string().into(), &SetOptions::default()).await.unwrap();
    }
    kv
}

async fn export(kv: &Kv) -> Vec<u8> {
    let mut file = Vec::new();
    transfer::export(kv.store(), KeyPrefix::ALL, &mut file, &Progress::hidden()).await.unwrap();
    file
}

async fn import(kv: &Kv, mut file: &[u8]) -> Result<u64, Failure> {
    transfer::import(kv.store(), &mut file, &Progress::hidden()).await
}

#[tokio::test]
async fn an_export_of_an_import_is_the_same_file() {
    let file = export(&filled().await).await;
    assert_eq!(file.split(|&byte| byte == b'\n').count(), 2_509 + 3);
    let copy = memory().await;
    assert_eq!(import(&copy, &file).await.unwrap(), 2_509);
    assert!(export(&copy).await == file);
    let key = Key::new(["", ""]).unwrap();
    let expires = copy.store().get(&key).await.unwrap().unwrap().expires;
    assert_eq!(expires, Expires::At(SystemTime::UNIX_EPOCH + YEAR_2100 + Duration::from_millis(1)));
}

#[tokio::test]
async fn a_copy_is_exact_and_resumes_after_a_key() {
    let (from, to) = (filled().await, memory().await);
    let mut positions = Vec::new();
    let mut on_batch = |key: &Key| positions.push(key.clone());
    transfer::copy(from.store(), to.store(), ListQuery::default(), &mut on_batch, &Progress::hidden()).await.unwrap();
    assert!(export(&to).await == export(&from).await);
    assert!(positions.len() > 3 && positions.is_sorted(), "{positions:?}");

    let rest = memory().await;
    let progress = Progress::hidden();
    let query = ListQuery::default().with_after(positions[1].clone());
    transfer::copy(from.store(), rest.store(), query, &mut |_| {}, &progress).await.unwrap();
    let skipped = from.store().list(&ListQuery::default().with_before(positions[1].clone())).await.unwrap();
    assert_eq!(progress.position(), 2_509 - skipped.items.len() as u64 - 1);
}

#[tokio::test]
async fn an_export_of_control_characters_is_base64_and_imports() {
    let (from, to) = (memory().await, memory().await);
    let key = Key::new(["controls"]).unwrap();
    // Escaped text would take six bytes for each byte of the value.
    let value = vec![1; 16 << 20];
    let _ = from.store().set(&key, value.clone().into(), &SetOptions::default()).await.unwrap();
    let file = export(&from).await;
    assert!(file.len() < 23 << 20, "{}", file.len());
    assert_eq!(import(&to, &file).await.unwrap(), 1);
    assert!(to.store().get(&key).await.unwrap().unwrap().value == value);
}

#[tokio::test]
async fn damage_in_an_export_is_reported_with_its_line() {
    let file = String::from_utf8(export(&filled().await).await).unwrap();
    let lines: Vec<&str> = file.lines().collect();
    let bad = |lines: Vec<&str>| lines.join("\n") + "\n";
    let cases = [
        (bad(lines[..2_510].to_vec()), "truncated"),
        (bad([&lines[..5], &lines[6..]].concat()), "has 2508 entries instead of 2509"),
        (bad([&lines[..], &lines[1..2]].concat()), "continues after its footer"),
        (file.replacen("\"version\":1", "\"version\":2", 1), "format version 2"),
        (file.replacen("\"expires_at\":null", "\"expires\":null", 1), "line 2: unknown field `expires`"),
        (file.replacen(",\"expires_at\":null", "", 1), "line 2: missing field `expires_at`"),
        (file.replacen("\"key\":\"a\"", "\"key\":\"$41\"", 1), "not canonical"),
        (file.replacen("\"encoding\":\"base64\"", "\"encoding\":\"base65\"", 1), "unknown variant `base65`"),
        (String::new(), "line 1: the file is not an export"),
    ];
    for (damaged, expected) in cases {
        let failure = import(&memory().await, damaged.as_bytes()).await.unwrap_err();
        assert!(failure.code() == 11 && failure.to_string().contains(expected), "{failure} instead of {expected}");
    }
}

#[tokio::test]
async fn an_entry_whose_deadline_has_passed_is_absent_after_the_import() {
    let kv = memory().await;
    let file = concat!(
        "{\"format\":\"anykv-export\",\"version\":1}\n",
        "{\"key\":\"a\",\"value\":\"x\",\"expires_at\":1000}\n",
        "{\"end\":{\"entries\":1}}\n",
    );
    assert_eq!(import(&kv, file.as_bytes()).await.unwrap(), 1);
    assert_eq!(kv.store().get(&Key::new(["a"]).unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn the_program_imports_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.jsonl");
    let file = export(&filled().await).await;
    std::fs::write(&path, &file).unwrap();
    let output = kv().arg("import").arg(&path).assert().success().get_output().stderr.clone();
    assert_eq!(String::from_utf8(output).unwrap(), "kv: imported 2509 entries\n");
    let output = kv().args(["import", "-", "--format", "json"]).write_stdin(file.clone()).assert().success();
    assert_eq!(output.get_output().stdout, b"{\"imported\":2509}\n");
    kv().args(["import", "-"]).write_stdin(&file[..file.len() / 2]).assert().code(11);
}

#[test]
fn the_program_exports_an_empty_store_to_stdout_and_to_a_file() {
    let empty = "{\"format\":\"anykv-export\",\"version\":1}\n{\"end\":{\"entries\":0}}\n";
    assert_eq!(kv().arg("export").assert().success().get_output().stdout, empty.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.jsonl");
    let output = kv().args(["export", "users", "--format", "json", "--out"]).arg(&path).assert().success();
    assert_eq!(output.get_output().stdout, b"{\"exported\":0}\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), empty);
    kv().arg("import").arg(&path).assert().success();
}

#[test]
fn the_program_copies_and_prints_the_number_of_entries() {
    let output = kv().args(["copy", "memory:", "memory:", "--format", "json"]).assert().success().get_output().clone();
    assert_eq!(output.stdout, b"{\"copied\":0,\"done\":true,\"position\":null}\n");
    let output =
        kv().args(["copy", "memory:", "memory:", "--resume-after", "a#b"]).assert().success().get_output().clone();
    assert!(String::from_utf8(output.stderr).unwrap().contains("up to `a#b`"));
}

#[cfg(unix)]
#[test]
fn exports_are_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("new"), folder.path().join("old"));
    std::fs::write(&old, "an older export").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    for path in [&new, &old] {
        kv().args(["export", "--out"]).arg(path).assert().success();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
