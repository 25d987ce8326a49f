"""An agent: its skills, its calls, its messages, and the node that carries them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, overload

from ._connection import Connection, Line, Undecodable
from ._inbox import EVENTS_MAX, Inbox, Messages, Queue
from ._sidecar import Sidecar, default_data_dir, find_binary
from ._skills import Handler, OwnSkill, failure
from .errors import (
    BadRequest,
    NodeNotRunning,
    RegistryUnreachable,
    UnknownSkill,
    WaymeshError,
)
from .types import AgentRecord, DeliveryClass, Event, EventKind, Message, Peer, Pong, Priority, Sent

_log = logging.getLogger("waymesh")
_H = TypeVar("_H", bound=Handler)

_EVENTS: dict[str, EventKind] = {
    "peer_connected": "peer_connected",
    "peer_disconnected": "peer_disconnected",
    "path_changed": "path_changed",
    "gap": "gap",
    "state": "send_failed",
}


class Agent:
    """An agent in the mesh.

    Use it as `async with Agent(...) as agent:`, or `await agent.run()` to serve
    until the program is stopped. It starts a node of its own and stops it at the
    end; with `socket` (the path of a node's `node.sock`) it uses a running one.

    `registry` defaults to WAYMESH_REGISTRY, `binary` to WAYMESH_BIN or `waymesh`
    on the PATH, `data_dir` to a folder for this name in the user's data directory.
    Start-up waits up to `start_timeout` seconds for the registry to know the
    agent; with `wait_registered=False` the registry may come later.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        registry: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        binary: str | os.PathLike[str] | None = None,
        socket: str | os.PathLike[str] | None = None,
        start_timeout: float = 30.0,
        wait_registered: bool = True,
    ) -> None:
        if name is None and socket is None:
            raise BadRequest("an agent needs a name, or the socket of a running node")
        self._name = name
        self._registry = registry or os.environ.get("WAYMESH_REGISTRY")
        self._data_dir = data_dir
        self._binary = binary
        self._socket = socket
        self._start_timeout = start_timeout
        self._wait_registered = wait_registered
        self._skills: dict[str, OwnSkill] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._inbox = Inbox()
        self._attached: asyncio.Future[None] | None = None
        self._listeners: list[Queue[Event]] = []
        self._sidecar: Sidecar | None = None
        self._connection: Connection | None = None
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None

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
        self._threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="waymesh-skill")
        try:
            path = os.fspath(self._socket) if self._socket is not None else await self._start_sidecar()
            self._connection = await Connection.open(path, self._on_event, self._on_lost)
            await asyncio.gather(*(self._offer(skill) for skill in self._skills.values()))
            await self._until_registered()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Cancels what runs, leaves the mesh and stops the node if it is this agent's own."""
        connection, self._connection = self._connection, None
        sidecar, self._sidecar = self._sidecar, None
        for task in list(self._calls.values()):
            task.cancel()
        self._end_loops(None)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            if connection is not None:
                connection.close()
                await connection.closed.wait()
        finally:
            if sidecar is not None:
                await sidecar.stop()

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
    def dropped(self) -> int:
        """Messages of lossy classes that were dropped because nobody took them in time."""
        return self._inbox.dropped

    # -- skills -----------------------------------------------------------

    @overload
    def skill(self, handler: _H, /) -> _H: ...
    @overload
    def skill(
        self,
        name: str | None = None,
        *,
        description: str | None = None,
        schema: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> Callable[[_H], _H]: ...
    def skill(
        self,
        name: Any = None,
        *,
        description: str | None = None,
        schema: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Makes a function a skill: `@agent.skill` or `@agent.skill("name", …)`.

        The schema comes from the type hints, the description from the docstring.
        Sync functions run in a thread. Only an `idempotent` one is run again when
        a call of it was lost.
        """

        def declare(handler: _H) -> _H:
            if self._connection is not None:
                raise BadRequest("the agent runs already", hint="use `await agent.offer(handler)`")
            named = name if isinstance(name, str) else None
            self._declare(handler, named, description, schema, idempotent)
            return handler

        return declare(name) if callable(name) else declare

    async def offer(
        self,
        handler: Handler,
        name: str | None = None,
        *,
        description: str | None = None,
        schema: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> None:
        """Offers a skill while the agent runs."""
        skill = self._declare(handler, name, description, schema, idempotent)
        try:
            await self._offer(skill)
        except WaymeshError:
            del self._skills[skill.name]
            raise

    async def withdraw(self, name: str) -> None:
        """Gives a skill up; calls that run go on."""
        await self._require().request({"type": "unregister_skill", "skill": name})
        self._skills.pop(name, None)

    # -- calls and messages -----------------------------------------------

    async def call(
        self,
        peer: str,
        skill: str,
        args: Any = None,
        *,
        timeout: float = 30.0,
        idempotent: bool = False,
        priority: Priority = "normal",
        content_type: str | None = None,
    ) -> Any:
        """Calls a skill of a peer and gives its result: a JSON value, or bytes.

        `args` is a JSON object, or bytes for a skill that takes bytes. The call
        waits within `timeout` seconds for a peer that is not there yet. Cancelling
        the task withdraws the call.
        """
        line: Line = {
            "type": "call",
            "target_peer": peer,
            "skill": skill,
            "timeout_ms": _millis(timeout),
        }
        if idempotent:
            line["idempotent"] = True
        if priority != "normal":
            line["priority"] = priority
        payload = {} if args is None else args
        answer = await self._require().request(line, "args", payload, content_type)
        result = answer["result"]
        if isinstance(result, Undecodable):
            raise BadRequest(f"the result cannot be read: {result.reason}")
        return result

    async def send(
        self,
        peer: str,
        message: Any,
        *,
        wait: Literal["queued", "delivered"] = "queued",
        ttl: float = 300.0,
        delivery_class: DeliveryClass = "control",
        priority: Priority = "normal",
        content_type: str | None = None,
    ) -> Sent:
        """Sends a message: any JSON value, or bytes.

        With `wait="queued"` it returns when the node holds the message; a later
        failure is an event `send_failed`. With `wait="delivered"` it returns when
        the receiver has acknowledged it, and raises when that fails.
        """
        line = _sending("send", wait, ttl, delivery_class, priority)
        line["target_peer"] = peer
        answer = await self._require().request(line, "message", message, content_type)
        sent = _sent(answer)
        if sent.state in ("expired", "refused", "unconfirmed"):
            raise WaymeshError.from_json(
                sent.error or {"code": sent.state, "message": f"the message to {peer} is {sent.state}"}
            )
        return sent

    async def broadcast(
        self,
        message: Any,
        *,
        wait: Literal["queued", "delivered"] = "queued",
        ttl: float = 300.0,
        delivery_class: DeliveryClass = "control",
        priority: Priority = "normal",
        content_type: str | None = None,
    ) -> list[Sent]:
        """Sends a message to every linked peer; says what became of each."""
        line = _sending("broadcast", wait, ttl, delivery_class, priority)
        answer = await self._require().request(line, "message", message, content_type)
        return [_sent(outcome) for outcome in answer["result"]["peers"]]

    def messages(self) -> AsyncIterator[Message]:
        """The messages for this agent: `async for message in agent.messages()`.

        A message counts as taken, and its sender learns `delivered`, when the loop
        asks for the next one, or at once with `await message.ack()`. A loop that is
        left before gets the message again, marked `redelivered`. One loop at a time;
        only one client of a node can own its messages.
        """
        connection = self._require()
        if self._attached is None or (self._attached.done() and self._attached.exception()):
            self._attached = asyncio.ensure_future(_attach(connection))
        return Messages(self._inbox, self._attached)

    # -- the mesh ---------------------------------------------------------

    async def connect(self, peer: str, *, timeout: float = 30.0) -> None:
        """Makes a link to a peer now, instead of on first use."""
        line = {"type": "connect", "target_peer_id": peer, "timeout_ms": _millis(timeout)}
        await self._require().request(line)

    async def peers(self) -> list[Peer]:
        """The peers and how each is reached."""
        answer = await self._require().request({"type": "list_peers"})
        return [Peer.from_json(peer) for peer in answer["peers"]]

    async def find(self, *, name: str | None = None, skill: str | None = None) -> list[AgentRecord]:
        """The agents that the registry knows, by name and skill."""
        wanted = {"name": name, "skill": skill}
        line: Line = {"type": "find_agents"} | {k: v for k, v in wanted.items() if v is not None}
        answer = await self._require().request(line)
        return [AgentRecord.from_json(agent) for agent in answer["result"]["agents"]]

    async def ping(self, peer: str, *, timeout: float = 30.0) -> Pong:
        """Measures a round trip to the node of a peer."""
        line = {"type": "ping", "target_peer": peer, "timeout_ms": _millis(timeout)}
        answer = await self._require().request(line)
        return Pong(answer["result"]["path"], answer["result"]["rtt_ms"])

    def events(self) -> AsyncIterator[Event]:
        """What changes from now on: peers, paths, gaps, failed sends, a lost node.

        Each call has a queue of its own; when 1,024 events wait, the oldest goes.
        """
        self._require()
        queue: Queue[Event] = Queue(EVENTS_MAX)
        self._listeners.append(queue)
        return self._listen(queue)

    # -- inside -----------------------------------------------------------

    def _require(self) -> Connection:
        if self._connection is None:
            raise NodeNotRunning("the agent does not run", hint="use `async with Agent(...)`")
        return self._connection

    async def _start_sidecar(self) -> str:
        assert self._name is not None
        self._sidecar = await Sidecar.start(
            find_binary(self._binary),
            name=self._name,
            registry=self._registry,
            data_dir=Path(self._data_dir or default_data_dir(self._name)).absolute(),
            timeout=self._start_timeout,
        )
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
            raise RegistryUnreachable(
                f"the registry {self._registry} did not answer within {self._start_timeout} s",
                hint="start it, or start the agent with wait_registered=False",
            )

    def _declare(
        self,
        handler: Handler,
        name: str | None,
        description: str | None,
        schema: dict[str, Any] | None,
        idempotent: bool,
    ) -> OwnSkill:
        skill = OwnSkill(
            handler, name=name, description=description, schema=schema, idempotent=idempotent
        )
        if skill.name in self._skills:
            raise BadRequest(f"the agent has a skill `{skill.name}` already")
        self._skills[skill.name] = skill
        return skill

    async def _offer(self, skill: OwnSkill) -> None:
        await self._require().request({"type": "register_skill", "skill": skill.spec})

    def _on_event(self, line: Line) -> None:
        kind = line["type"]
        if kind == "call":
            self._on_call(line)
        elif kind == "message":
            self._on_message(line)
        elif kind == "call_cancelled":
            task = self._calls.get(line["call_id"])
            if task is not None:
                task.cancel()
        elif kind in _EVENTS:
            self._tell(Event(_EVENTS[kind], line.get("peer_id") or line.get("from_peer"), line))
        elif kind == "error":
            _log.debug("the node says: %s", line["error"])

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

    def _on_call(self, line: Line) -> None:
        call_id = line["call_id"]
        run = self._run_call(line)
        if sys.version_info >= (3, 12):
            task = asyncio.Task(run, loop=asyncio.get_running_loop(), eager_start=True)
            if task.done():
                return
        else:
            task = asyncio.get_running_loop().create_task(run)
        self._calls[call_id] = task
        task.add_done_callback(lambda _: self._calls.pop(call_id, None))

    async def _run_call(self, line: Line) -> None:
        connection = self._connection
        if connection is None or self._threads is None:
            return
        reply: Line = {"type": "reply", "call_id": line["call_id"]}
        try:
            skill = self._skills.get(line["skill"])
            if skill is None:
                raise UnknownSkill(f"there is no skill `{line['skill']}` here any more")
            result = await skill.run(line, self._threads)
            connection.post(dict(reply), "result", result)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the caller is told
            if not isinstance(error, WaymeshError):
                _log.warning("the skill %s failed", line["skill"], exc_info=True)
            connection.post(reply | {"error": failure(error)})

    def _on_lost(self, fault: WaymeshError) -> None:
        if self._connection is None:
            return
        for task in list(self._calls.values()):
            task.cancel()
        self._tell(Event("node_lost", None, {"error": fault.to_json()}))
        self._end_loops(fault)

    def _end_loops(self, error: WaymeshError | None) -> None:
        self._inbox.queue.end(error)
        for queue in self._listeners:
            queue.end(None)

    async def _reason(self) -> WaymeshError:
        if self._sidecar is None:
            return NodeNotRunning("the node went away", hint="start it again")
        return await self._sidecar.reason()

    def _tell(self, event: Event) -> None:
        if event.kind == "send_failed":
            _log.warning("a message to %s was not delivered: %s", event.peer, event.data.get("error"))
        for queue in self._listeners:
            queue.put(event)

    async def _listen(self, queue: Queue[Event]) -> AsyncIterator[Event]:
        try:
            while True:
                try:
                    event = await queue.take()
                except StopAsyncIteration:
                    return
                yield event
        finally:
            self._listeners.remove(queue)


async def _attach(connection: Connection) -> None:
    await connection.request({"type": "attach"})


def _sending(
    verb: str, wait: str, ttl: float, delivery_class: DeliveryClass, priority: Priority
) -> Line:
    return {
        "type": verb,
        "wait": wait,
        "ttl_ms": _millis(ttl),
        "class": delivery_class,
        "priority": priority,
    }


def _sent(line: Line) -> Sent:
    return Sent(line["peer_id"], line["message_id"], line["state"], line.get("path"), line.get("error"))


def _millis(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
