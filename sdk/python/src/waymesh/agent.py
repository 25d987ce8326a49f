"""An agent: its skills, its calls, its messages, and the node that carries them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Self, TypeVar

from ._connection import Connection, Line, Undecodable
from ._events import EventHandler, Hub
from ._inbox import Inbox
from ._mesh import Mesh
from ._messaging import Messaging
from ._offering import Offering
from ._sidecar import Launch, Sidecar, default_data_dir, find_binary
from ._work import Work
from .errors import BadRequest, NodeNotRunning, Pending, RegistryUnreachable, WaymeshError
from .types import FAILED, Event, EventKind, Message, PendingJoin

_log = logging.getLogger("waymesh")
_E = TypeVar("_E", bound=EventHandler)

_EVENTS: dict[str, EventKind] = {
    "state": "state",
    "peer_connected": "peer_connected",
    "peer_disconnected": "peer_disconnected",
    "path_changed": "path_changed",
    "gap": "gap",
    "certificate_expiring": "certificate_expiring",
}


class Agent(Offering, Messaging, Mesh):
    """An agent in the mesh.

    Use it as `async with Agent(...) as agent:`, or `await agent.run()` to serve
    until the program is stopped. It starts a node of its own and stops it at the
    end; with `socket` (the path of a node's `node.sock`) it uses a running one.

    An agent that is no member of the mesh yet needs an `invite`, the line that
    `waymesh invite` prints (a pairing code will do, with `registry`); it defaults to
    WAYMESH_INVITE and is never put on a command line. One that is a member goes on
    as it is. Where the invite is not approved in advance, start-up waits for an admin:
    the event `pending`, and `agent.pending`, say what to compare and approve.

    `registry` is the registry's URL, where it is another than the invite says;
    `ca` a file of certificates (PEM) to trust for it besides the system's.
    `allow` and `deny` say who may reach this agent: rules like "bob", "role:ops",
    "bob/add" (one skill) or "*". A `deny` always wins; with any `allow`, all others
    are denied.

    `registry` defaults to WAYMESH_REGISTRY, `binary` to WAYMESH_BIN or `waymesh`
    on the PATH, `data_dir` to a folder for this name in the user's data directory.
    Start-up waits up to `start_timeout` seconds for the registry to know the
    agent; with `wait_registered=False` the registry, or the admin, may come later.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        invite: str | None = None,
        registry: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        ca: str | os.PathLike[str] | None = None,
        binary: str | os.PathLike[str] | None = None,
        socket: str | os.PathLike[str] | None = None,
        start_timeout: float = 30.0,
        wait_registered: bool = True,
    ) -> None:
        if name is None and socket is None:
            raise BadRequest("an agent needs a name, or the socket of a running node")
        self._name = name
        self._binary = binary
        self._socket = socket
        self._start_timeout = start_timeout
        self._wait_registered = wait_registered
        self._launch = Launch(
            name=name or "",
            data_dir=Path(data_dir or default_data_dir(name or "")).absolute(),
            registry=registry or os.environ.get("WAYMESH_REGISTRY"),
            invite=invite,
            allow=_rules("allow", allow),
            deny=_rules("deny", deny),
            ca=None if ca is None else os.fspath(ca),
        )
        if invite is not None and invite.strip() in ("", "-"):
            raise BadRequest("the invite is empty", hint="give the line that `waymesh invite` prints")
        if socket is not None and (invite or ca or self._launch.allow or self._launch.deny):
            raise BadRequest(
                "invite, allow, deny and ca are settings of an agent's own node",
                hint="give them to the node whose socket this is",
            )
        self._work = Work()
        self._inbox = Inbox()
        self._attached: asyncio.Future[None] | None = None
        self._events = Hub()
        self._pending: PendingJoin | None = None
        self._sidecar: Sidecar | None = None
        self._connection: Connection | None = None

    # -- life -------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts the node or attaches to a running one, and offers the skills."""
        if self._connection is not None:
            raise BadRequest("the agent runs already")
        self._work.start()
        self._events.start()
        try:
            path = os.fspath(self._socket) if self._socket is not None else await self._start_sidecar()
            self._connection = await Connection.open(path, self._on_event, self._on_lost)
            await asyncio.gather(*(self._offer(skill) for skill in self._work.skills.values()))
            await self._until_registered()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Cancels what runs, leaves the mesh and stops the node if it is this agent's own."""
        self._pending = None
        connection, self._connection = self._connection, None
        sidecar, self._sidecar = self._sidecar, None
        self._work.stop()
        self._end_loops(None)
        try:
            if connection is not None:
                connection.close()
                await connection.closed.wait()
        finally:
            if sidecar is not None:
                await sidecar.stop()
            await self._events.stop()

    async def run(self) -> None:
        """Serves until the task is cancelled or the program gets SIGTERM.

        Raises when the node goes away: what it said, or `NodeNotRunning`.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        stopped = False

        def on_sigterm() -> None:
            nonlocal stopped
            stopped = True
            if task is not None:
                task.cancel()

        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(signal.SIGTERM, on_sigterm)
        try:
            async with self:
                await self._require().closed.wait()
                raise await self._reason()
        except asyncio.CancelledError:
            if not stopped:
                raise
            if task is not None:
                task.uncancel()
        finally:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(signal.SIGTERM)

    serve_forever = run

    @property
    def name(self) -> str:
        """The agent's name."""
        return str(self._require().hello["agent"]) if self._connection else str(self._name)

    @property
    def agent_id(self) -> str:
        """The agent's permanent identity."""
        return str(self._require().hello["agent_id"])

    @property
    def node_pid(self) -> int | None:
        """The process id of the node, if it is this agent's own."""
        return self._sidecar.pid if self._sidecar else None

    @property
    def pending(self) -> PendingJoin | None:
        """What an admin has to approve before this agent is a member; None when nothing waits."""
        return self._pending

    @property
    def dropped(self) -> int:
        """Messages of lossy classes that were dropped because nobody took them in time."""
        return self._inbox.dropped

    # -- events -----------------------------------------------------------

    def events(self, *kinds: EventKind) -> AsyncIterator[Event]:
        """What happens from now on: `async for event in agent.events("state")`.

        Without `kinds`, all of it: states of messages, peers, paths, gaps, the
        coming end of the certificate, a lost node. Each call has a queue of its
        own; when 1,024 events wait, the oldest goes. The node tells every state of
        a message only where somebody listens to `state` when it is sent.
        """
        self._require()
        return self._events.listen(kinds)

    def on(self, *kinds: EventKind) -> Callable[[_E], _E]:
        """Makes a function a handler of events: `@agent.on("state")`; without kinds, of all.

        Before the start or after. Each handler gets its events one after the other,
        as `events` does; a sync one must not block. What it raises is logged.
        """

        def register(handler: _E) -> _E:
            self._events.on(kinds, handler)
            return handler

        return register

    # -- inside -----------------------------------------------------------

    async def _start_sidecar(self) -> str:
        binary = find_binary(self._binary)
        self._sidecar = await Sidecar.start(binary, self._launch, self._on_joining, self._start_timeout)
        return self._sidecar.socket

    async def _until_registered(self) -> None:
        if self._sidecar is None or not self._wait_registered:
            return
        closed = asyncio.ensure_future(self._require().closed.wait())
        registered = asyncio.ensure_future(self._sidecar.registered.wait())
        done, waiting = await asyncio.wait(
            (closed, registered), timeout=self._start_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for task in waiting:
            task.cancel()
        if closed in done:
            raise await self._reason()
        if not done:
            raise self._late()

    def _on_joining(self, event: Event) -> None:
        """The node is `pending` or `registered`; it may say so before its start is over."""
        self._pending = event.pending
        self._events.tell(event)

    def _late(self) -> WaymeshError:
        """Why the agent is not registered in time."""
        pending = self._pending
        if pending is not None:
            return Pending(
                f"no admin has approved the request {pending.request} of {self._name} "
                f"within {self._start_timeout} s (fingerprint {pending.fingerprint})",
                hint=f"run `waymesh approve {pending.request} --fingerprint {pending.fingerprint}` "
                "beside the registry and start again, or start with wait_registered=False",
            )
        return RegistryUnreachable(
            f"the registry {self._launch.registry or ''} did not answer within {self._start_timeout} s",
            hint="start it, or start the agent with wait_registered=False",
        )

    def _on_event(self, line: Line) -> None:
        kind = line["type"]
        if kind == "call":
            if self._connection is not None:
                self._work.take(self._connection, line)
        elif kind == "message":
            self._on_message(line)
        elif kind == "call_cancelled":
            self._work.cancel(line["call_id"])
        elif kind in _EVENTS:
            self._tell(kind, line)
        elif kind == "error":
            _log.debug("the node says: %s", line["error"])

    def _tell(self, kind: str, line: Line) -> None:
        peer = line.get("peer_id") or line.get("from_peer")
        if kind == "state" and line["state"] in FAILED and "id" not in line:
            _log.warning("a message to %s is %s: %s", peer, line["state"], line.get("error"))
        elif kind == "certificate_expiring":
            _log.warning("the certificate ends in %s s and was not extended", line["remaining_ms"] // 1_000)
        self._events.tell(Event(_EVENTS[kind], peer, line))

    def _on_message(self, line: Line) -> None:
        connection, delivery = self._connection, line.get("delivery")
        if connection is None:
            return
        data, content_type = line["message"], line.get("content_type")
        if isinstance(data, Undecodable):
            data, content_type = data.raw, "application/json"
        ack = None if delivery is None else lambda: connection.post({"type": "ack", "delivery": delivery})
        self._inbox.put(
            Message(
                line["from_peer"],
                data,
                line["message_id"],
                line["agent_id"],
                line["class"],
                line["redelivered"],
                line["path"],
                content_type,
                ack,
            )
        )

    def _on_lost(self, fault: WaymeshError) -> None:
        if self._connection is None:
            return
        self._work.cancel_all()
        self._events.tell(Event("node_lost", None, {"error": fault.to_json()}))
        self._end_loops(fault)

    def _end_loops(self, error: WaymeshError | None) -> None:
        self._inbox.queue.end(error)
        self._events.end()

    async def _reason(self) -> WaymeshError:
        if self._sidecar is None:
            return NodeNotRunning("the node went away", hint="start it again")
        return await self._sidecar.reason()


def _rules(name: str, rules: Iterable[str]) -> tuple[str, ...]:
    if isinstance(rules, str):
        raise BadRequest(f"{name} is a list of rules", hint=f'for example {name}=["{rules}"]')
    return tuple(rules)
