//! libFuzzer's entry to `net::stun_answer`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::net::stun_answer(data));
