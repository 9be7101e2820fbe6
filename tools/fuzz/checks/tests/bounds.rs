//! Checks that no input allocates more memory than a multiple of its own length.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use allocation_counter::measure;

/// A fuzz target with its memory limit: at most `per_byte * input length + fixed` bytes are allocated at the peak.
struct Target {
    name: &'static str,
    check: fn(&[u8]),
    per_byte: u64,
    fixed: u64,
}

impl Target {
    fn assert_limit(&self, input: &[u8], name: &str) {
        let peak = measure(|| (self.check)(input)).bytes_max;
        let limit = self.per_byte * input.len() as u64 + self.fixed;
        assert!(
            peak <= limit,
            "{}: the input `{name}` of {} bytes allocated {peak} bytes, more than {limit}",
            self.name,
            input.len()
        );
    }

    /// Runs the seeds and the crafted inputs. The first run is not measured, because it initialises lazy statics.
    fn check(&self, crafted: &[(&str, Vec<u8>)]) {
        (self.check)(b"");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(self.name);
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            self.assert_limit(&fs::read(&path).unwrap(), &path.file_name().unwrap().to_string_lossy());
        }
        for (name, input) in crafted {
            self.assert_limit(input, name);
        }
    }
}

/// The length of a crafted input, in bytes.
const LONG: usize = 1 << 20;

fn filled(before: &str, repeated: &str, after: &str) -> Vec<u8> {
    let mut input = before.as_bytes().to_vec();
    while input.len() < LONG {
        input.extend_from_slice(repeated.as_bytes());
    }
    input.extend_from_slice(after.as_bytes());
    input
}

#[test]
fn key_text_allocates_bounded_memory() {
    let target = Target { name: "key_text", check: fuzz_checks::key_text, per_byte: 40, fixed: 64 << 10 };
    target.check(&[
        ("one long segment", filled("", "x", "")),
        ("many empty segments", filled("a", "\u{1f}", "")),
        ("separators", filled("", "#", "")),
        ("escapes", filled("", "$00", "")),
    ]);
}

#[test]
fn stored_header_allocates_bounded_memory() {
    let target = Target { name: "stored_header", check: fuzz_checks::stored_header, per_byte: 4, fixed: 64 << 10 };
    target.check(&[("a long value", filled("\u{7f}", "x", "")), ("zeros", vec![0; LONG])]);
}

#[test]
fn store_url_allocates_bounded_memory() {
    // The PostgreSQL driver allocates some hundred bytes for each host of an address.
    let target = Target { name: "store_url", check: fuzz_checks::store_url, per_byte: 256, fixed: 1 << 20 };
    let part = |input: Vec<u8>| input[..64 << 10].to_vec();
    target.check(&[
        ("a long path", filled("sled:", "x", "")),
        ("a long password", filled("redis://u:", "p", "@h")),
        ("many hosts", part(filled("redis-cluster://a:1", ",a:1", ""))),
        ("many hosts", part(filled("postgres://a:1", ",a:1", "/d"))),
        ("a long option", filled("memory:?max_bytes=", "9", "")),
        ("one option repeated", filled("memory:?a=1", "&a=1", "")),
    ]);
}

#[test]
fn config_allocates_bounded_memory() {
    let target = Target { name: "config", check: fuzz_checks::config, per_byte: 40, fixed: 64 << 10 };
    target.check(&[
        ("deep arrays", filled("{\"pass\":", "[", "")),
        ("a long text", filled("{\"namespace\":\"", "x", "\"}")),
        ("a list of zeros", filled("{\"max_bytes\":[", "0,", "0]}")),
    ]);
}

