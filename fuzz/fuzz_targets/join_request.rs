//! libFuzzer's entry to `trust::join_request`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::trust::join_request(data));
