//! Fuzzes what `checks::jwk` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::jwk::check(data);
});
