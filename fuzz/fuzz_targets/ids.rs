//! libFuzzer's entry to `proto::ids`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::ids(data));
