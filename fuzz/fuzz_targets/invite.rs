//! libFuzzer's entry to `trust::invite`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::trust::invite(data));
