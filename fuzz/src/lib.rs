//! The bodies of the fuzz targets.
//!
//! `fuzz_targets/*.rs` feeds them what libFuzzer makes up;
//! `tests/fuzz_corpus.rs` of the crates net, proto and trust include this same
//! folder and feed them the committed corpus on the stable toolchain.

pub mod net;
pub mod proto;
pub mod trust;
