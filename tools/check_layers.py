#!/usr/bin/env python3
"""Checks the layers: which crate of the workspace may depend on which.

Reads `cargo metadata` and prints every edge that the picture in ARCHITECTURE.md
does not have. Also: core, proto and trust must not reach tokio, in whatever
way; and nobody imports the lab. Clocks are clippy's part (each crate's
clippy.toml). Exit 0 when the layers hold, 1 when they do not.
"""

import json
import subprocess
import sys

# What a crate may depend on in its normal and build dependencies.
#
# waymesh-authority holds the mesh key, which admits members. That neither the
# registry nor a node can admit anybody is a property of their code, not of
# their good will: the crates waymesh-registry and waymesh-node must not link
# it, except in tests that play the admin. The one binary links both, and only
# its admin commands and the bench open an authority.
ALLOWED = {
    "waymesh-proto": set(),
    "waymesh-core": {"waymesh-proto"},
    "waymesh-trust": {"waymesh-proto"},
    "waymesh-net": {"waymesh-proto"},
    "waymesh-node": {"waymesh-proto", "waymesh-core", "waymesh-net", "waymesh-trust"},
    "waymesh-registry": {"waymesh-proto", "waymesh-core", "waymesh-net", "waymesh-trust"},
    "waymesh-authority": {"waymesh-proto", "waymesh-trust"},
    "waymesh-bench": {"waymesh-proto", "waymesh-net", "waymesh-node", "waymesh-registry", "waymesh-authority", "waymesh-trust"},
    "waymesh-lab": {"waymesh-proto", "waymesh-core", "waymesh-net", "waymesh-trust"},
    "waymesh": {"waymesh-proto", "waymesh-net", "waymesh-trust", "waymesh-node", "waymesh-registry", "waymesh-bench",
                "waymesh-authority"},
}

# What tests may depend on beyond that: programs may be tested against each
# other and with real keys; the layers core, net and trust stay strangers.
ALLOWED_IN_TESTS = {
    "waymesh-node": {"waymesh-registry", "waymesh-authority"},
    "waymesh-registry": {"waymesh-node", "waymesh-authority"},
    "waymesh-lab": {"waymesh-authority"},
    "waymesh": {"waymesh-core"},
}

# Crates that must not reach these packages through normal dependencies.
WITHOUT_RUNTIME = ("waymesh-proto", "waymesh-core", "waymesh-trust")
RUNTIME = ("tokio", "mio", "async-std", "smol", "socket2", "futures-executor")


def wrong_edges(metadata):
    """Every edge between two crates of the workspace that is not allowed, as text."""
    members = {p["name"] for p in metadata["packages"] if p["id"] in metadata["workspace_members"]}
    problems = []
    for package in metadata["packages"]:
        name = package["name"]
        if name not in members:
            continue
        if name not in ALLOWED:
            problems.append(f"{name} is new: say in tools/check_layers.py which layer it is")
            continue
        for dependency in package["dependencies"]:
            target, kind = dependency["name"], dependency["kind"] or "normal"
            if target not in members:
                continue
            allowed = set(ALLOWED[name])
            if kind == "dev":
                allowed |= ALLOWED_IN_TESTS.get(name, set())
            if target not in allowed:
                problems.append(f"{name} -> {target} ({kind}) is not an edge of the layers")
    return problems


def runtime_paths(metadata):
    """Every way from a crate without a runtime to one, as text."""
    names = {p["id"]: p["name"] for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    problems = []
    for start in metadata["workspace_members"]:
        if names[start] not in WITHOUT_RUNTIME:
            continue
        came_from, queue = {start: None}, [start]
        while queue:
            here = queue.pop(0)
            if names[here] in RUNTIME:
                problems.append(f"{' -> '.join(path(here, came_from, names))}: no runtime or socket here")
                continue
            for dependency in nodes[here]["deps"]:
                normal = any(k["kind"] is None for k in dependency["dep_kinds"])
                if normal and dependency["pkg"] not in came_from:
                    came_from[dependency["pkg"]] = here
                    queue.append(dependency["pkg"])
    return problems


def path(end, came_from, names):
    """The names from the start of a search to `end`."""
    steps = []
    while end is not None:
        steps.append(names[end])
        end = came_from[end]
    return list(reversed(steps))


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host()]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    problems = wrong_edges(metadata) + runtime_paths(metadata)
    for problem in problems:
        print(f"layers: {problem}")
    if not problems:
        print(f"layers: {len(metadata['workspace_members'])} crates keep to them")
    return 1 if problems else 0


def host():
    """The platform that this toolchain builds for."""
    lines = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return next(line.split(": ")[1] for line in lines.splitlines() if line.startswith("host: "))


if __name__ == "__main__":
    sys.exit(main())
