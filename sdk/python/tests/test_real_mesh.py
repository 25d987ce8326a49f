"""Joining a mesh, its rules, and messages to those who are not there: with real nodes.

Needs WAYMESH_BIN. Every test has a registry and data directories of its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from real_mesh import Mesh, add, in_mesh

import waymesh
from waymesh import Event, errors


@in_mesh
async def test_an_invite_makes_a_member_that_needs_none_later(mesh: Mesh) -> None:
    async with mesh.agent("alice") as alice:
        info = await alice.info()
        assert info.mesh is not None and info.certificate_expires is not None
        assert alice.pending is None
        command_line = Path(f"/proc/{alice.node_pid}/cmdline").read_bytes()
        assert mesh.invite.encode() not in command_line
        agent_id = alice.agent_id
    async with mesh.agent("alice", invite=None) as alice:
        assert (await alice.info()).mesh == info.mesh
        assert alice.agent_id == agent_id


@in_mesh
async def test_without_an_invite_or_with_a_bad_one_nobody_joins(mesh: Mesh) -> None:
    with pytest.raises(waymesh.InviteRequired):
        await mesh.agent("alice", invite=None, registry=mesh.url).start()
    with pytest.raises(errors.BadInvite):
        await mesh.agent("alice", invite="bm90IGFuIGludml0ZQ").start()
    once = await mesh.new_invite("--auto-approve")
    await mesh.join("bob", invite=once)
    with pytest.raises(errors.InviteExhausted):
        await mesh.agent("carol", invite=once).start()


@in_mesh
async def test_an_admin_approves_who_asks_and_both_see_the_same_fingerprints(mesh: Mesh) -> None:
    alice = mesh.agent("alice", invite=await mesh.new_invite())

    @alice.on("pending")
    async def approve(event: Event) -> None:
        pending = event.pending
        assert pending is not None and pending == alice.pending
        (join,) = await mesh.admin("pending")
        assert (join["request"], join["name"]) == (pending.request, "alice")
        assert join["fingerprint"] == pending.fingerprint
        assert join["mesh_fingerprint"] == pending.mesh_fingerprint
        await mesh.admin("approve", pending.request)

    async with alice:
        assert alice.pending is None
        bob = await mesh.join("bob", add)
        assert await alice.call("bob", "add", {"a": 1}) == 2
        assert (await bob.info()).mesh == (await alice.info()).mesh


@in_mesh
async def test_an_admin_rejects_who_asks(mesh: Mesh) -> None:
    mallory = mesh.agent("mallory", invite=await mesh.new_invite())

    @mallory.on("pending")
    async def reject(event: Event) -> None:
        assert event.pending is not None
        await mesh.admin("reject", event.pending.request)

    with pytest.raises(errors.Rejected):
        await mallory.start()


@in_mesh
async def test_a_pairing_code_asks_too_and_waits_no_longer_than_it_should(mesh: Mesh) -> None:
    (told,) = await mesh.admin("invite", "--code")
    settings = {"invite": told["code"], "registry": mesh.url}
    with pytest.raises(waymesh.Pending) as pending:
        await mesh.agent("alice", start_timeout=3, **settings).start()
    assert pending.value.hint is not None and "waymesh approve" in pending.value.hint


@in_mesh
async def test_a_message_to_an_absent_agent_is_stored_and_then_delivered(mesh: Mesh) -> None:
    async with mesh.agent("bob"):
        pass
    alice = await mesh.join("alice")
    states = alice.events("state")
    sent = await alice.send("bob", {"n": 1}, wait="stored")
    assert (sent.state, sent.path) == ("stored", "mailbox")
    raw = await alice.send("bob", b"raw", wait="stored")
    bob = await mesh.join("bob")
    messages = bob.messages()
    first, second = await anext(messages), await anext(messages)
    assert (first.data, first.path, first.message_id) == ({"n": 1}, "mailbox", sent.message_id)
    assert second.data == b"raw"
    await second.ack()
    heard: dict[str, list[str]] = {sent.message_id: [], raw.message_id: []}
    while not all("delivered" in told for told in heard.values()):
        event = await anext(states)
        assert event.sent is not None
        heard[event.sent.message_id].append(event.sent.state)
    assert set(map(tuple, heard.values())) == {("queued", "stored", "delivered")}


@in_mesh
async def test_what_nobody_fetches_expires_and_that_is_told(mesh: Mesh) -> None:
    async with mesh.agent("bob"):
        pass
    alice = await mesh.join("alice")
    states = alice.events("state")
    await alice.send("bob", 1, ttl=1)
    while (event := await anext(states)).sent is None or not event.sent.is_final:
        pass
    assert event.sent is not None and event.sent.state in ("expired", "unconfirmed")
    with pytest.raises((waymesh.PeerOffline, errors.Unconfirmed)):
        await alice.send("bob", 1, ttl=1, wait="delivered")


@in_mesh
async def test_a_stored_message_outlives_its_sender_and_the_registry(mesh: Mesh) -> None:
    async with mesh.agent("bob"):
        pass
    async with mesh.agent("alice") as alice:
        await alice.send("bob", "stay", wait="stored")
    address = mesh.url.split("//")[1].rstrip("/")
    await mesh.kill_registry()
    await mesh.start_registry(address)
    bob = await mesh.join("bob")
    async for message in bob.messages():
        assert (message.data, message.sender) == ("stay", "alice")
        break


async def _read_one(agent: waymesh.Agent) -> object:
    message = await anext(agent.messages())
    await message.ack()
    return message.data


@in_mesh
async def test_a_broadcast_reaches_the_linked_and_those_written_to_by_mailbox(mesh: Mesh) -> None:
    async with mesh.agent("bob"):
        pass
    carol = await mesh.join("carol")
    alice = await mesh.join("alice")
    assert await alice.broadcast("nobody is reached") == []
    await alice.connect("carol")
    await alice.send("bob", "first", wait="stored")
    reader = asyncio.create_task(_read_one(carol))
    told = await alice.broadcast("all", wait="stored")
    assert {sent.peer: sent.state for sent in told} == {"bob": "stored", "carol": "delivered"}
    assert await reader == "all"


@in_mesh
async def test_who_is_not_allowed_is_told_so(mesh: Mesh) -> None:
    await mesh.join("bob", add, deny=["mallory"])
    await mesh.join("carol", add, allow=["alice/add"])
    alice, mallory = await mesh.join("alice"), await mesh.join("mallory")
    assert await alice.call("bob", "add", {"a": 1}) == 2
    assert await alice.call("carol", "add", {"a": 1}) == 2
    for peer in ("bob", "carol"):
        with pytest.raises(errors.Unauthorized):
            await mallory.call(peer, "add", {"a": 1})
    with pytest.raises(errors.Unauthorized):
        await mallory.send("bob", "let me in", wait="delivered")


@in_mesh
async def test_the_way_from_mailbox_to_link_is_told(mesh: Mesh) -> None:
    await mesh.join("bob", add)
    alice = await mesh.join("alice")
    events = alice.events("peer_connected", "path_changed")
    assert await alice.call("bob", "add", {"a": 1}) == 2
    paths = []
    async with asyncio.timeout(30):
        while "direct" not in paths:
            status = (await anext(events)).status
            assert status is not None and status.name == "bob" and status.reason
            paths.append(status.path)
    assert paths[0] in ("mailbox", "direct")
