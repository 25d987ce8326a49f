//! libFuzzer's entry to `proto::mailbox`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::proto::mailbox(data));
