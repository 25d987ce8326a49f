"""Round trips from one Python agent to another: two processes, each with a node of its own.

    WAYMESH_BIN=target/release/waymesh python bench/rtt.py [--calls 2000] [--bytes 256]

Starts a registry of its own unless WAYMESH_INVITE names one (a reusable invite that
needs no approval). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from waymesh import Agent
from waymesh._sidecar import find_binary

WARM_UP = 200


async def serve(data_dir: Path) -> None:
    """Answers until standard input ends."""
    server = Agent("rtt-server", data_dir=data_dir)

    @server.skill
    async def same(value: Any, /) -> Any:
        return value

    async with server:
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def measure(data_dir: Path, calls: int, size: int) -> dict[str, Any]:
    """The distribution of the time that one call takes, in milliseconds."""
    text = "x" * (size - 2)  # with its quotes as JSON: `size` bytes
    async with Agent("rtt-caller", data_dir=data_dir) as caller:
        began = time.perf_counter_ns()
        await caller.call("rtt-server", "same", text)
        first = (time.perf_counter_ns() - began) / 1e6
        await caller.connect("rtt-server")
        for _ in range(WARM_UP):
            await caller.call("rtt-server", "same", text)
        times = []
        for _ in range(calls):
            began = time.perf_counter_ns()
            await caller.call("rtt-server", "same", text)
            times.append((time.perf_counter_ns() - began) / 1e6)
        path = (await caller.ping("rtt-server")).path
    times.sort()
    at = {f"p{p}_ms": round(times[min(len(times) - 1, len(times) * p // 100)], 4) for p in (50, 90, 99)}
    result = {"calls": calls, "bytes": size, "path": path, **at, "max_ms": round(times[-1], 4)}
    return result | {"first_ms": round(first, 4)}


@contextlib.contextmanager
def registry(scratch: Path) -> Iterator[None]:
    """A registry, and its invite in WAYMESH_INVITE, unless an invite is there already."""
    if "WAYMESH_INVITE" in os.environ:
        yield
        return
    data_dir = ["--data-dir", str(scratch / "registry")]
    command = [find_binary(None), "registry", "--listen", "127.0.0.1:0", "--json", "--stdin-guard", *data_dir]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        command = [find_binary(None), "invite", "--auto-approve", "--reusable", *data_dir]
        os.environ["WAYMESH_INVITE"] = subprocess.check_output(command, text=True).strip()
        yield
        process.stdin.close()


@contextlib.contextmanager
def server(data_dir: Path) -> Iterator[None]:
    """This program in another process, as the server."""
    command = [sys.executable, __file__, "--serve", str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        yield
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=256)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        return asyncio.run(serve(arguments.serve))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with registry(scratch), server(scratch / "server"):
            result = asyncio.run(measure(scratch / "caller", arguments.calls, arguments.bytes))
    print(json.dumps({"bench": "python_rtt", "python": platform.python_version(), **result}))


if __name__ == "__main__":
    main()