#[test]
fn json_lines_allocates_bounded_memory() {
    let target = Target { name: "json_lines", check: fuzz_checks::json_lines, per_byte: 20, fixed: 48 << 20 };
    target.check(&[
        ("deep arrays", filled("{\"id\":", "[", "")),
        ("objects in the id", filled("{\"id\":[", "{\"\":0},", "0],\"op\":\"ping\"}")),
        ("objects in an argument", filled("{\"op\":\"get\",\"key\":[", "{\"\":0},", "0]}")),
        ("objects in an unknown argument", filled("{\"op\":\"get\",\"x\":[", "{\"\":0},", "0],\"key\":[\"a\"]}")),
        ("arrays for a number", filled("{\"op\":\"increment\",\"key\":[\"a\"],\"by\":[", "[0],", "0]}")),
        ("empty segments", filled("{\"op\":\"get\",\"key\":[", "\"\",", "\"\"]}")),
        ("short keys", filled("{\"op\":\"get_many\",\"keys\":[", "[\"\"],", "[\"\"]]}")),
        ("empty keys", filled("{\"op\":\"get_many\",\"keys\":[", "[],", "[]]}")),
        ("a line without an end", filled("", "x", "")),
        ("empty lines", filled("", "\n", "")),
    ]);
}

/// Short requests that name one large value many times. The response contains only as many values as fit.
#[test]
fn json_lines_limits_the_length_of_a_response() {
    let value = "v".repeat(LONG / 16);
    let keys = vec!["[\"a\"]"; 4_000].join(",");
    for request in [
        format!("{{\"op\":\"get_many\",\"keys\":[{keys}]}}"),
        format!(
            "{{\"op\":\"set_many\",\"items\":[{}]}}",
            vec!["{\"key\":[\"a\"],\"value\":\"\",\"when\":\"absent\"}"; 4_000].join(",")
        ),
    ] {
        let input = format!("{{\"op\":\"set\",\"key\":[\"a\"],\"value\":\"{value}\"}}\n{request}\n");
        let peak = measure(|| fuzz_checks::json_lines(input.as_bytes())).bytes_max;
        // All 4,000 values would be 250 MiB, and the memory holds the response more than once.
        assert!(peak < 160 << 20, "{peak} bytes");
    }
}

#[test]
fn lines_answers_allocates_bounded_memory() {
    // Unknown fields of an entry are kept until the entry is read completely, at up to 47 times their length.
    let target = Target { name: "lines_answers", check: fuzz_checks::lines_answers, per_byte: 64, fixed: 1 << 20 };
    let entry = |repeated: &str| {
        filled("\n{\"result\":{\"value\":\"v\",\"version\":null,\"expires_at\":null,\"x\":[", repeated, "0]}}\n")
    };
    target.check(&[
        ("an `info` without an end", filled("", "x", "")),
        ("objects for an `info`", filled("{\"result\":[", "{\"\":0},", "0]}\n")),
        ("objects in an entry", entry("{\"\":0},")),
        ("arrays in an entry", entry("[0],")),
        ("objects for an entry", filled("\n{\"result\":[", "{\"\":0},", "0]}\n")),
        ("a long text in an error", filled("\n{\"error\":{\"kind\":\"closed\",\"message\":\"", "x", "\"}}\n")),
        ("a long reply to a short request", filled("\n{}\n{}\n{}\n", "x", "\n")),
    ]);
}

#[test]
fn transactions_allocates_bounded_memory() {
    let target = Target { name: "transactions", check: fuzz_checks::transactions, per_byte: 40, fixed: 256 << 10 };
    target.check(&[("long", filled("", "\u{4}x", "")), ("many", filled("", "\u{4}\u{1}\n", ""))]);
}

#[test]
fn sled_files_allocates_bounded_memory() {
    // The template, its copy, and two segments of 512 KiB.
    let target = Target { name: "sled_files", check: fuzz_checks::sled_files, per_byte: 4, fixed: 8 << 20 };
    let lengths = (0..2_000_u32).step_by(7).map(|offset| {
        let all: Vec<u8> = (offset..offset + 12)
            .flat_map(|at| {
                let [_, a, b, c] = at.to_be_bytes();
                [a, b, c, 0xff]
            })
            .collect();
        ("lengths that are too long", all)
    });
    target.check(&lengths.collect::<Vec<_>>());
}
