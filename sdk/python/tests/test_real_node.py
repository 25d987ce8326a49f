"""Agents with real nodes and a real registry, in good times and bad.

Needs WAYMESH_BIN. Every test has a registry and data directories of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from real_mesh import Mesh, add, in_mesh

import waymesh
from waymesh import Agent, errors

VECTORS = json.loads((Path(__file__).parents[3] / "spec" / "vectors" / "ipc.json").read_text())


async def same(value: Any, /) -> Any:
    return value


async def fail() -> None:
    raise RuntimeError("on purpose")


def gate() -> tuple[asyncio.Event, asyncio.Event, Callable[..., Any]]:
    """A skill that says when it was entered and when it was cancelled, and never answers."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    return entered, cancelled, wait


@in_mesh
async def test_an_agent_calls_another_directly(mesh: Mesh) -> None:
    await mesh.join("bob", add)
    alice = await mesh.join("alice")
    assert await alice.call("bob", "add", {"a": 2, "b": 3}) == 5
    assert await alice.call("bob", "add", {"a": 2}) == 3
    await alice.connect("bob")
    peer = next(peer for peer in await alice.peers() if peer.name == "bob")
    assert (peer.state, peer.path, peer.transport) == ("linked", "direct", "webrtc")
    assert (await alice.ping("bob")).path == "direct"
    found = await alice.find(skill="add")
    assert [(agent.name, agent.online) for agent in found] == [("bob", True)]
    assert found[0].skills[0].description == "Adds two numbers."


@in_mesh
async def test_bad_requests_get_their_codes(mesh: Mesh) -> None:
    await mesh.join("bob", add, fail)
    alice = await mesh.join("alice")
    with pytest.raises(waymesh.UnknownPeer):
        await alice.call("nobody", "add", {}, timeout=2)
    with pytest.raises(waymesh.UnknownSkill):
        await alice.call("bob", "fly", {})
    for args in ({"a": "two"}, {}, {"a": 1, "c": 2}, [1]):
        with pytest.raises(waymesh.InvalidArguments):
            await alice.call("bob", "add", args)
    with pytest.raises(waymesh.HandlerFailed, match="RuntimeError: on purpose") as failed:
        await alice.call("bob", "fail")
    assert failed.value.retry == "never"
    with pytest.raises(errors.BadRequest):
        await alice.call("Not A Name", "add", {})
    assert await alice.call("bob", "add", {"a": 1}) == 2


@in_mesh
async def test_payloads_of_every_size_and_kind(mesh: Mesh) -> None:
    async def flip(data: bytes) -> bytes:
        return data[::-1]

    await mesh.join("bob", same, flip)
    alice = await mesh.join("alice")
    for value in (None, "ü\n\u2028", [[]], {"n": 1.5}, "x" * 40_000, "x" * 1_000_000):
        assert await alice.call("bob", "same", [value]) == [value]
    raw = bytes(range(256)) * 4096
    assert await alice.call("bob", "flip", raw) == raw[::-1]
    with pytest.raises(waymesh.MessageTooLarge):
        await alice.call("bob", "flip", raw + b"x")


@in_mesh
async def test_messages_arrive_in_order_and_their_senders_learn_it(mesh: Mesh) -> None:
    bob = await mesh.join("bob")
    alice = await mesh.join("alice")
    for number in range(200):
        await alice.send("bob", {"number": number})
    last = asyncio.create_task(alice.send("bob", b"end", wait="delivered"))
    numbers = []
    async for message in bob.messages():
        if message.data == b"end":
            await message.ack()
            break
        numbers.append(message.data["number"])
    assert numbers == list(range(200))
    assert (await last).state == "delivered"


@in_mesh
async def test_a_message_nobody_takes_expires_and_its_sender_learns_it(mesh: Mesh) -> None:
    await mesh.join("bob")
    alice = await mesh.join("alice")
    with pytest.raises((waymesh.Expired, errors.Unconfirmed)):
        await alice.send("bob", "x", wait="delivered", ttl=0.5)


