//! libFuzzer's entry to `trust::sealed_content`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::trust::sealed_content(data));
