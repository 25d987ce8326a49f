//! libFuzzer's entry to `proto::control_server`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::control_server(data));
