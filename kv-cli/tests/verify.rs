//! `kv verify` on undamaged and damaged files.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::support::kv;

const ENTRIES: usize = 50;

/// Returns the URL of each embedded store, and the file that contains its values.
fn stores(folder: &Path) -> [(String, PathBuf); 2] {
    let path = |name: &str| folder.join(name).display().to_string();
    [
        (format!("sqlite:{}", path("kv.db")), folder.join("kv.db")),
        (format!("sled:{}", path("kv.sled")), folder.join("kv.sled/db")),
    ]
}

fn fill(url: &str) {
    let entries: Vec<_> = (0..ENTRIES)
        .map(|number| {
            format!("{{\"key\":\"k#{number:02}\",\"value\":\"the value of {number:02}\",\"expires_at\":null}}\n")
        })
        .collect();
    let export = format!(
        "{{\"format\":\"anykv-export\",\"version\":1}}\n{}{{\"end\":{{\"entries\":{ENTRIES}}}}}\n",
        entries.concat()
    );
    kv().args(["--store", url, "import", "-"]).write_stdin(export).assert().success();
}

/// Flips a bit in every occurrence of a text.
fn damage(file: &Path, text: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let copies: Vec<_> =
        (0..bytes.len()).filter(|&position| bytes.get(position..).is_some_and(|rest| rest.starts_with(text))).collect();
    assert!(!copies.is_empty());
    for position in copies {
        *bytes.get_mut(position).unwrap() ^= 1;
    }
    fs::write(file, bytes).unwrap();
}

fn verified(url: &str, code: i32) -> Value {
    let output = kv().args(["--store", url, "verify", "--format", "json"]).assert().code(code).get_output().clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn undamaged_files_are_reported_as_sound() {
    let folder = tempfile::tempdir().unwrap();
    for (url, _) in stores(folder.path()) {
        fill(&url);
        let found = verified(&url, 0);
        assert_eq!((&found["sound"], &found["entries"]), (&true.into(), &ENTRIES.into()), "{url}: {found}");
        let text = kv().args(["--store", &url, "verify"]).assert().success().get_output().stdout.clone();
        assert_eq!(String::from_utf8(text).unwrap(), "sound: 50 sound entries\n");
    }
}

#[test]
fn verify_exits_with_1_on_damage_and_salvages_the_undamaged_entries() {
    let folder = tempfile::tempdir().unwrap();
    for (index, (url, file)) in stores(folder.path()).into_iter().enumerate() {
        fill(&url);
        damage(&file, b"the value of 17");
        let found = verified(&url, 1);
        assert_eq!(found["sound"], false, "{url}: {found}");
        let saved = folder.path().join(format!("saved-{index}.jsonl")).display().to_string();
        kv().args(["--store", &url, "verify", "--salvage", &saved]).assert().code(1);
        // An existing file is not overwritten.
        kv().args(["--store", &url, "verify", "--salvage", &saved]).assert().code(10);
        let restored = format!("sqlite:{}", folder.path().join(format!("restored-{index}.db")).display());
        kv().args(["--store", &restored, "import", &saved]).assert().success();
        let list =
            kv().args(["--store", &restored, "list", "--format", "json"]).assert().success().get_output().clone();
        let list = String::from_utf8(list.stdout).unwrap();
        for line in list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let key = line["key"].as_str().unwrap();
            assert_eq!(line["value"], format!("the value of {}", &key[2..]), "{url}: a value that was never written");
        }
        assert_eq!(found["entries"], list.lines().count(), "{url}");
        if url.starts_with("sqlite") {
            assert_eq!((&found["entries"], &found["damaged_entries"]), (&(ENTRIES - 1).into(), &1.into()), "{found}");
        }
    }
}

#[test]
fn verify_does_not_create_a_missing_store() {
    let folder = tempfile::tempdir().unwrap();
    for (url, file) in stores(folder.path()) {
        kv().args(["--store", &url, "verify"]).assert().failure();
        assert!(!file.exists(), "{url}");
    }
    kv().args(["--store", "memory:", "verify"]).assert().code(2);
    let prefixed = format!("{}?prefix=a", stores(folder.path())[0].0);
    kv().args(["--store", &prefixed, "verify"]).assert().code(2);
}

#[test]
fn a_store_with_foreign_objects_is_reported_with_exit_code_1() {
    let foreign = [
        ("CREATE TRIGGER sekret AFTER INSERT ON kv BEGIN DELETE FROM kv; END", "a trigger", ENTRIES),
        ("CREATE INDEX sekret ON kv (hex(version))", "an index on an expression", ENTRIES),
        ("ALTER TABLE kv ADD COLUMN sekret INTEGER AS (abs(checksum)) VIRTUAL", "a generated column", 0),
        ("DROP TABLE kv; CREATE VIEW kv AS SELECT 'sekret'", "a view", 0),
    ];
    for (sql, kind, entries) in foreign {
        let folder = tempfile::tempdir().unwrap();
        let [(url, file), _] = stores(folder.path());
        fill(&url);
        kv_sqlite::rusqlite::Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        kv().args(["--store", &url, "list"]).assert().code(8);
        let found = verified(&url, 1);
        assert_eq!((&found["sound"], &found["entries"]), (&false.into(), &entries.into()), "{sql}: {found}");
        let problems = found["problems"].to_string();
        assert!(problems.contains(kind) && !problems.contains("sekret"), "{sql}: {problems}");
        let saved = folder.path().join("saved.jsonl").display().to_string();
        kv().args(["--store", &url, "verify", "--salvage", &saved]).assert().code(1);
        let restored = format!("sqlite:{}", folder.path().join("restored.db").display());
        kv().args(["--store", &restored, "import", &saved]).assert().success();
        assert_eq!(verified(&restored, 0)["entries"], entries, "{sql}");
    }
}

#[test]
fn a_file_of_another_program_is_an_error_and_not_a_damaged_store() {
    let folder = tempfile::tempdir().unwrap();
    let [(url, file), _] = stores(folder.path());
    kv_sqlite::rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE kv (sekret)").unwrap();
    let before = fs::read(&file).unwrap();
    let output = kv().args(["--store", &url, "verify"]).assert().code(8).get_output().clone();
    assert!(String::from_utf8(output.stderr).unwrap().contains("another program"));
    assert!(fs::read(&file).unwrap() == before);
}
