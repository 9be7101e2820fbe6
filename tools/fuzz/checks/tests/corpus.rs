//! Runs the functions of the fuzz targets on their seeds, and on mutations of the seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The maximum length of an input, in bytes. This is the default of libFuzzer.
const MAX_BYTES: usize = 4_096;

fn run(target: &str, mutations: usize, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    let mut seeds: Vec<Vec<u8>> =
        fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    seeds.sort();
    assert!(seeds.len() >= 3, "{target} has too few seeds");
    let mut rng = StdRng::seed_from_u64(0x5eed);
    for seed in &seeds {
        check(seed);
    }
    for _ in 0..mutations {
        let mut input = seeds[rng.random_range(0..seeds.len())].clone();
        for _ in 0..rng.random_range(1..6) {
            mutate(&mut input, &seeds, &mut rng);
        }
        input.truncate(MAX_BYTES);
        check(&input);
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=input.len());
    match rng.random_range(0..6) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = [0, 0xff, b'#', b'$', b':', b'@', b'"', b'\n'][rng.random_range(0..8)],
        2 => input.insert(at, rng.random()),
        3 => input.truncate(at),
        4 => {
            let end = rng.random_range(at..=input.len());
            input.drain(at..end);
        }
        _ => {
            let other = &seeds[rng.random_range(0..seeds.len())];
            let start = rng.random_range(0..=other.len());
            let end = rng.random_range(start..=other.len());
            input.splice(at..at, other[start..end].iter().copied());
        }
    }
}

#[test]
fn seeds_and_mutations_of_key_text_pass() {
    run("key_text", 20_000, fuzz_checks::key_text);
}

#[test]
fn seeds_and_mutations_of_stored_header_pass() {
    run("stored_header", 20_000, fuzz_checks::stored_header);
}

#[test]
fn seeds_and_mutations_of_store_url_pass() {
    run("store_url", 10_000, fuzz_checks::store_url);
}

#[test]
fn seeds_and_mutations_of_json_lines_pass() {
    run("json_lines", 600, fuzz_checks::json_lines);
}

#[test]
fn seeds_and_mutations_of_transactions_pass() {
    run("transactions", 3_000, fuzz_checks::transactions);
}

#[test]
fn seeds_and_mutations_of_config_pass() {
    run("config", 10_000, fuzz_checks::config);
}

#[test]
fn seeds_and_mutations_of_lines_answers_pass() {
    run("lines_answers", 200, fuzz_checks::lines_answers);
}

#[test]
fn seeds_and_mutations_of_sqlite_row_pass() {
    run("sqlite_row", 500, fuzz_checks::sqlite_row);
}

#[test]
fn seeds_and_mutations_of_sled_files_pass() {
    run("sled_files", 300, fuzz_checks::sled_files);
}

#[test]
fn seeds_and_mutations_of_sled_records_pass() {
    run("sled_records", 60, fuzz_checks::sled_records);
}

#[test]
fn seeds_and_mutations_of_redis_entry_pass() {
    run("redis_entry", 600, fuzz_checks::redis_entry);
}

#[test]
fn seeds_and_mutations_of_postgres_row_pass() {
    run("postgres_row", 300, fuzz_checks::postgres_row);
}
