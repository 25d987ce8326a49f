#!/usr/bin/env python3
"""Writes the seeds of the fuzz corpora from the golden vectors.

`tools/seed_corpus.py` writes fuzz/corpus/TARGET/NAME for every vector that a
target reads; `--check` only says whether a seed is missing or differs. Seeds
are named after their vectors, so what fuzzing found beside them stays.
"""

import base64
import json
import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

SIGNAL_BODY = {
    "mesh": "0f" * 16,
    "from": "a" * 52,
    "from_incarnation": 1763632800000,
    "to": "b" * 51 + "a",
    "to_incarnation": 1,
    "session": "00112233445566778899aabbccddeeff",
    "seq": 0,
    "issued_ms": 1763632800001,
}

SDP = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n"

CANDIDATE = "candidate:1 1 udp 2130706175 127.0.0.1 40000 typ host"

SIGNALS = {
    "offer": {"type": "offer", "sdp": SDP},
    "answer": {"type": "answer", "sdp": SDP, "offer_hash": "A" * 43},
    "candidate": {"type": "candidate", "candidate": CANDIDATE},
    "candidate-of-ossa": {"type": "ice-candidate", "candidate": CANDIDATE},
    "reject": {"type": "reject", "error": {"code": "unauthorized", "message": "no"}},
}

SKILL = {"name": "echo", "description": "says it again", "schema": {"type": "object"}, "idempotent": True}

UUID = "0198c2f0-a1b2-7c3d-8e4f-5a6b7c8d9e0f"

RECORD = {"name": "alice", "agent_id": "a" * 52, "incarnation": 2, "online": True, "skills": [SKILL]}

CLIENT = [
    {"type": "login", "mesh": "a" * 52, "origin": "http://127.0.0.1:4455", "nonce": "A" * 43, "name": "alice",
     "agent_id": "a" * 52, "incarnation": 1763632800000, "instance": "00" * 16, "certificate": "a.b.c~d.e.f",
     "sealing": "g.h.i", "sig": "A" * 86},
    {"type": "join", "request": "a.b.c", "code": "123456", "invite": "d.e.f"},
    {"type": "sealing", "statement": "a.b.c"},
    {"type": "rules", "deny_names": ["mallory"], "deny_roles": ["guest"], "allow_names": ["bob"], "allow_roles": []},
    {"type": "settled", "items": [{"item": "05" * 16, "from": "a" * 52, "outcome": "taken"}]},
    {"type": "resume"},
    {"type": "withdraw", "item": "05" * 16},
    {"type": "skills", "skills": [SKILL]},
    {"type": "resolve", "name": "alice"},
    {"type": "watch_all"},
    {"type": "find", "id": UUID, "name": None, "skill": "echo"},
    {"type": "signal"},
    {"type": "from_the_future"},
]

MEMBER = {**RECORD, "roles": ["worker"], "certificate": "a.b.c~d.e.f", "sealing": "g.h.i"}

SERVER = [
    {"type": "challenge", "version": 2, "mesh": "a" * 52, "registry": "a" * 52, "nonce": "A" * 43},
    {"type": "welcome", "sig": "A" * 86},
    {"type": "pending", "request": "k7f2"},
    {"type": "approved", "certificate": "a.b.c"},
    {"type": "extended", "extension": "a.b.c"},
    {"type": "revoked", "revocations": ["a.b.c", "d.e.f"]},
    {"type": "posted", "items": [{"item": "05" * 16, "state": "stored"}]},
    {"type": "returned", "items": [{"item": "05" * 16, "code": "expired"}]},
    {"type": "records", "agents": [MEMBER]},
    {"type": "introduced", "agents": [MEMBER]},
    {"type": "unknown", "name": "alice"},
    {"type": "found", "id": UUID, "agents": [RECORD], "more": True},
    {"type": "signal"},
    {"type": "undeliverable", "to": "a" * 52, "session": "00" * 16, "code": "peer_offline"},
    {"type": "error", "error": {"code": "bad_request", "message": "no"}},
]

FAULT = {"code": "handler_failed", "number": 2010, "message": "no", "hint": None, "retry": "never", "executed": "no"}

PEER = {"agent": "bob", "agent_id": "a" * 52, "state": "linked", "path": "direct", "transport": "webrtc",
        "local_candidate": "host", "remote_candidate": "prflx", "protocol": "udp", "rtt_ms": 1, "setup_ms": None,
        "reason": "up"}

