//! Fuzzes what `checks::overlay_keys` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::overlay_keys::check(data);
});
