//! libFuzzer's entry to `proto::frame`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::frame(data));
