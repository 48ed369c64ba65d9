//! Fuzzes what `checks::overlay_metadata` asserts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::overlay_metadata::check(data);
});
