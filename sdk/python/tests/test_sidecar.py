"""The life of a node as a child process, with a node of Python in its place."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def test_the_invite_is_in_the_environment_and_not_on_the_command_line(tmp_path: Path, binary: Path) -> None:
    async def main() -> None:
        settings: dict[str, Any] = {"allow": ["role:ops", "-odd"], "deny": ("bob/add",), "ca": tmp_path / "ca.pem"}
        agent = Agent("a", invite="secret\n", data_dir=tmp_path / "d", binary=binary, **settings)
        assert "secret" not in repr(agent._launch)
        async with agent:
            told = json.loads((tmp_path / "d" / "started-with").read_text())
        assert told["invite"] == "secret"
        assert not [argument for argument in told["command_line"] if "secret" in argument]
        assert (told["allow"], told["deny"]) == (["role:ops", "-odd"], ["bob/add"])
        assert told["ca"] == str(tmp_path / "ca.pem")

    asyncio.run(main())


@pytest.mark.parametrize("settings", [{"invite": "x"}, {"allow": ["x"]}, {"deny": ["x"]}, {"ca": "x"}])
def test_settings_of_an_own_node_are_refused_with_the_socket_of_another(settings: dict[str, Any]) -> None:
    with pytest.raises(errors.BadRequest):
        Agent(socket="node.sock", **settings)


@pytest.mark.parametrize("invite", ["", " \n", "-"])
def test_an_empty_invite_is_refused(invite: str) -> None:
    with pytest.raises(errors.BadRequest):
        Agent("a", invite=invite)


def test_one_rule_is_not_taken_for_a_list_of_rules() -> None:
    with pytest.raises(errors.BadRequest):
        Agent("a", allow="bob")


def test_an_agent_that_waits_for_approval_says_what_to_approve(tmp_path: Path, binary: Path) -> None:
    async def main() -> None:
        agent = Agent("a", registry="waiting", data_dir=tmp_path / "d", binary=binary)
        kinds: list[str] = []

        @agent.on()
        async def approve(event: waymesh.Event) -> None:
            kinds.append(event.kind)
            if event.pending is not None:
                assert event.pending == agent.pending == waymesh.PendingJoin("r-1", "f-1", "m-1")
                _, writer = await asyncio.open_unix_connection(tmp_path / "d" / "admin.sock")
                writer.close()

        async with agent:
            assert agent.pending is None
        assert kinds == ["pending", "registered"]

    asyncio.run(main())


def test_a_start_that_nobody_approves_in_time_says_so(tmp_path: Path, binary: Path) -> None:
    async def main() -> None:
        agent = Agent("a", registry="waiting", data_dir=tmp_path / "d", binary=binary, start_timeout=2)
        with pytest.raises(waymesh.Pending, match="request r-1") as pending:
            await agent.start()
        assert pending.value.hint is not None and "waymesh approve r-1" in pending.value.hint
        assert pending.value.retry == "after"
        later = Agent("a", registry="waiting", data_dir=tmp_path / "d", binary=binary, wait_registered=False)
        async with later:
            registered = later.events("registered")
            _, writer = await asyncio.open_unix_connection(tmp_path / "d" / "admin.sock")
            assert (await anext(registered)).kind == "registered"
            writer.close()

    asyncio.run(main())


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(waymesh.SidecarFailed, match="nowhere"):
            await Agent("a", data_dir=tmp_path, binary=tmp_path / "nowhere").start()

    asyncio.run(main())
