#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_checks::sled_records(data));
