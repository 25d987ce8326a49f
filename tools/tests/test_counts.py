"""`./test` adds up what the test runners print."""

import pathlib
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent.parent / "test"


def counts(text):
    """(passed, failed, skipped) as the function `counts` of ./test reads a log."""
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        log.write(text)
        log.flush()
        shell = f"source <(sed -n '/^counts() {{/,/^}}/p' '{SCRIPT}'); counts '{log.name}'"
        said = subprocess.run(["bash", "-c", shell], check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(int(n) for n in said.split())


class Counts(unittest.TestCase):
    def test_nextest(self):
        self.assertEqual(counts("     Summary [   1.294s] 19 tests run: 19 passed, 4 skipped\n"), (19, 0, 0))
        self.assertEqual(counts("     Summary [ 1.3s] 2/15 tests run: 1 passed, 1 failed, 4 skipped\n"), (1, 1, 0))
        self.assertEqual(counts("     Summary [ 180s] 3 tests run: 1 passed, 1 failed, 1 timed out, 0 skipped\n"), (1, 2, 0))

    def test_cargo_test_with_several_binaries(self):
        text = "test result: ok. 5 passed; 0 failed; 1 ignored\n\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\n"
        self.assertEqual(counts(text), (8, 2, 0))

    def test_unittest(self):
        self.assertEqual(counts("Ran 19 tests in 0.1s\n\nFAILED (failures=2, errors=1)\n"), (16, 3, 0))
        self.assertEqual(counts("Ran 19 tests in 0.1s\n\nOK (skipped=4)\n"), (15, 0, 4))

    def test_pytest(self):
        self.assertEqual(counts("58 passed in 3.25s\n"), (58, 0, 0))
        self.assertEqual(counts("=== 1 failed, 55 passed, 2 skipped, 1 error in 65.1s (0:01:05) ===\n"), (55, 2, 2))

    def test_a_log_without_tests(self):
        self.assertEqual(counts("crates keep to them\n"), (0, 0, 0))


if __name__ == "__main__":
    unittest.main()
