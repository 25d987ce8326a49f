//! The committed corpora of `fuzz/` through the targets of this crate.

#[macro_use]
#[path = "../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/trust.rs"]
#[allow(
    unreachable_pub,
    reason = "the file is a public module in the fuzz crate"
)]
mod targets;

corpus_tests!("trust", targets::TARGETS);
