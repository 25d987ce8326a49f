"""What an agent says to others: calls of their skills, and messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ._attached import Attached, millis
from ._connection import Connection, Line, Undecodable
from ._inbox import Inbox, Messages
from .errors import BadRequest, WaymeshError
from .types import FAILED, DeliveryClass, Message, Priority, Sent, Wait


class Messaging(Attached):
    """Calls and messages, both ways."""

    _inbox: Inbox
    _attached: asyncio.Future[None] | None

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
            "timeout_ms": millis(timeout),
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
        wait: Wait = "queued",
        ttl: float = 300.0,
        delivery_class: DeliveryClass = "control",
        priority: Priority = "normal",
        content_type: str | None = None,
    ) -> Sent:
        """Sends a message: any JSON value, or bytes.

        With `wait="queued"` it returns when the node holds the message, with
        `"stored"` when it is durable in the receiver's mailbox or delivered, with
        `"delivered"` when the receiver has acknowledged it; it raises when that
        fails. A message lives `ttl` seconds, at most 7 days; it may be sent to an
        agent that is not there. What becomes of it later are events `state`.
        """
        line = self._sending("send", wait, ttl, delivery_class, priority)
        line["target_peer"] = peer
        answer = await self._require().request(line, "message", message, content_type)
        sent = Sent.from_json(answer)
        if sent.state in FAILED:
            raise WaymeshError.from_json(
                sent.error or {"code": sent.state, "message": f"the message to {peer} is {sent.state}"}
            )
        return sent

    async def broadcast(
        self,
        message: Any,
        *,
        wait: Wait = "queued",
        ttl: float = 300.0,
        delivery_class: DeliveryClass = "control",
        priority: Priority = "normal",
        content_type: str | None = None,
    ) -> list[Sent]:
        """Sends a message to every peer that is reached now; says what became of each.

        Those are the peers that are linked, being linked, or written to by mailbox.
        """
        line = self._sending("broadcast", wait, ttl, delivery_class, priority)
        answer = await self._require().request(line, "message", message, content_type)
        return [Sent.from_json(outcome) for outcome in answer["result"]["peers"]]

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

    def _sending(
        self, verb: str, wait: Wait, ttl: float, delivery_class: DeliveryClass, priority: Priority
    ) -> Line:
        line: Line = {
            "type": verb,
            "wait": wait,
            "ttl_ms": millis(ttl),
            "class": delivery_class,
            "priority": priority,
        }
        if self._events.wants("state"):
            line["states"] = True
        return line


async def _attach(connection: Connection) -> None:
    await connection.request({"type": "attach"})
