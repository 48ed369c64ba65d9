//! Fuzzes what `checks::yaml` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::yaml::check(data);
});
