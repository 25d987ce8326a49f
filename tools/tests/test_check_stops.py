"""The check of ARCHITECTURE.md finds what it is for."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import check_stops

SOURCE = "impl Driver {\n    pub async fn run(self) {}\n}\nfn two() {}\nfn three() {}\nfn four() {}\nfn five() {}\n"
GOOD = "".join(f"- `src/driver.rs::{f}`\n" for f in ("Driver::run", "two", "three", "four", "five"))


class Page(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "src").mkdir()
        (self.root / "src/driver.rs").write_text(SOURCE)

    def problems(self, text):
        return check_stops.problems_of(text, self.root)

    def test_a_true_page_passes(self):
        self.assertEqual(self.problems(GOOD + "See `src/driver.rs`, `src/` and `Driver`.\n"), [])

    def test_a_function_that_is_gone_is_named(self):
        (self.root / "src/driver.rs").write_text(SOURCE.replace("three", "drei"))
        self.assertEqual(len(self.problems(GOOD)), 1)
        self.assertIn("no function three", self.problems(GOOD)[0])

    def test_a_type_that_is_gone_is_named(self):
        (self.root / "src/driver.rs").write_text(SOURCE.replace("Driver", "Loop"))
        self.assertIn("no type Driver", self.problems(GOOD)[0])

    def test_a_stop_in_a_file_that_is_gone_is_named(self):
        (self.root / "src/driver.rs").unlink()
        self.assertEqual(len(self.problems(GOOD)), 5)

    def test_a_path_that_is_gone_is_named_with_its_line(self):
        self.assertIn("ARCHITECTURE.md:6: `spec/none.md`", self.problems(GOOD + "`spec/none.md`\n")[0])

    def test_four_stops_are_too_few(self):
        self.assertIn("4 stops", self.problems(GOOD.split("- `src/driver.rs::five")[0])[0])

    def test_a_page_past_the_limit_is_refused(self):
        at = GOOD + "\n" * (check_stops.MAX_LINES - GOOD.count("\n") - 1)
        self.assertEqual(self.problems(at), [])
        self.assertIn("lines", self.problems(at + "\n")[0])

    def test_a_link_that_leads_nowhere_is_named(self):
        page = self.root / "README.md"
        page.write_text("[a](src/driver.rs) [b](https://example.org/) [c](#part) [d](src/none.rs#x)\n")
        self.assertEqual(check_stops.dead_links(page, self.root), ["README.md: the link to src/none.rs leads nowhere"])


if __name__ == "__main__":
    unittest.main()
