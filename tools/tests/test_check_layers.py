"""The check of the layers finds what it is for."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import check_layers


def metadata(edges):
    """What `cargo metadata` says of (from, to, kind) edges; waymesh* are members."""
    names = sorted({name for a, b, _ in edges for name in (a, b)})
    return {
        "workspace_members": [n for n in names if n.startswith("waymesh")],
        "packages": [
            {
                "id": n,
                "name": n,
                "dependencies": [{"name": b, "kind": k} for a, b, k in edges if a == n],
            }
            for n in names
        ],
        "resolve": {
            "nodes": [
                {
                    "id": n,
                    "deps": [{"pkg": b, "dep_kinds": [{"kind": k}]} for a, b, k in edges if a == n],
                }
                for n in names
            ]
        },
    }


class Edges(unittest.TestCase):
    def test_edges_of_the_picture_pass(self):
        good = metadata([("waymesh-node", "waymesh-core", None), ("waymesh-core", "waymesh-proto", None)])
        self.assertEqual(check_layers.wrong_edges(good), [])

    def test_layers_that_import_each_other_are_named(self):
        for a, b in [("core", "net"), ("net", "core"), ("trust", "core"), ("net", "trust"), ("core", "trust")]:
            for kind in (None, "dev", "build"):
                bad = metadata([(f"waymesh-{a}", f"waymesh-{b}", kind)])
                problems = check_layers.wrong_edges(bad)
                self.assertEqual(len(problems), 1, (a, b, kind))
                self.assertIn(f"waymesh-{a} -> waymesh-{b}", problems[0])

    def test_nobody_imports_the_lab_even_in_tests(self):
        for importer in set(check_layers.ALLOWED) - {"waymesh-lab"}:
            for kind in (None, "dev"):
                bad = metadata([(importer, "waymesh-lab", kind)])
                self.assertEqual(len(check_layers.wrong_edges(bad)), 1, (importer, kind))

    def test_the_mesh_key_is_out_of_reach_of_registry_and_node(self):
        for importer in ("waymesh-registry", "waymesh-node", "waymesh-core", "waymesh-net", "waymesh-trust"):
            bad = metadata([(importer, "waymesh-authority", None)])
            self.assertEqual(len(check_layers.wrong_edges(bad)), 1, importer)
        for importer in ("waymesh", "waymesh-bench"):
            good = metadata([(importer, "waymesh-authority", None)])
            self.assertEqual(check_layers.wrong_edges(good), [], importer)

    def test_a_test_dependency_does_not_allow_a_normal_one(self):
        self.assertEqual(check_layers.wrong_edges(metadata([("waymesh-node", "waymesh-registry", "dev")])), [])
        self.assertEqual(len(check_layers.wrong_edges(metadata([("waymesh-node", "waymesh-registry", None)]))), 1)

    def test_a_crate_that_nobody_placed_is_named(self):
        self.assertIn("new", check_layers.wrong_edges(metadata([("waymesh-extra", "serde", None)]))[0])


class Runtime(unittest.TestCase):
    def test_tokio_behind_another_crate_is_found_with_the_way_to_it(self):
        bad = metadata([("waymesh-core", "helper", None), ("helper", "tokio", None)])
        self.assertIn("waymesh-core -> helper -> tokio", check_layers.runtime_paths(bad)[0])

    def test_tokio_in_tests_or_in_net_is_no_problem(self):
        good = metadata([("waymesh-core", "tokio", "dev"), ("waymesh-net", "tokio", None)])
        self.assertEqual(check_layers.runtime_paths(good), [])


if __name__ == "__main__":
    unittest.main()
