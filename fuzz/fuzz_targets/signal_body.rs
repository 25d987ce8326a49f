//! libFuzzer's entry to `proto::signal_body`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::signal_body(data));
