//! libFuzzer's entry to `proto::envelope`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::envelope(data));
