//! The bodies of the fuzz targets.
//!
//! `fuzz_targets/*.rs` feeds them what libFuzzer makes up;
//! `crates/proto/tests/fuzz_corpus.rs` includes this same folder and feeds them the
//! committed corpus on the stable toolchain.

pub mod proto;
