//! libFuzzer's entry to `net::turn_framing`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waymesh_fuzz::net::turn_framing(data));
