"""The life of a node as a child process, with a node of Python in its place."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import waymesh
from waymesh import Agent, errors

FAKE = Path(__file__).with_name("fake_node.py")


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    program = tmp_path / "waymesh"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {FAKE} \"$@\"\n")
    program.chmod(0o755)
    return program


def test_an_agent_starts_its_node_and_stops_it(tmp_path: Path, binary: Path) -> None:
    async def main() -> None:
        data_dir = tmp_path / "data"
        agent = Agent("a", registry="r", data_dir=data_dir, binary=binary)

        @agent.skill("double", idempotent=True)
        async def double(n: int) -> int:
            return 2 * n

        async with agent:
            assert await agent.call("self", "double", {"n": 2}) == 4
        assert (data_dir / "stopped").exists()

    asyncio.run(main())


def test_a_node_ends_when_python_is_killed(tmp_path: Path, binary: Path) -> None:
    code = f"""
import asyncio, waymesh
async def main():
    async with waymesh.Agent("a", registry="r", data_dir={str(tmp_path / "d")!r}, binary={str(binary)!r}) as agent:
        print(agent.node_pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    environment = os.environ | {"PYTHONPATH": str(Path(waymesh.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        node = os.pidfd_open(int(program.stdout.readline()))
        program.kill()

    async def main() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(node, ended.set)
        await asyncio.wait_for(ended.wait(), 20)

    asyncio.run(main())
    os.close(node)


def test_sigterm_ends_run_quietly(tmp_path: Path, binary: Path) -> None:
    async def main() -> None:
        agent = Agent("a", registry="r", data_dir=tmp_path / "d", binary=binary)
        entered = asyncio.Event()

        start = agent.start

        async def started() -> None:
            await start()
            entered.set()

        agent.start = started  # type: ignore[method-assign]
        running = asyncio.create_task(agent.run())
        await asyncio.wait_for(entered.wait(), 20)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 20)

    asyncio.run(main())


def test_a_node_that_is_killed_ends_run_with_an_error(tmp_path: Path, binary: Path) -> None:
    async def main() -> None:
        async with Agent("a", registry="r", data_dir=tmp_path / "d", binary=binary) as agent:
            events = agent.events()
            assert agent.node_pid is not None
            os.kill(agent.node_pid, signal.SIGKILL)
            assert (await asyncio.wait_for(anext(events), 20)).kind == "node_lost"
            with pytest.raises(waymesh.NodeNotRunning):
                await agent.peers()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "error"), [("taken", errors.NameTaken), ("broken", waymesh.SidecarFailed)]
)
def test_a_node_that_cannot_start_says_why(
    tmp_path: Path, binary: Path, name: str, error: type[Exception]
) -> None:
    async def main() -> None:
        with pytest.raises(error, match="taken" if name == "taken" else "it broke"):
            await Agent(name, registry="r", data_dir=tmp_path / "d", binary=binary).start()

    asyncio.run(main())


def test_an_absent_registry_is_an_error_unless_it_may_come_later(tmp_path: Path, binary: Path) -> None:
    async def main() -> None:
        agent = Agent("a", registry="absent", data_dir=tmp_path / "d", binary=binary, start_timeout=2)
        with pytest.raises(waymesh.RegistryUnreachable):
            await agent.start()
        later = Agent("a", registry="absent", data_dir=tmp_path / "d", binary=binary, wait_registered=False)
        async with later:
            assert later.name == "self"

    asyncio.run(main())


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(waymesh.SidecarFailed, match="nowhere"):
            await Agent("a", data_dir=tmp_path, binary=tmp_path / "nowhere").start()

    asyncio.run(main())
