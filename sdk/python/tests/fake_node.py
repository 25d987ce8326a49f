"""A node of Python: one agent whose only peer is itself.

In a test it runs in the same process; as a program it takes the arguments of
`waymesh node`, so that a sidecar's life can be tested without the real one.
Calls and messages to the peer `self` come back over the same connection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

AGENT_ID = "a" * 52
STATES = ["queued", "stored", "delivered"]
MESSAGE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
HELLO = {
    "type": "hello",
    "protocol": 1,
    "agent": "self",
    "agent_id": AGENT_ID,
    "incarnation": 1,
    "registry": None,
    "mesh": "5" * 32,
    "certificate_expires_ms": 1764239690123,
    "version": "test",
}
ERRORS = {"unknown_peer": 2001, "already_owned": 2013, "peer_lost": 2009, "cancelled": 2012, "timeout": 2008}


def fault(code: str, message: str = "as asked") -> dict[str, Any]:
    return {
        "code": code,
        "number": ERRORS.get(code, 1000),
        "message": message,
        "hint": "try another",
        "retry": "after",
        "executed": "unknown" if code == "peer_lost" else None,
    }


class FakeNode:
    """Serves connections at `path` until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self.payloads: list[bytes | None] = []
        self.arrived = asyncio.Condition()
        self.writers: list[asyncio.StreamWriter] = []
        self.calls: dict[int, str] = {}
        self.next = 1

    async def __aenter__(self) -> FakeNode:
        self.server = await asyncio.start_unix_server(self._serve, self.path, limit=1 << 21)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for writer in self.writers:
            writer.close()

    async def line(self, verb: str, count: int = 1) -> dict[str, Any]:
        """The count-th line of a verb, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if line["type"] == verb]

        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(lambda: len(found()) >= count), 20)
        return found()[count - 1]

    def tell(self, line: dict[str, Any], raw: bytes | None = None) -> None:
        if raw is not None:
            line = line | {"bytes": len(raw)}
        self.writers[-1].write(json.dumps(line).encode() + b"\n" + (raw or b""))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.tell(HELLO)
        try:
            while text := await reader.readline():
                line = json.loads(text)
                raw = await reader.readexactly(line["bytes"]) if "bytes" in line else None
                async with self.arrived:
                    self.lines.append(line)
                    self.payloads.append(raw)
                    self.arrived.notify_all()
                self._answer(line, raw)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    def _answer(self, line: dict[str, Any], raw: bytes | None) -> None:
        verb, number = line["type"], line.get("id")
        target = line.get("target_peer", "self")
        if target in ERRORS:
            self.tell({"type": "error", "id": number, "error": fault(target)})
        elif verb == "call" and target == "self":
            self.calls[self.next] = number
            call = {"type": "call", "call_id": self.next, "message_id": MESSAGE_ID, "from_peer": "self"}
            call |= {"agent_id": AGENT_ID, "skill": line["skill"], "remaining_ms": line["timeout_ms"]}
            self.next += 1
            self.tell(_payload(call | {"redelivered": False}, line, "args"), raw)
        elif verb == "reply":
            result = {"type": "result", "id": self.calls.pop(line["call_id"], "gone"), "elapsed_ms": 1.0}
            if "error" in line:
                error = fault(line["error"]["code"], line["error"]["message"])
                self.tell({"type": "error", "id": result["id"], "error": error})
            else:
                self.tell(_payload(result, line, "result"), raw)
        elif verb == "cancel":
            self.tell({"type": "error", "id": line["call"], "error": fault("cancelled")})
            for call_id, call in self.calls.items():
                if call == line["call"]:
                    self.tell({"type": "call_cancelled", "call_id": call_id, "error": fault("cancelled")})
        elif verb == "send":
            self._send(line, raw)
        elif verb in ("register_skill", "unregister_skill", "attach", "connect"):
            self.tell({"type": "ok", "id": number})
        elif verb == "info":
            self.tell({"type": "result", "id": number, "result": HELLO})
        elif verb == "list_peers":
            self.tell({"type": "peer_list", "id": number, "peers": [PEER]})
        elif verb == "ping":
            self.tell({"type": "result", "id": number, "result": {"path": "direct", "rtt_ms": 0.1}})
        elif verb == "find_agents":
            record = {"name": "self", "agent_id": AGENT_ID, "incarnation": 1, "online": True}
            skills = [{"name": "add", "description": None, "schema": None, "idempotent": True}]
            self.tell({"type": "result", "id": number, "result": {"agents": [record | {"skills": skills}]}})
        elif verb == "broadcast":
            outcome = {"peer_id": "self", "message_id": MESSAGE_ID, "state": "queued", "path": None}
            self.tell({"type": "result", "id": number, "result": {"peers": [outcome | {"error": None}]}})

    def _send(self, line: dict[str, Any], raw: bytes | None) -> None:
        """As a node does for a peer without a link: queued, stored, delivered."""
        number, answered = line.get("id"), False
        for rank, state in enumerate(STATES):
            event: dict[str, Any] = {"type": "state", "message_id": MESSAGE_ID, "state": state}
            event["peer_id"] = "self"
            if rank > 0:
                event["path"] = "mailbox"
            if not answered:
                answered = rank >= STATES.index(line["wait"])
                self.tell({**event, "id": number, "last": answered})
            elif line.get("states"):
                self.tell({**event, "last": state == "delivered"})
        self.message(line, raw)

    def message(self, line: dict[str, Any], raw: bytes | None = None) -> None:
        event = {"type": "message", "delivery": self.next, "message_id": MESSAGE_ID, "from_peer": "self"}
        event |= {"agent_id": AGENT_ID, "class": line.get("class", "control"), "redelivered": False}
        self.next += 1
        self.tell(_payload(event | {"path": "direct"}, line, "message"), raw)


def _payload(event: dict[str, Any], line: dict[str, Any], field: str) -> dict[str, Any]:
    for key in ("args", "result", "message"):
        if key in line:
            event[field] = line[key]
    if "content_type" in line:
        event["content_type"] = line["content_type"]
    return event


PEER = {
    "peer_id": "self",
    "agent": "self",
    "agent_id": AGENT_ID,
    "state": "linked",
    "path": "direct",
    "transport": "webrtc",
    "local_candidate": "host",
    "remote_candidate": "host",
    "protocol": "udp",
    "rtt_ms": 0.5,
    "setup_ms": 20.0,
    "reason": "linked",
}


def started_with(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a test may want to know of how the program was started."""
    settings = {"allow": arguments.allow, "deny": arguments.deny, "ca": arguments.ca}
    return settings | {"invite": os.environ.get("WAYMESH_INVITE"), "command_line": sys.argv}


