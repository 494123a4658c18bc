//! libFuzzer's entry to this target.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ping_fuzz::cloud_events(bytes));