@in_mesh
async def test_every_bad_line_gets_its_code_and_harms_nobody_else(mesh: Mesh) -> None:
    bob = await mesh.join("bob", add)
    for case in VECTORS["bad"]:
        reader, writer = await asyncio.open_unix_connection(mesh.socket(bob))
        assert json.loads(await reader.readline())["type"] == "hello"
        line = case.get("line", "").encode() + bytes.fromhex(case.get("hex", ""))
        writer.write(line + b"\n" + bytes.fromhex(case.get("payload_hex", "")))
        error = json.loads(await reader.readline())
        assert (error["type"], error["error"]["code"]) == ("error", case["code"]), case["about"]
        assert error["error"]["hint"], case["about"]
        assert error.get("id") == case["id"], case["about"]
        if case["closes"]:
            assert await reader.read() == b"", case["about"]
        writer.close()
        await writer.wait_closed()
    alice = await mesh.join("alice")
    assert await alice.call("bob", "add", {"a": 1}) == 2


@in_mesh
async def test_the_inbox_and_a_skill_have_one_owner(mesh: Mesh) -> None:
    bob = await mesh.join("bob", add)
    second = await mesh.another(bob)
    with pytest.raises(waymesh.AlreadyOwned):
        await second.offer(add)
    first_loop = asyncio.create_task(anext(bob.messages()))
    alice = await mesh.join("alice")
    await alice.send("bob", 1)
    assert (await first_loop).data == 1
    with pytest.raises(waymesh.AlreadyOwned):
        await anext(second.messages())
    await bob.withdraw("add")
    await second.offer(add)
    assert await alice.call("bob", "add", {"a": 1}) == 2


@in_mesh
async def test_a_caller_that_gives_up_cancels_the_handler(mesh: Mesh) -> None:
    entered, cancelled, wait = gate()
    await mesh.join("bob", wait)
    alice = await mesh.join("alice")
    call = asyncio.create_task(alice.call("bob", "wait"))
    await entered.wait()
    call.cancel()
    await cancelled.wait()


@in_mesh
async def test_a_deadline_that_passes_is_a_timeout_and_cancels_the_handler(mesh: Mesh) -> None:
    _, cancelled, wait = gate()
    await mesh.join("bob", wait)
    alice = await mesh.join("alice")
    with pytest.raises(waymesh.Timeout) as late:
        await alice.call("bob", "wait", timeout=1)
    assert late.value.code == "timeout"
    await cancelled.wait()


@in_mesh
async def test_a_worker_killed_in_mid_call_is_peer_lost(mesh: Mesh) -> None:
    entered, _, wait = gate()
    bob = await mesh.join("bob", wait)
    alice = await mesh.join("alice")
    call = asyncio.create_task(alice.call("bob", "wait", timeout=60))
    await entered.wait()
    assert bob.node_pid is not None
    os.kill(bob.node_pid, signal.SIGKILL)
    with pytest.raises(waymesh.PeerLost) as lost:
        await call
    assert lost.value.executed == "unknown"


@in_mesh
async def test_a_program_that_ends_in_mid_call_is_handler_lost(mesh: Mesh) -> None:
    entered, _, wait = gate()
    bob = await mesh.join("bob")
    async with Agent(socket=mesh.socket(bob)) as worker:
        await worker.offer(wait)
        alice = await mesh.join("alice")
        call = asyncio.create_task(alice.call("bob", "wait", timeout=60))
        await entered.wait()
    with pytest.raises(errors.HandlerLost):
        await call


@in_mesh
async def test_one_data_directory_is_for_one_node(mesh: Mesh) -> None:
    await mesh.join("bob")
    with pytest.raises(errors.IdentityInUse):
        await mesh.agent("bob").start()


@in_mesh
async def test_a_name_belongs_to_the_first_key(mesh: Mesh) -> None:
    async with mesh.agent("bob"):
        pass
    with pytest.raises(errors.NameTaken):
        await mesh.agent("bob", data_dir=mesh.folder / "thief").start()


