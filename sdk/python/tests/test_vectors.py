"""The golden vectors: error codes, and lines of the IPC protocol both ways."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fake_node import FakeNode

import waymesh
from waymesh import errors
from waymesh._connection import Connection

SPEC = Path(__file__).parents[3] / "spec" / "vectors"
IPC = json.loads((SPEC / "ipc.json").read_text())
DEFAULTS = {"priority": "normal", "idempotent": False}


def test_the_table_of_codes_is_the_one_of_the_vectors() -> None:
    codes = json.loads((SPEC / "errors.json").read_text())["codes"]
    assert errors.CODES == {c["code"]: (c["number"], c["retry"]) for c in codes}


def test_every_class_of_error_is_of_a_code_in_the_table() -> None:
    for code, kind in errors._BY_CODE.items():
        assert code in errors.CODES
        assert type(waymesh.WaymeshError.from_json({"code": code})) is kind
    unknown = waymesh.WaymeshError.from_json({"code": "from_the_future", "number": 9999, "retry": "now"})
    assert (unknown.code, unknown.number, unknown.retry) == ("from_the_future", 9999, "now")


@pytest.mark.parametrize("case", [c for c in IPC["requests"] if "sdk" in c], ids=lambda c: c["about"])
def test_the_agent_writes_requests_as_the_vectors_say(case: dict[str, Any], tmp_path: Path) -> None:
    async def main() -> None:
        sdk, expected = case["sdk"], json.loads(case["line"])
        args = [bytes.fromhex(a["hex"]) if isinstance(a, dict) and "hex" in a else a for a in sdk["args"]]
        async with FakeNode(tmp_path / "n") as node, waymesh.Agent(socket=tmp_path / "n") as agent:
            states = agent.events("state") if expected.get("states") else None
            task = asyncio.ensure_future(getattr(agent, sdk["method"])(*args, **sdk["kwargs"]))
            line = await node.line(expected["type"])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del states
            assert DEFAULTS | line == DEFAULTS | expected
            assert (node.payloads[0] or b"").hex() == case.get("payload_hex", "")

    asyncio.run(main())


def test_the_attempts_of_a_peer_say_what_was_tried() -> None:
    case = next(c for c in IPC["events"] if "with the attempts" in c["about"])
    (peer,) = map(waymesh.Peer.from_json, json.loads(case["line"])["peers"])
    assert peer.attempts is not None
    trying, linked = peer.attempts
    assert (trying.outcome, trying.purpose, trying.pairs, trying.ice_ms) == ("trying", "upgrade", (), None)
    assert (linked.role, linked.path, linked.ice_ms) == ("answered", "relay", 120.75)
    assert [candidate.kind for candidate in linked.local] == ["host", "srflx", "relay"]
    pair = linked.pairs[1]
    assert (pair.remote.address, pair.sent, pair.answered, pair.rtt_ms) == ("203.0.113.7:1024", 2, 2, 41.5)
    states = [(server.state, server.address or server.why) for server in linked.servers]
    assert states == [
        ("gave", "198.51.100.1:50000"),
        ("waiting", None),
        ("not_needed", None),
        ("failed", "the connection was refused"),
    ]


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
def test_every_event_is_read_whatever_the_chunks(step: int) -> None:
    async def main() -> None:
        seen: list[dict[str, Any]] = []
        connection = Connection(seen.append, lambda fault: None)
        stream = b"".join(
            c["line"].encode() + b"\n" + bytes.fromhex(c.get("payload_hex", "")) for c in IPC["events"]
        )
        for start in range(0, len(stream), step):
            connection.data_received(stream[start : start + step])
        assert connection.hello["agent"] == "alice"
        lines = [json.loads(c["line"]) for c in IPC["events"]]
        told = [line["type"] for line in lines if "id" not in line or line["type"] == "state"]
        kinds = [kind for kind in told if kind != "hello"]
        assert [line["type"] for line in seen] == kinds
        assert {"a": 1} in [line.get("message") for line in seen]

    asyncio.run(main())