async def approval(data_dir: Path) -> None:
    """Says that an admin has to approve, and waits until somebody connects to `admin.sock`."""
    approved = asyncio.Event()

    def approve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        approved.set()

    async with await asyncio.start_unix_server(approve, data_dir / "admin.sock"):
        pending = {"event": "pending", "name": "a", "request": "r-1"}
        print(json.dumps(pending | {"fingerprint": "f-1", "mesh_fingerprint": "m-1"}), flush=True)
        await approved.wait()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--name")
    parser.add_argument("--registry")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stdin-guard", action="store_true")
    parser.add_argument("--allow", action="append")
    parser.add_argument("--deny", action="append")
    parser.add_argument("--ca")
    arguments = parser.parse_args()
    print("starting", file=sys.stderr, flush=True)
    if arguments.name == "taken":
        print(json.dumps({"ok": False, "error": fault("name_taken", "the name is taken")}), flush=True)
        sys.exit(1)
    if arguments.name == "broken":
        sys.exit("it broke")
    (arguments.data_dir / "started-with").write_text(json.dumps(started_with(arguments)))
    path = arguments.data_dir / "node.sock"
    async with FakeNode(path):
        print(json.dumps({"event": "ready", "ipc": str(path)}), flush=True)
        if arguments.registry == "waiting":
            await approval(arguments.data_dir)
        if arguments.registry != "absent":
            print(json.dumps({"event": "registered", "name": arguments.name}), flush=True)
        guard = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(guard), os.fdopen(0, "rb")
        )
        await guard.read()
    (arguments.data_dir / "stopped").touch()


if __name__ == "__main__":
    asyncio.run(main())
