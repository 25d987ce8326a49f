//! libFuzzer's entry to `trust::certificate`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::trust::certificate(data));
