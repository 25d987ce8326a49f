//! Replays the committed corpora on the stable toolchain, through the very
//! functions that libFuzzer runs. Included by the tests of each crate that has targets.

use std::fs;
use std::path::PathBuf;

/// The tests of a crate: `corpus_tests!("module of the fuzz crate", its targets)`.
macro_rules! corpus_tests {
    ($module:literal, $targets:expr) => {
        #[test]
        fn every_committed_input_passes_its_target() {
            crate::replay::inputs($targets);
        }

        #[test]
        fn every_short_input_cut_off_or_changed_in_one_byte_passes_too() {
            crate::replay::changed_inputs($targets);
        }

        #[test]
        fn every_target_has_an_entry_for_libfuzzer() {
            crate::replay::entries($module, $targets);
        }
    };
}

/// A target: its name, which is the folder of its corpus, and its body.
type Target = (&'static str, fn(&[u8]));

/// Inputs longer than this are replayed but not changed byte by byte, bytes.
/// Chosen: the effort grows with the square of the length.
const CHANGED_MAX_BYTES: usize = 400;

fn fuzz_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Every committed input passes its target.
#[expect(
    clippy::print_stderr,
    reason = "the last line names the input that fails"
)]
pub(crate) fn inputs(targets: &[Target]) {
    for (name, target) in targets {
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

/// Every short input, cut off anywhere or changed in one byte, passes too.
pub(crate) fn changed_inputs(targets: &[Target]) {
    for (name, target) in targets {
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

/// Every target of a module has an entry for libFuzzer.
pub(crate) fn entries(module: &str, targets: &[Target]) {
    for (name, _) in targets {
        let entry = fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs")));
        let entry = entry.expect("an entry");
        assert!(entry.contains(&format!("{module}::{name}(data)")), "{name}");
    }
}
