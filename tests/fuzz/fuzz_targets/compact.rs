//! Fuzzes what `checks::compact` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::compact::check(data);
});
