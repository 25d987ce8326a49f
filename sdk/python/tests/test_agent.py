"""The agent before a node of Python: calls, skills, messages, events, errors."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_node import MESSAGE_ID, PEER, STATES, FakeNode, fault

import waymesh
from waymesh import Agent, Call, Event, errors

Test = Callable[[FakeNode, Agent], Awaitable[None]]


def with_agent(test: Test) -> Callable[[Path], None]:
    """Runs a test with an agent that is attached to a fake node."""

    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        async def main() -> None:
            async with FakeNode(tmp_path / "node.sock") as node:
                async with Agent(socket=tmp_path / "node.sock") as agent:
                    async with asyncio.timeout(30):
                        await test(node, agent)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@with_agent
async def test_a_call_reaches_the_skill_with_typed_arguments(node: FakeNode, agent: Agent) -> None:
    async def paint(colour: Colour, at: Point, call: Call, more: list[Point] | None = None) -> dict[str, Any]:
        """Paints.

        More about it.
        """
        assert more is None
        return {"colour": colour, "at": at, "caller": call.caller}

    await agent.offer(paint, idempotent=True)
    told = (await node.line("register_skill"))["skill"]
    assert told["description"] == "Paints."
    assert told["idempotent"] is True
    assert told["schema"]["required"] == ["colour", "at"]
    assert told["schema"]["properties"]["colour"] == {"enum": ["red"]}
    result = await agent.call("self", "paint", {"colour": "red", "at": {"x": 1}})
    assert result == {"colour": "red", "at": {"x": 1, "y": 0}, "caller": "self"}


@with_agent
async def test_sync_handlers_run_in_a_thread(node: FakeNode, agent: Agent) -> None:
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    await agent.offer(where)
    assert await agent.call("self", "where") is False


@with_agent
async def test_bytes_and_large_json_go_behind_the_line(node: FakeNode, agent: Agent) -> None:
    async def flip(data: bytes) -> bytes:
        return data[::-1]

    async def same(value: Any, /) -> Any:
        return value

    await agent.offer(flip)
    await agent.offer(same)
    raw = bytes(range(256)) * 4096
    assert await agent.call("self", "flip", raw) == raw[::-1]
    large = {"text": "ü\n" * 30_000}
    assert await agent.call("self", "same", large) == large
    assert await agent.call("self", "same", [None]) == [None]
    with pytest.raises(waymesh.MessageTooLarge):
        await agent.call("self", "flip", raw + b"x")
    with pytest.raises(errors.BadRequest):
        await agent.call("self", "same", {"x": object()})


@with_agent
async def test_a_handler_that_raises_tells_its_caller(node: FakeNode, agent: Agent) -> None:
    async def bad(how: str) -> Any:
        if how == "own":
            raise waymesh.InvalidArguments("not that")
        if how == "result":
            return object()
        raise ValueError("no such luck")

    await agent.offer(bad)
    with pytest.raises(waymesh.HandlerFailed, match="ValueError: no such luck"):
        await agent.call("self", "bad", {"how": "raise"})
    with pytest.raises(waymesh.HandlerFailed, match="object is not JSON"):
        await agent.call("self", "bad", {"how": "result"})
    with pytest.raises(waymesh.InvalidArguments, match="not that"):
        await agent.call("self", "bad", {"how": "own"})
    for args in ({}, {"how": "x", "and": 1}, [1]):
        with pytest.raises(waymesh.InvalidArguments):
            await agent.call("self", "bad", args)
    with pytest.raises(waymesh.UnknownSkill):
        await agent.call("self", "absent")


@with_agent
async def test_errors_of_the_node_keep_code_hint_and_executed(node: FakeNode, agent: Agent) -> None:
    with pytest.raises(waymesh.PeerLost) as lost:
        await agent.call("peer_lost", "x")
    assert (lost.value.number, lost.value.executed, lost.value.hint) == (2009, "unknown", "try another")
    with pytest.raises(TimeoutError):
        await agent.ping("timeout")


@with_agent
async def test_cancelling_a_call_cancels_its_handler(node: FakeNode, agent: Agent) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await agent.offer(wait)
    call = asyncio.create_task(agent.call("self", "wait"))
    await entered.wait()
    call.cancel()
    await cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await call


@with_agent
async def test_a_message_is_acknowledged_when_the_next_is_asked_for(node: FakeNode, agent: Agent) -> None:
    messages = agent.messages()
    assert (await agent.send("self", {"n": 1})).state == "queued"
    assert (await agent.send("self", b"raw", wait="delivered")).state == "delivered"
    first = await anext(messages)
    assert (first.data, first.sender, first.redelivered) == ({"n": 1}, "self", False)
    assert not [line for line in node.lines if line["type"] == "ack"]
    second = await anext(messages)
    assert second.data == b"raw"
    assert (await node.line("ack"))["delivery"] == 1
    again = await anext(agent.messages())
    assert (again.data, again.redelivered) == (b"raw", True)
    await again.ack()
    await again.ack()
    assert (await node.line("ack", 2))["delivery"] == 2
    assert len([line for line in node.lines if line["type"] == "attach"]) == 1


@with_agent
async def test_lossy_messages_that_nobody_takes_are_counted_not_kept(node: FakeNode, agent: Agent) -> None:
    for number in range(1_100):
        node.message({"class": "telemetry", "message": number})
    await agent.peers()
    assert agent.dropped == 1_100 - 1_024


FAILED = {"type": "state", "peer_id": "self", "message_id": MESSAGE_ID, "state": "expired", "last": True}


@with_agent
async def test_events_tell_of_peers_certificates_and_failed_sends(node: FakeNode, agent: Agent) -> None:
    events = agent.events()
    node.tell({"type": "peer_connected", **PEER})
    node.tell({"type": "from_the_future", "x": 1})
    node.tell({"type": "certificate_expiring", "remaining_ms": 86_400_000})
    node.tell(FAILED | {"error": fault("timeout")})
    connected, expiring, failed = [await anext(events) for _ in range(3)]
    assert (connected.kind, connected.peer) == ("peer_connected", "self")
    assert connected.status is not None and connected.status.path == "direct"
    assert (expiring.kind, expiring.data["remaining_ms"]) == ("certificate_expiring", 86_400_000)
    assert failed.sent is not None and failed.status is None
    assert (failed.sent.state, failed.sent.message_id, failed.sent.is_final) == ("expired", MESSAGE_ID, True)


@with_agent
async def test_each_wait_returns_with_its_state(node: FakeNode, agent: Agent) -> None:
    for wait in ("queued", "stored", "delivered"):
        sent = await agent.send("self", 1, wait=wait)
        assert (sent.state, sent.is_final) == (wait, wait == "delivered")
        assert "states" not in await node.line("send")


@with_agent
async def test_who_listens_to_states_hears_every_one_of_every_message(node: FakeNode, agent: Agent) -> None:
    states = agent.events("state")
    heard: list[str] = []
    all_heard = asyncio.Event()

    @agent.on("state")
    async def hear(event: Event) -> None:
        assert event.sent is not None
        heard.append(event.sent.state)
        if len(heard) == 6:
            all_heard.set()
        raise RuntimeError("the next one comes none the less")

    for wait in ("queued", "delivered"):
        await agent.send("self", 1, wait=wait)
        assert [(await anext(states)).data["state"] for _ in STATES] == STATES
    await all_heard.wait()
    assert heard == [*STATES, *STATES]


@with_agent
async def test_a_loop_that_was_left_listens_no_longer(node: FakeNode, agent: Agent) -> None:
    await agent.peers()
    node.tell(FAILED | {"error": fault("timeout")})
    async for event in agent.events("peer_connected", "state"):
        assert event.kind == "state"
        break
    await agent.send("self", 1)
    assert "states" not in await node.line("send")


@with_agent
async def test_handlers_get_only_the_kinds_they_want(node: FakeNode, agent: Agent) -> None:
    heard: list[str] = []
    done = asyncio.Event()
    agent.on("gap")(lambda event: heard.append(event.kind))
    agent.on()(lambda event: done.set() if event.kind == "gap" else None)
    node.tell({"type": "peer_connected", **PEER})
    node.tell({"type": "gap", "from_peer": "self", "class": "control", "missing": 3})
    await done.wait()
    assert heard == ["gap"]


def test_handlers_do_what_waits_before_the_agent_stops(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[str] = []
        agent = Agent(socket=tmp_path / "n")
        agent.on("state")(lambda event: heard.append(event.data["state"]))
        async with FakeNode(tmp_path / "n"), agent:
            await agent.send("self", 1, wait="delivered")
        assert heard == STATES

    asyncio.run(main())


@with_agent
async def test_the_node_says_how_it_stands_in_its_mesh(node: FakeNode, agent: Agent) -> None:
    info = await agent.info()
    assert (info.name, info.mesh, info.incarnation) == ("self", "5" * 32, 1)
    assert info.certificate_expires is not None
    assert info.certificate_expires.isoformat() == "2025-11-27T10:34:50.123000+00:00"


@with_agent
async def test_peers_agents_pings_and_broadcasts(node: FakeNode, agent: Agent) -> None:
    assert (await agent.peers())[0].setup_ms == 20.0
    assert (await agent.find(skill="add"))[0].skills[0].idempotent
    assert (await agent.ping("self")).path == "direct"
    assert (await agent.broadcast("x"))[0].state == "queued"
    await agent.connect("self")


@with_agent
async def test_a_lost_node_ends_what_waits_with_an_error(node: FakeNode, agent: Agent) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    await agent.offer(wait)
    events, messages = agent.events(), agent.messages()
    call = asyncio.create_task(agent.call("self", "wait"))
    await node.line("call")
    node.writers[-1].close()
    with pytest.raises(waymesh.NodeNotRunning) as lost:
        await call
    assert lost.value.executed == "unknown"
    assert (await anext(events)).kind == "node_lost"
    with pytest.raises(waymesh.NodeNotRunning):
        await anext(messages)
    with pytest.raises(waymesh.NodeNotRunning):
        await agent.peers()


@with_agent
async def test_a_node_that_gives_the_program_up_says_why(node: FakeNode, agent: Agent) -> None:
    messages = agent.messages()
    node.tell({"type": "error", "error": fault("slow_consumer")})
    with pytest.raises(errors.SlowConsumer):
        await anext(messages)


@with_agent
async def test_json_too_deep_to_read_harms_only_itself(node: FakeNode, agent: Agent) -> None:
    async def same(value: Any, /) -> Any:
        return value

    await agent.offer(same)
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(waymesh.InvalidArguments):
        await agent.call("self", "same", deep, content_type="application/json")
    assert await agent.call("self", "same", 1) == 1


def test_without_a_node_it_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(waymesh.NodeNotRunning):
            async with Agent(socket=tmp_path / "node.sock"):
                pass

    asyncio.run(main())


def test_a_socket_path_longer_than_the_kernel_takes_works(tmp_path: Path) -> None:
    async def main() -> None:
        deep = tmp_path / ("d" * 120)
        deep.mkdir()
        async with FakeNode(tmp_path / "n") as node:
            (tmp_path / "n").rename(deep / "node.sock")
            async with Agent(socket=deep / "node.sock") as agent:
                assert agent.name == "self"
            del node

    asyncio.run(main())


def test_a_type_without_a_schema_is_refused_when_the_skill_is_declared() -> None:
    agent = Agent("x")
    with pytest.raises(TypeError):

        @agent.skill
        async def bad(value: threading.Thread) -> None:
            del value
