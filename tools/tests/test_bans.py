"""Clippy's bans fire: the configuration files are read and name what exists."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SANS_IO = ("crates/core", "crates/proto", "crates/trust")


def clippy(folder, source):
    """What clippy says of a source text under the configuration of a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "probe.rs"
        file.write_text(source)
        run = subprocess.run(
            ["clippy-driver", "--edition=2024", "--crate-type=lib", "--emit=metadata", "--sysroot", sysroot(),
             "-Wclippy::iter_over_hash_type", str(file), "--out-dir", scratch],
            env={**os.environ, "CLIPPY_CONF_DIR": str(ROOT / folder)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return run.stdout


def sysroot():
    return subprocess.run(["rustc", "--print", "sysroot"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@unittest.skipUnless(shutil.which("clippy-driver"), "clippy is not installed")
class Bans(unittest.TestCase):
    def test_clocks_sleep_and_hash_order_are_banned_in_the_layers_without_io(self):
        banned = {
            "std::time::Instant::now": "let _ = std::time::Instant::now();",
            "std::time::Instant::elapsed": "let _ = |i: std::time::Instant| i.elapsed();",
            "std::time::SystemTime::now": "let _ = std::time::SystemTime::now();",
            "std::thread::sleep": "std::thread::sleep(std::time::Duration::ZERO);",
            "std::sync::mpsc::channel": "let _ = std::sync::mpsc::channel::<u8>();",
            "HashMap::keys": "let _ = std::collections::HashMap::<u8, u8>::new().keys();",
            "HashMap::drain": "let _ = std::collections::HashMap::<u8, u8>::new().drain();",
            "HashSet::iter": "let _ = std::collections::HashSet::<u8>::new().iter();",
            "unordered hash-based type": "for _ in &std::collections::HashSet::<u8>::new() { drop(1); }",
        }
        source = "pub fn probe() {\n" + "\n".join(banned.values()) + "\n}\n"
        said = clippy(SANS_IO[0], source)
        for name in banned:
            self.assertRegex(said, rf"{name}", said)

    def test_unbounded_queues_and_sleep_are_banned_everywhere(self):
        said = clippy(".", "pub fn probe() { let _ = std::sync::mpsc::channel::<u8>(); std::thread::sleep(std::time::Duration::ZERO); }")
        self.assertIn("std::sync::mpsc::channel", said)
        self.assertIn("std::thread::sleep", said)

    def test_the_layers_without_io_share_one_configuration(self):
        texts = {(ROOT / folder / "clippy.toml").read_text() for folder in SANS_IO}
        self.assertEqual(len(texts), 1)

    def test_the_layers_without_io_watch_for_hash_order(self):
        for folder in SANS_IO:
            self.assertIn("clippy::iter_over_hash_type", (ROOT / folder / "src/lib.rs").read_text(), folder)


if __name__ == "__main__":
    unittest.main()
