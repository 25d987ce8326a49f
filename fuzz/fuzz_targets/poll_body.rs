//! libFuzzer's entry to `proto::poll_body`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::poll_body(data));
