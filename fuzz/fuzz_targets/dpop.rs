//! libFuzzer's entry to `trust::dpop`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::trust::dpop(data));
