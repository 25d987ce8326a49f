#!/usr/bin/env python3
"""Runs every example of the SDK against a registry and nodes of this build.

Each example gets WAYMESH_INVITE and WAYMESH_BIN, a data directory of its own,
and must end by itself with status 0. Prints `N passed, N failed in S s`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# An example that takes longer hangs. Chosen: ten times what a slow machine needs.
LIMIT_SECONDS = 60

# What keeps an example something that one reads at a glance.
MAX_LINES = 40


def run(example, invite, scratch):
    """Why the example failed, or None."""
    lines = len(example.read_text(encoding="utf-8").splitlines())
    if lines > MAX_LINES:
        return f"{lines} lines; at most {MAX_LINES} are allowed"
    home = pathlib.Path(scratch) / example.stem
    home.mkdir()
    environment = {**os.environ, "WAYMESH_INVITE": invite, "HOME": str(home), "XDG_DATA_HOME": str(home)}
    try:
        ended = subprocess.run(
            [sys.executable, str(example)], env=environment, cwd=home, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        return f"still running after {LIMIT_SECONDS} s\n{(late.stdout or b'').decode(errors='replace')}"
    return None if ended.returncode == 0 else f"exit status {ended.returncode}\n{ended.stdout}"


def main(folder):
    examples = sorted(folder.glob("*.py"))
    began, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as scratch:
        binary, data_dir = os.environ["WAYMESH_BIN"], f"{scratch}/registry"
        command = [binary, "registry", "--json", "--listen", "127.0.0.1:0", "--stdin-guard", "--data-dir", data_dir]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as registry:
            ready = json.loads(registry.stdout.readline() or '{"event": "nothing"}')
            if ready.get("event") != "ready":
                print(f"examples: the registry did not start: {ready}")
                return 1
            command = [binary, "invite", "--auto-approve", "--reusable", "--data-dir", data_dir]
            invite = subprocess.check_output(command, text=True).strip()
            for example in examples:
                problem = run(example, invite, scratch)
                failed += problem is not None
                print(f"{example.name}: {problem or 'ok'}")
            registry.stdin.close()
    print(f"{len(examples) - failed} passed, {failed} failed in {time.monotonic() - began:.1f}s")
    return 1 if failed or not examples else 0


if __name__ == "__main__":
    sys.exit(main(ROOT / "sdk/python/examples"))
