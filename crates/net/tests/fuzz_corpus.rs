//! The committed corpora of `fuzz/` through the targets of this crate.

#[path = "../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/net.rs"]
#[allow(
    unreachable_pub,
    reason = "the file is a public module in the fuzz crate"
)]
mod targets;

#[test]
fn every_committed_input_passes_its_target() {
    replay::inputs(targets::TARGETS);
}

#[test]
fn every_short_input_cut_off_or_changed_in_one_byte_passes_too() {
    replay::changed_inputs(targets::TARGETS);
}

#[test]
fn every_target_has_an_entry_for_libfuzzer() {
    replay::entries("net", targets::TARGETS);
}
