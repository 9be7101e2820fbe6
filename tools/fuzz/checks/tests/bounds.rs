//! Nothing from outside makes a door allocate more than some times its own length.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use allocation_counter::measure;

/// A door, with what it may have allocated at its peak: so many bytes for each byte of the input, and so many in any case.
struct Door {
    name: &'static str,
    check: fn(&[u8]),
    each: u64,
    any: u64,
}

impl Door {
    fn holds(&self, input: &[u8], what: &str) {
        let peak = measure(|| (self.check)(input)).bytes_max;
        let most = self.each * input.len() as u64 + self.any;
        assert!(
            peak <= most,
            "{}: {what}, {} bytes, made it allocate {peak} bytes, not {most}",
            self.name,
            input.len()
        );
    }

    /// Over the seeds, and the crafted inputs. The first run is not measured: it makes what is made once.
    fn check(&self, crafted: &[(&str, Vec<u8>)]) {
        (self.check)(b"");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(self.name);
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            self.holds(&fs::read(&path).unwrap(), &path.file_name().unwrap().to_string_lossy());
        }
        for (what, input) in crafted {
            self.holds(input, what);
        }
    }
}

const LONG: usize = 1 << 20;

fn filled(before: &str, again: &str, after: &str) -> Vec<u8> {
    let mut input = before.as_bytes().to_vec();
    while input.len() < LONG {
        input.extend_from_slice(again.as_bytes());
    }
    input.extend_from_slice(after.as_bytes());
    input
}

#[test]
fn key_text() {
    let door = Door { name: "key_text", check: fuzz_checks::key_text, each: 40, any: 64 << 10 };
    door.check(&[
        ("one long segment", filled("", "x", "")),
        ("many empty segments", filled("a", "\u{1f}", "")),
        ("separators", filled("", "#", "")),
        ("escapes", filled("", "$00", "")),
    ]);
}

#[test]
fn stored_header() {
    let door = Door { name: "stored_header", check: fuzz_checks::stored_header, each: 4, any: 64 << 10 };
    door.check(&[("a long value", filled("\u{7f}", "x", "")), ("zeros", vec![0; LONG])]);
}

#[test]
fn store_url() {
    // Of an address with many hosts, the driver of PostgreSQL makes some hundred bytes for each.
    let door = Door { name: "store_url", check: fuzz_checks::store_url, each: 256, any: 1 << 20 };
    let part = |input: Vec<u8>| input[..64 << 10].to_vec();
    door.check(&[
        ("a long path", filled("sled:", "x", "")),
        ("a long password", filled("redis://u:", "p", "@h")),
        ("many hosts", part(filled("redis-cluster://a:1", ",a:1", ""))),
        ("many hosts", part(filled("postgres://a:1", ",a:1", "/d"))),
        ("a long option", filled("memory:?max_bytes=", "9", "")),
        ("one option again", filled("memory:?a=1", "&a=1", "")),
    ]);
}

#[test]
fn config() {
    let door = Door { name: "config", check: fuzz_checks::config, each: 40, any: 64 << 10 };
    door.check(&[
        ("deep arrays", filled("{\"pass\":", "[", "")),
        ("a long text", filled("{\"namespace\":\"", "x", "\"}")),
        ("a list of nothing", filled("{\"max_bytes\":[", "0,", "0]}")),
    ]);
}

#[test]
fn json_lines() {
    let door = Door { name: "json_lines", check: fuzz_checks::json_lines, each: 20, any: 48 << 20 };
    door.check(&[
        ("deep arrays", filled("{\"id\":", "[", "")),
        ("objects in the id", filled("{\"id\":[", "{\"\":0},", "0],\"op\":\"ping\"}")),
        ("objects in an argument", filled("{\"op\":\"get\",\"key\":[", "{\"\":0},", "0]}")),
        ("objects in an unknown argument", filled("{\"op\":\"get\",\"x\":[", "{\"\":0},", "0],\"key\":[\"a\"]}")),
        ("arrays for a number", filled("{\"op\":\"increment\",\"key\":[\"a\"],\"by\":[", "[0],", "0]}")),
        ("empty segments", filled("{\"op\":\"get\",\"key\":[", "\"\",", "\"\"]}")),
        ("short keys", filled("{\"op\":\"get_many\",\"keys\":[", "[\"\"],", "[\"\"]]}")),
        ("empty keys", filled("{\"op\":\"get_many\",\"keys\":[", "[],", "[]]}")),
        ("a line without an end", filled("", "x", "")),
        ("lines of nothing", filled("", "\n", "")),
    ]);
}

/// A short request that names one large value over and over is answered by what one answer has room for.
#[test]
fn json_lines_does_not_repeat_a_value_without_end() {
    let value = "v".repeat(LONG / 16);
    let keys = vec!["[\"a\"]"; 4_000].join(",");
    for again in [
        format!("{{\"op\":\"get_many\",\"keys\":[{keys}]}}"),
        format!(
            "{{\"op\":\"set_many\",\"items\":[{}]}}",
            vec!["{\"key\":[\"a\"],\"value\":\"\",\"when\":\"absent\"}"; 4_000].join(",")
        ),
    ] {
        let input = format!("{{\"op\":\"set\",\"key\":[\"a\"],\"value\":\"{value}\"}}\n{again}\n");
        let peak = measure(|| fuzz_checks::json_lines(input.as_bytes())).bytes_max;
        // All 4,000 would be 250 MiB, some times over.
        assert!(peak < 160 << 20, "{peak} bytes");
    }
}

#[test]
fn lines_answers() {
    // What stands beside the known fields of an entry is kept until all of it is read, at up to 47 times its length.
    let door = Door { name: "lines_answers", check: fuzz_checks::lines_answers, each: 64, any: 1 << 20 };
    let entry = |again: &str| {
        filled("\n{\"result\":{\"value\":\"v\",\"version\":null,\"expires_at\":null,\"x\":[", again, "0]}}\n")
    };
    door.check(&[
        ("what the server is, without end", filled("", "x", "")),
        ("objects where the server is told", filled("{\"result\":[", "{\"\":0},", "0]}\n")),
        ("objects in an entry", entry("{\"\":0},")),
        ("arrays in an entry", entry("[0],")),
        ("objects for an entry", filled("\n{\"result\":[", "{\"\":0},", "0]}\n")),
        ("a long text in an error", filled("\n{\"error\":{\"kind\":\"closed\",\"message\":\"", "x", "\"}}\n")),
        ("a long answer to a short question", filled("\n{}\n{}\n{}\n", "x", "\n")),
    ]);
}

#[test]
fn transactions() {
    let door = Door { name: "transactions", check: fuzz_checks::transactions, each: 40, any: 256 << 10 };
    door.check(&[("long", filled("", "\u{4}x", "")), ("many", filled("", "\u{4}\u{1}\n", ""))]);
}

#[test]
fn sled_files() {
    // The template, its copy, and two segments of half a megabyte.
    let door = Door { name: "sled_files", check: fuzz_checks::sled_files, each: 4, any: 8 << 20 };
    let lengths = (0..2_000_u32).step_by(7).map(|place| {
        let all: Vec<u8> = (place..place + 12)
            .flat_map(|at| {
                let [_, a, b, c] = at.to_be_bytes();
                [a, b, c, 0xff]
            })
            .collect();
        ("lengths that are too long", all)
    });
    door.check(&lengths.collect::<Vec<_>>());
}