REQUESTS = [
    ({"type": "send", "id": "1", "target_peer": "bob", "message": {"a": [1, None]}, "class": "control"}, b""),
    ({"type": "send", "id": "2", "target_peer": "bob", "bytes": 5, "content_type": "text/plain", "ttl_ms": 1000}, b"a\nb\xff{"),
    ({"type": "broadcast", "id": "3", "message": "x", "wait": "delivered", "priority": "high"}, b""),
    ({"type": "list_peers", "id": "4"}, b""),
    ({"type": "connect", "id": "5", "target_peer": "bob", "timeout_ms": 10}, b""),
    ({"type": "call", "id": "6", "target_peer": "bob", "skill": "echo", "args": {}, "timeout_ms": 10, "idempotent": True}, b""),
    ({"type": "cancel", "id": "7", "call": "6"}, b""),
    ({"type": "register_skill", "id": "8", "skill": SKILL}, b""),
    ({"type": "unregister_skill", "id": "9", "skill": "echo"}, b""),
    ({"type": "reply", "call_id": 1, "result": 5}, b""),
    ({"type": "reply", "call_id": 1, "error": FAULT}, b""),
    ({"type": "ack", "delivery": 3}, b""),
    ({"type": "attach", "id": "10", "observe": True}, b""),
    ({"type": "find_agents", "id": "11", "name": None, "skill": "echo"}, b""),
    ({"type": "ping", "id": "12", "target_peer": "bob"}, b""),
    ({"type": "info", "id": "13"}, b""),
    ({"type": "sing", "id": "14"}, b""),
]

EVENTS = [
    ({"type": "hello", "protocol": 1, "agent": "bob", "agent_id": "a" * 52, "incarnation": 3, "registry": None,
      "version": "0.1.0"}, b""),
    ({"type": "ok", "id": "1"}, b""),
    ({"type": "error", "id": "1", "error": FAULT}, b""),
    ({"type": "result", "id": "1", "result": {"x": 1}}, b""),
    ({"type": "result", "id": "1", "bytes": 3, "content_type": "image/png"}, b"\x00\n\xff"),
    ({"type": "peer_connected", **PEER}, b""),
    ({"type": "state", "id": "1", "peer_id": "bob", "message_id": UUID, "state": "refused", "path": "direct",
      "error": FAULT, "last": True}, b""),
    ({"type": "message", "delivery": 1, "message_id": UUID, "from_peer": "bob", "agent_id": "a" * 52,
      "class": "control", "redelivered": False, "path": "direct", "message": [1]}, b""),
    ({"type": "call", "call_id": 1, "message_id": UUID, "from_peer": "bob", "agent_id": "a" * 52, "skill": "echo",
      "remaining_ms": 100, "redelivered": True, "args": None}, b""),
    ({"type": "call_cancelled", "call_id": 1, "error": FAULT}, b""),
    ({"type": "peer_list", "id": "1", "peers": [PEER]}, b""),
    ({"type": "gap", "from_peer": "bob", "class": "events", "missing": 2}, b""),
    ({"type": "from_the_future"}, b""),
]


def seeds(root):
    """Every (target, name, bytes)."""
    vectors = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (root / "spec/vectors").glob("*.json")}
    for file, target in (("frames", "frame"), ("envelope", "envelope")):
        for part in ("exact", "accepted", "refused"):
            for case in vectors[file][part]:
                yield target, case["name"], bytes.fromhex(case["hex"])
    for part in ("exact", "accepted", "refused"):
        for number, case in enumerate(vectors["ids"][part]):
            yield "ids", f"{part} {case['kind']} {number}", case["text"].encode()
    for case in vectors["errors"]["codes"][:3]:
        fault = {**case, "message": "what happened", "hint": None, "executed": "unknown"}
        yield "fault", case["code"], json.dumps(fault).encode()
    for name, signal in SIGNALS.items():
        body = json.dumps({**SIGNAL_BODY, **signal}, separators=(",", ":"))
        yield "signal_body", name, body.encode()
        yield "signal_signed", name, json.dumps({"body": body, "sig": "A" * 86, "cert": "a.b.c"}).encode()
    signed = {"body": json.dumps({**SIGNAL_BODY, **SIGNALS["offer"]}), "sig": "A" * 86, "cert": "a.b.c"}
    for part in ("exact", "accepted", "refused"):
        for number, case in enumerate(vectors["messages"][part]):
            target = {"node": "control_client", "registry": "control_server"}[case["from"]]
            yield target, f"{part} {number}", case["text"].encode()
    for target, messages in (("control_client", CLIENT), ("control_server", SERVER)):
        for message in messages:
            text = json.dumps({**message, "signal": signed} if message["type"] == "signal" else message)
            yield target, message["type"], text.encode()
    for target, lines in (("ipc_request", REQUESTS), ("ipc_event", EVENTS)):
        for line, raw in lines:
            failed = " that failed" if line["type"] == "reply" and "error" in line else ""
            yield target, f"{line['type']}{failed} {'with bytes' if raw else ''}", b"\x03" + json.dumps(line).encode() + b"\n" + raw
        whole = b"".join(json.dumps(line).encode() + b"\n" + raw for line, raw in lines)
        yield target, "all of them", b"\x1f" + whole
        yield target, "not json", b"\x00hello\n{}\n[]\n\n"
        yield target, "not utf-8", b"\x00\xff\xfe\n"
    for part, target in (("requests", "ipc_request"), ("lenient", "ipc_request"), ("bad", "ipc_request"), ("events", "ipc_event")):
        for case in vectors["ipc"][part]:
            line = bytes.fromhex(case["hex"]) if case.get("hex") else case["line"].encode() + b"\n"
            yield target, f"{part} {case['about']}", b"\x07" + line + bytes.fromhex(case.get("payload_hex", ""))
    yield "poll_body", "text and binary", b"\x01\x00\x00\x00\x02{}\x02\x00\x00\x00\x03\x03\x00\xff"
    yield "poll_body", "empty messages", b"\x01\x00\x00\x00\x00\x02\x00\x00\x00\x00"
    yield "poll_body", "cut off", b"\x02\x00\x00\x00\x05abc"
    for part in ("exact", "refused"):
        for case in vectors["mailbox"][part]:
            if all(message.get("count", 0) < 1 << 15 for message in case["messages"]):
                yield "mailbox", case["name"], b"".join(stream(message) for message in case["messages"])
    small = vectors["mailbox"]["exact"][0]["messages"][0]["hex"]
    yield "mailbox", "post in two parts", stream({"hex": small[:-4]}) + stream({"hex": "03" + small[-4:]})
    yield "mailbox", "two posts", 2 * stream({"hex": small})
    yield from membership(vectors["membership"])
    yield "fault", "newer", b'{"code":"from_the_future","message":"x","more":[{}]}'


