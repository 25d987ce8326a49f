"""The IPC protocol on one Unix socket (`spec/ipc.md`), as an asyncio protocol.

It reads all the time: what the program is slow to take waits in the agent, and
the node holds back what is not acknowledged. Nothing here knows of skills.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from .errors import BadRequest, MessageTooLarge, NodeNotRunning, NotSupportedYet, WaymeshError

PROTOCOL = 1
#: Largest line that is sent as one, bytes; a node takes 64 KiB, some of it are other fields.
INLINE_MAX_BYTES = 32 * 1024
#: Largest payload, bytes.
MESSAGE_MAX_BYTES = 1024 * 1024
#: Longest path of a socket that the kernel takes, bytes.
PATH_MAX_BYTES = 107

_JSON = "application/json"
_PAYLOAD_FIELDS = {"message": "message", "call": "args", "result": "result", "peer_list": "peers"}

Line = dict[str, Any]


class Undecodable:
    """A payload that says it is JSON and is not, or nests too deep to read."""

    def __init__(self, raw: bytes, reason: str) -> None:
        self.raw = raw
        self.reason = reason


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain).encode
_decode = json.JSONDecoder().raw_decode


def encode(line: Line, field: str | None = None, payload: Any = None, content_type: str | None = None) -> bytes:
    """The bytes of a request, with the payload in the line or behind it."""
    if field is None:
        return (_encode(line) + "\n").encode()
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return _with_bytes(line, bytes(payload), content_type or "application/octet-stream")
    try:
        line[field] = payload
        text = _encode(line)
        if len(text) <= INLINE_MAX_BYTES:
            return (text + "\n").encode()
        del line[field]
        return _with_bytes(line, _encode(payload).encode(), None)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"the payload is not JSON: {error}", hint="pass JSON values, dataclasses or bytes") from error


def _with_bytes(line: Line, raw: bytes, content_type: str | None) -> bytes:
    if len(raw) > MESSAGE_MAX_BYTES:
        raise MessageTooLarge(
            f"the payload is {len(raw)} bytes, more than {MESSAGE_MAX_BYTES}",
            hint="cut it into several messages",
        )
    if content_type is not None:
        line["content_type"] = content_type
    line["bytes"] = len(raw)
    return (_encode(line) + "\n").encode() + raw


class Connection(asyncio.Protocol):
    """One connection to a node.

    `on_event` gets every line that answers no request of `request`, and every
    state of a message; `on_lost` is called once when the connection ends.
    """

    def __init__(self, on_event: Callable[[Line], None], on_lost: Callable[[WaymeshError], None]) -> None:
        self.hello: Line = {}
        self._on_event = on_event
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._pending: dict[str, asyncio.Future[Line]] = {}
        self._last_id = 0
        self._rest = b""
        self._head: Line | None = None
        self._chunks: list[bytes] = []
        self._missing = 0
        self._room: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport
        self._fault: WaymeshError | None = None
        self.closed = asyncio.Event()

    @classmethod
    async def open(
        cls, path: str, on_event: Callable[[Line], None], on_lost: Callable[[WaymeshError], None]
    ) -> Connection:
        """Connects to the socket at `path` and waits for the node's hello."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await _connect(loop, sock, path)
            _, connection = await loop.create_unix_connection(lambda: cls(on_event, on_lost), sock=sock)
        except OSError as error:
            sock.close()
            raise NodeNotRunning(
                f"no node answers on {path}: {error}",
                hint="start one with `waymesh node`, or let Agent start its own",
            ) from error
        try:
            await connection._ready
        except BaseException:
            connection.close()
            raise
        return connection

    # -- requests ---------------------------------------------------------

    def next_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)

    async def request(
        self, line: Line, field: str | None = None, payload: Any = None, content_type: str | None = None
    ) -> Line:
        """Sends a request and waits for its last answer; raises what the node answers."""
        self._last_id += 1
        number = str(self._last_id)
        line["id"] = number
        data = encode(line, field, payload, content_type)
        if self._fault is not None:
            raise self._fault.__class__(self._fault.message, code=self._fault.code, hint=self._fault.hint)
        if self._room is not None:
            await asyncio.shield(self._room)
        future: asyncio.Future[Line] = self._loop.create_future()
        self._pending[number] = future
        self._transport.write(data)
        try:
            return await future
        except asyncio.CancelledError:
            if self._pending.pop(number, None) is not None and line["type"] == "call":
                self.post({"type": "cancel", "call": number})
            raise

    def post(
        self, line: Line, field: str | None = None, payload: Any = None, content_type: str | None = None
    ) -> None:
        """Sends a request that nobody waits for."""
        if self._fault is None:
            self._transport.write(encode(line, field, payload, content_type))

    def close(self) -> None:
        self._transport.close()

    # -- asyncio.Protocol -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # A write is given to the kernel at once; what it does not take may wait up to this.
        transport.set_write_buffer_limits(high=4 * MESSAGE_MAX_BYTES)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(NodeNotRunning("the node closed the connection", hint="look at the node's log, start it again"))
        self.resume_writing()
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._missing -= len(data)
            self._chunks.append(data)
            if self._missing > 0:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
            data = self._take_payload(data)
        elif self._rest:
            data = self._rest + data
        self._rest = self._lines(data)

    # -- lines ------------------------------------------------------------

    def _lines(self, data: bytes) -> bytes:
        """Handles every whole line; gives back what is left of the last one."""
        start = 0
        while True:
            end = data.find(b"\n", start)
            if end < 0:
                return data[start:] if start else data
            line, _ = _decode(data[start:end].decode())
            start = end + 1
            if line.get("bytes") is None:
                self._dispatch(line)
                continue
            self._head = line
            self._missing = line["bytes"] - (len(data) - start)
            if self._missing > 0:
                self._chunks.append(data[start:])
                return b""
            data, start = self._take_payload(data[start:]), 0

    def _take_payload(self, data: bytes) -> bytes:
        line, self._head = self._head, None
        assert line is not None
        size = line["bytes"]
        raw = data[:size]
        line[_PAYLOAD_FIELDS.get(line["type"], "message")] = _payload(raw, line.get("content_type"))
        self._dispatch(line)
        return data[size:]

    def _dispatch(self, line: Line) -> None:
        number = line.get("id")
        if number is not None:
            if line["type"] == "state":
                self._on_event(line)
                if line["last"] is False:
                    return
            future = self._pending.pop(number, None)
            if future is not None and not future.done():
                if line["type"] == "error":
                    future.set_exception(WaymeshError.from_json(line["error"]))
                else:
                    future.set_result(line)
            return
        kind = line["type"]
        if kind == "hello":
            self._greet(line)
        elif kind == "error" and (not self._ready.done() or line["error"].get("code") in _FATAL):
            self._end(WaymeshError.from_json(line["error"]))
        else:
            self._on_event(line)

    def _greet(self, line: Line) -> None:
        self.hello = line
        if line["protocol"] != PROTOCOL:
            self._end(
                NotSupportedYet(
                    f"the node speaks version {line['protocol']} of the protocol, this SDK {PROTOCOL}",
                    hint="use an SDK and a node of the same version",
                )
            )
        elif not self._ready.done():
            self._ready.set_result(None)

    def _end(self, fault: WaymeshError) -> None:
        if self._fault is not None:
            return
        self._fault = fault
        if not self._ready.done():
            self._ready.set_exception(fault)
            return
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(_copy(fault))
        self._on_lost(fault)


#: Errors after which a node closes the connection.
_FATAL = frozenset({"slow_consumer", "shutting_down", "line_too_long", "rate_limited"})


def _copy(fault: WaymeshError) -> WaymeshError:
    """The error for one of those that wait; a call among them may have run."""
    return WaymeshError.from_json(fault.to_json() | {"executed": "unknown"})


def _payload(raw: bytes, content_type: str | None) -> Any:
    if content_type is not None and content_type != _JSON:
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        return Undecodable(raw, str(error))


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, path: str) -> None:
    """Connects, through the open folder when the path is longer than the kernel takes."""
    if len(os.fsencode(path)) <= PATH_MAX_BYTES:
        return await loop.sock_connect(sock, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        await loop.sock_connect(sock, f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)
