//! libFuzzer's entry to `proto::fault`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::fault(data));