@in_mesh
async def test_links_live_on_without_the_registry_and_it_may_come_back(mesh: Mesh) -> None:
    await mesh.join("bob", add)
    alice = await mesh.join("alice")
    assert await alice.call("bob", "add", {"a": 1}) == 2
    # The first answer came by mailbox, before the link was made.
    await alice.connect("bob")
    await mesh.kill_registry()
    for number in range(20):
        assert await alice.call("bob", "add", {"a": number}) == number + 1
    address = mesh.url.split("//")[1].rstrip("/")
    carol = await mesh.join("carol", add, wait_registered=False)
    await mesh.start_registry(address)
    assert await alice.call("carol", "add", {"a": 1}, timeout=60) == 2
    assert await carol.call("bob", "add", {"a": 1}, timeout=60) == 2


@in_mesh
async def test_a_node_that_restarts_is_reachable_again(mesh: Mesh) -> None:
    bob = await mesh.join("bob", add)
    alice = await mesh.join("alice")
    assert await alice.call("bob", "add", {"a": 1}) == 2
    assert bob.node_pid is not None
    os.kill(bob.node_pid, signal.SIGKILL)
    await bob.stop()
    await mesh.join("bob", add)
    assert await alice.call("bob", "add", {"a": 2}, idempotent=True) == 3


async def _flood(alice: Agent, sent: list[int]) -> None:
    """Sends until the mesh takes no more for bob."""
    for _ in range(2_000):
        try:
            await alice.send("bob", bytes(64 * 1024), ttl=60)
        except waymesh.QueueFull:
            return
        sent.append(1)


@contextlib.asynccontextmanager
async def _deaf_client(path: Path) -> AsyncIterator[None]:
    """A program that claims the inbox and then reads nothing."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(b'{"type":"attach","id":"a"}\n')
    while json.loads(await reader.readline())["type"] != "ok":
        pass
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        writer.transport.abort()


def _rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@in_mesh
async def test_a_program_that_stops_reading_holds_up_nobody(mesh: Mesh) -> None:
    bob = await mesh.join("bob", add)
    alice = await mesh.join("alice")
    assert await alice.call("bob", "add", {"a": 1}) == 2
    sent: list[int] = []
    async with _deaf_client(mesh.socket(bob)):
        flood = asyncio.create_task(_flood(alice, sent))
        for number in range(50):
            assert await alice.call("bob", "add", {"a": number}) == number + 1
        await flood
        assert await alice.call("bob", "add", {"a": 1}) == 2
        assert bob.node_pid is not None
        assert _rss_bytes(bob.node_pid) < 160 * 1024 * 1024


@in_mesh
async def test_a_loop_that_takes_no_more_messages_holds_up_nobody(mesh: Mesh) -> None:
    bob = await mesh.join("bob", add)
    alice = await mesh.join("alice")
    messages = bob.messages()
    await alice.send("bob", b"first")
    assert (await anext(messages)).data == b"first"
    sent: list[int] = []
    await _flood(alice, sent)
    assert bob.node_pid is not None
    full = _rss_bytes(bob.node_pid)
    for number in range(50):
        assert await alice.call("bob", "add", {"a": number}) == number + 1
        await _flood(alice, sent)
    assert _rss_bytes(bob.node_pid) < full + 8 * 1024 * 1024
    for _ in sent:
        assert len((await anext(messages)).data) == 64 * 1024


@in_mesh
async def test_ten_agents_that_start_at_once_all_reach_each_other(mesh: Mesh) -> None:
    names = [f"agent-{number}" for number in range(10)]
    agents = await asyncio.gather(*(mesh.join(name, add) for name in names))
    calls = (
        agent.call(name, "add", {"a": 1}) for agent in agents for name in names if name != agent.name
    )
    assert await asyncio.gather(*calls) == [2] * 90
