"""Round trips from one Python agent to another, each with a node of its own.

    WAYMESH_BIN=target/release/waymesh python bench/rtt.py [--calls 2000] [--bytes 256]

Starts a registry when no `--registry` is given. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from waymesh import Agent
from waymesh._sidecar import find_binary

WARM_UP = 200


async def measure(registry: str, scratch: Path, calls: int, size: int) -> dict[str, Any]:
    """The distribution of the time that one call takes, in milliseconds."""
    server = Agent("rtt-server", registry=registry, data_dir=scratch / "server")
    caller = Agent("rtt-caller", registry=registry, data_dir=scratch / "caller")

    @server.skill
    async def same(value: Any, /) -> Any:
        return value

    text = "x" * (size - 2)  # with its quotes as JSON: `size` bytes
    async with server, caller:
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
    return {"calls": calls, "bytes": size, "path": path, **at, "max_ms": round(times[-1], 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch, own = Path(folder), None
        url = arguments.registry
        if url is None:
            command = [find_binary(None), "registry", "--listen", "127.0.0.1:0", "--json", "--stdin-guard"]
            command += ["--data-dir", str(scratch / "registry")]
            own = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert own.stdout is not None
            url = json.loads(own.stdout.readline())["url"]
        result = asyncio.run(measure(url, scratch, arguments.calls, arguments.bytes))
        if own is not None:
            own.communicate()
    print(json.dumps({"bench": "python_rtt", "python": platform.python_version(), **result}))


if __name__ == "__main__":
    main()
