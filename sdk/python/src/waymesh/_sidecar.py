"""The node as a child process: it ends when its agent does, however that ends.

The agent holds the writing end of the child's stdin; the node stops when that
closes, which the kernel does even when Python is killed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import NodeNotRunning, SidecarFailed, WaymeshError
from .types import Event, PendingJoin

_log = logging.getLogger("waymesh.sidecar")

#: How long a node may take to stop before it is killed, seconds.
STOP_PATIENCE = 5.0
#: How long to wait for a node that closed its socket to say why, seconds.
END_PATIENCE = 2.0
#: Lines of the node's log that are kept to explain its end.
_LOG_LINES = 20


def find_binary(named: str | os.PathLike[str] | None) -> str:
    """The `waymesh` program: as named, of WAYMESH_BIN, or on the PATH."""
    wanted = os.fspath(named) if named is not None else os.environ.get("WAYMESH_BIN")
    found = shutil.which(wanted or "waymesh")
    if found is None:
        raise SidecarFailed(
            f"the program {wanted or 'waymesh'!r} was not found",
            hint="name it with binary= or WAYMESH_BIN, or put it on the PATH",
        )
    return found


def default_data_dir(name: str) -> Path:
    """Where an agent keeps its identity when nobody says."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "waymesh" / "agents" / name


@dataclasses.dataclass(frozen=True)
class Launch:
    """How a node is started."""

    name: str
    data_dir: Path
    registry: str | None = None
    #: A secret: it goes into the environment, since everybody can read command lines.
    invite: str | None = dataclasses.field(default=None, repr=False)
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    ca: str | None = None

    def arguments(self) -> list[str]:
        arguments = ["node", "--name", self.name, "--data-dir", str(self.data_dir), "--json", "--stdin-guard"]
        settings = [("registry", self.registry), ("ca", self.ca)]
        settings += [("allow", rule) for rule in self.allow] + [("deny", rule) for rule in self.deny]
        return arguments + [f"--{name}={value}" for name, value in settings if value is not None]

    def environment(self) -> dict[str, str]:
        invite = {} if self.invite is None else {"WAYMESH_INVITE": self.invite.strip()}
        return {**os.environ, **invite}


class Sidecar:
    """One running node of this program's own."""

    def __init__(self, process: asyncio.subprocess.Process, tell: Callable[[Event], None]) -> None:
        self._process = process
        self._tell = tell
        self._log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._fault: WaymeshError | None = None
        self.registered = asyncio.Event()
        self._readers = [asyncio.create_task(self._read_events()), asyncio.create_task(self._read_log())]

    @classmethod
    async def start(
        cls, binary: str, launch: Launch, tell: Callable[[Event], None], timeout: float
    ) -> Sidecar:
        """Starts a node and waits until its socket can be used; `tell` hears how it joins."""
        launch.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                binary, *launch.arguments(), stdin=pipe, stdout=pipe, stderr=pipe, env=launch.environment()
            )
        except OSError as error:
            raise SidecarFailed(f"{binary} could not be started: {error}") from error
        sidecar = cls(process, tell)
        try:
            await asyncio.wait_for(asyncio.shield(sidecar._ready), timeout)
        except TimeoutError:
            await sidecar.stop()
            raise SidecarFailed(
                f"the node was not ready within {timeout} s", hint=sidecar.last_words()
            ) from None
        except BaseException:
            await sidecar.stop()
            raise
        return sidecar

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def socket(self) -> str:
        """The path of the node's socket."""
        return self._ready.result()

    def last_words(self) -> str:
        """What the node logged last."""
        return " | ".join(list(self._log)[-3:]) or "it logged nothing"

    async def reason(self) -> WaymeshError:
        """Why the node went away, as it says itself or as its end looks from here."""
        ended = asyncio.gather(self._process.wait(), *self._readers, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended, END_PATIENCE)
        return self._fault or NodeNotRunning("the node went away", hint=self._obituary())

    def _obituary(self) -> str:
        code = self._process.returncode
        return f"the node (pid {self.pid}) ended with {code}; its log: {self.last_words()}"

    async def stop(self) -> None:
        """Asks the node to stop by closing its stdin; kills it when it does not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        for end in (self._process.terminate, self._process.kill):
            try:
                await asyncio.wait_for(self._process.wait(), STOP_PATIENCE)
                break
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    end()
        await self._process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                await self._process.stdin.wait_closed()

    async def _read_events(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            try:
                event = json.loads(raw)
            except ValueError:
                event = None
            if isinstance(event, dict):
                self._take(event)
        if not self._ready.done():
            with contextlib.suppress(asyncio.CancelledError):
                await self._readers[1]
            await self._process.wait()
            self._ready.set_exception(self._fault or SidecarFailed(self._obituary(), hint="look at the node's log"))

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "registered":
            self.registered.set()
            self._tell(Event("registered", None, event))
        elif kind == "pending":
            pending = PendingJoin.from_json(event)
            _log.warning(
                "%s waits for an admin: waymesh approve %s --fingerprint %s (mesh %s)",
                event.get("name"),
                pending.request,
                pending.fingerprint,
                pending.mesh_fingerprint,
            )
            self._tell(Event("pending", None, event))
        elif kind == "ready" and not self._ready.done():
            self._ready.set_result(str(event["ipc"]))
        elif event.get("ok") is False and isinstance(event.get("error"), dict):
            self._fault = WaymeshError.from_json(event["error"])

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        while raw := await self._process.stderr.read(64 * 1024):
            for line in raw.decode(errors="replace").splitlines():
                self._log.append(line)
                _log.debug("%s", line)
