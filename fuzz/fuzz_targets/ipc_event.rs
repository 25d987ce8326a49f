//! libFuzzer's entry to `proto::ipc_event`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::ipc_event(data));
