//! Fuzzes what `checks::json` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::json::check(data);
});
