//! Fuzzes what `checks::pem` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::pem::check(data);
});