def stream(message):
    """One binary message behind its length, as the target `mailbox` reads them."""
    data = bytes.fromhex(message.get("hex", "")) + bytes([message.get("byte", 0)]) * message.get("count", 0)
    return struct.pack(">H", len(data)) + data


# The first byte of a seed of `claims`: whose claims they are, as in fuzz/src/trust.rs.
CLAIMS = ("member", "delegation", "extension", "rotation", "revocation", "join", "sealing", "dpop")


def membership(vectors):
    """The seeds of everything that is signed or sealed."""
    yield "certificate", "nothing", b"~"
    for part in ("good", "bad"):
        for case in vectors["certificates"][part]:
            yield "certificate", case["about"], case["certificate"].encode()
    tokens = [token for case in vectors["certificates"]["good"] for token in case["certificate"].split("~")]
    tokens += [case["token"] for case in vectors["revocations"]["good"]]
    tokens += vectors["join"]["request"].split("~")[:1] + [vectors["sealing"]["statement_of_alice"]]
    tokens.append(vectors["dpop"]["proof"])
    seen = set()
    for token in tokens:
        header, claims = (decode(part) for part in token.split(".")[:2])
        kind = json.loads(header)["typ"].removeprefix("waymesh-").removesuffix("+jwt")
        if claims not in seen:
            seen.add(claims)
            yield "claims", f"{kind} {len(seen)}", bytes([CLAIMS.index(kind)]) + claims
    yield "invite", "text", vectors["invite"]["text"].encode()
    yield "invite", "json", decode(vectors["invite"]["text"])
    yield "join_request", "with an invite and a rotation", vectors["join"]["request"].encode()
    yield "dpop", "with a certificate", vectors["dpop"]["proof"].encode()
    sealed = vectors["sealing"]
    yield "sealed", "for bob", bytes.fromhex(sealed["sealed_hex"])
    yield "sealed", "with its header", bytes.fromhex(sealed["header_hex"] + sealed["sealed_hex"])
    yield "sealed", "cut off", bytes.fromhex(sealed["sealed_hex"])[:47]
    yield "sealed_content", "known", content(sealed, sealed["to_incarnation"], sealed["frame"].encode())
    yield "sealed_content", "unknown", content(sealed, None, b"")
    yield "sealed_content", "small", content({**sealed, "certificate": "a.b.c", "statement_of_alice": "d.e.f"}, 1, b"x")


def content(sealed, to_incarnation, frame):
    """What is inside of a sealed item, behind the signature."""
    numbers = struct.pack(">BQ?QQ", 1, sealed["from_incarnation"], to_incarnation is not None, to_incarnation or 0,
                          sealed["issued_ms"])
    texts = [sealed[key].encode() for key in ("certificate", "statement_of_alice")]
    return numbers + b"".join(struct.pack(">I", len(text)) + text for text in texts) + frame


def decode(text):
    """Base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def file_name(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main(root, check):
    wrong = 0
    for target, name, data in seeds(root):
        path = root / "fuzz/corpus" / target / file_name(name)
        if path.is_file() and path.read_bytes() == data:
            continue
        wrong += 1
        if check:
            print(f"corpus: {path.relative_to(root)} is not what its vector says; run tools/seed_corpus.py")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    print(f"corpus: {wrong} seeds {'differ' if check else 'written'}")
    return 1 if check and wrong else 0


if __name__ == "__main__":
    sys.exit(main(ROOT, "--check" in sys.argv[1:]))
