"""A real registry and agents with real nodes, for the tests that need them.

Needs WAYMESH_BIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from waymesh import Agent

BINARY = os.environ.get("WAYMESH_BIN")

#: How long a test may take; only one that fails takes so long.
LIMIT = 90

if BINARY is None and os.environ.get("WAYMESH_ALLOW_SKIP") == "1":
    pytest.skip("WAYMESH_BIN is not set", allow_module_level=True)


class Mesh:
    """A registry, and agents that come and go with it."""

    def __init__(self, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.url = ""
        self.invite = ""
        self._registry: asyncio.subprocess.Process | None = None

    async def start_registry(self, listen: str = "127.0.0.1:0") -> None:
        assert BINARY is not None, "set WAYMESH_BIN to the waymesh program (./test does)"
        command = ["registry", "--listen", listen, "--data-dir", str(self.registry_dir)]
        self._registry = await asyncio.create_subprocess_exec(
            BINARY, *command, "--json", "--stdin-guard",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )
        assert self._registry.stdout is not None
        self.url = json.loads(await self._registry.stdout.readline())["url"]
        if not self.invite:
            self.invite = await self.new_invite("--auto-approve", "--reusable")

    async def admin(self, command: str, *arguments: str) -> list[dict[str, Any]]:
        """What a command of an admin says, line by line."""
        assert BINARY is not None
        process = await asyncio.create_subprocess_exec(
            BINARY, command, *arguments, "--data-dir", str(self.registry_dir), "--json",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return [json.loads(line) for line in out.splitlines()]

    async def new_invite(self, *arguments: str) -> str:
        return str((await self.admin("invite", *arguments))[0]["invite"])

    @property
    def registry_dir(self) -> Path:
        return self.folder / "registry"

    async def kill_registry(self) -> None:
        process, self._registry = self._registry, None
        if process is not None:
            process.kill()
            await process.communicate()

    def agent(self, name: str, **settings: Any) -> Agent:
        settings.setdefault("data_dir", self.folder / name)
        settings.setdefault("invite", self.invite)
        return Agent(name, binary=BINARY, **settings)

    async def join(self, name: str, *skills: Callable[..., Any], **settings: Any) -> Agent:
        agent = self.agent(name, **settings)
        for skill in skills:
            agent.skill(skill)
        return await self.stack.enter_async_context(agent)

    async def another(self, agent: Agent) -> Agent:
        """A second client of an agent's node."""
        return await self.stack.enter_async_context(Agent(socket=self.socket(agent)))

    def socket(self, agent: Agent) -> Path:
        return self.folder / agent.name / "node.sock"


def in_mesh(test: Callable[[Mesh], Awaitable[None]]) -> Callable[[Path], None]:
    """Runs a test with a fresh mesh and a limit of time."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        async def main() -> None:
            async with asyncio.timeout(LIMIT), contextlib.AsyncExitStack() as stack:
                mesh = Mesh(tmp_path, stack)
                await mesh.start_registry()
                stack.push_async_callback(mesh.kill_registry)
                await test(mesh)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


async def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b
