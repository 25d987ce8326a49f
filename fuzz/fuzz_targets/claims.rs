//! libFuzzer's entry to `trust::claims`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::trust::claims(data));
