//! Replays the committed corpora of `fuzz/` on the stable toolchain, through
//! the very functions that libFuzzer runs.

#[path = "../../../fuzz/src/trust.rs"]
#[allow(
    unreachable_pub,
    reason = "the file is a public module in the fuzz crate"
)]
mod targets;

use std::fs;
use std::path::PathBuf;

/// Inputs longer than this are replayed but not changed byte by byte, bytes.
/// Chosen: the effort grows with the square of the length.
const CHANGED_MAX_BYTES: usize = 400;

fn fuzz_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

#[test]
fn every_committed_input_passes_its_target() {
    for (name, target) in targets::TARGETS {
        let folder = fuzz_folder().join("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            let data = fs::read(&path).expect("an input");
            eprintln!("{}", path.display());
            target(&data);
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

#[test]
fn every_short_input_cut_off_or_changed_in_one_byte_passes_too() {
    for (name, target) in targets::TARGETS {
        for entry in fs::read_dir(fuzz_folder().join("corpus").join(name)).expect("a corpus") {
            let mut data = fs::read(entry.expect("an entry").path()).expect("an input");
            if data.len() > CHANGED_MAX_BYTES {
                continue;
            }
            for end in 0..data.len() {
                target(&data[..end]);
            }
            for at in 0..data.len() {
                let was = data[at];
                for now in [was ^ 1, was ^ 0x80, 0xff] {
                    data[at] = now;
                    target(&data);
                }
                data[at] = was;
            }
        }
    }
}

#[test]
fn every_target_has_an_entry_for_libfuzzer() {
    for (name, _) in targets::TARGETS {
        let entry = fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs")));
        let entry = entry.expect("an entry");
        assert!(entry.contains(&format!("trust::{name}(data)")), "{name}");
    }
}
