//! Fuzzes what `checks::route` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::route::check(data);
});
