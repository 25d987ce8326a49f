"""Messages and events between the socket, which never waits, and the loops that take them."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from .types import Message

T = TypeVar("T")

#: Events that wait for a loop; the oldest goes when one more comes.
EVENTS_MAX = 1_024
#: Messages of the lossy classes that wait; one more is dropped and counted.
LOSSY_MAX = 1_024
LOSSY = frozenset({"events", "telemetry", "live"})


class Queue(Generic[T]):
    """Items for one loop at a time, and the error that ends it."""

    def __init__(self, limit: int | None) -> None:
        self.items: collections.deque[T] = collections.deque(maxlen=limit)
        self._waiting: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._ended = False

    def put(self, item: T) -> None:
        self.items.append(item)
        self._wake()

    def end(self, error: BaseException | None) -> None:
        """After what waits, the loop ends: with the error, or quietly without one."""
        self._ended, self._error = True, error
        self._wake()

    async def take(self) -> T:
        while not self.items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            if self._waiting is not None:
                raise RuntimeError("another loop waits for the same messages")
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self.items.popleft()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Inbox:
    """The messages that this agent owns.

    The node sends no more than what a node may hold unacknowledged (64 MiB), so
    what waits here is bounded for the reliable classes; the others are bounded here.
    """

    def __init__(self) -> None:
        self.queue: Queue[Message] = Queue(None)
        self.dropped = 0
        self._lossy = 0
        self._given: Message | None = None

    def put(self, message: Message) -> None:
        if message.delivery_class in LOSSY:
            if self._lossy >= LOSSY_MAX:
                self.dropped += 1
                message._acknowledge()
                return
            self._lossy += 1
        self.queue.put(message)

    async def take(self) -> Message:
        """The next message; the one before it counts as taken now."""
        if self._given is not None:
            self._given._acknowledge()
            self._given = None
        message = await self.queue.take()
        if message.delivery_class in LOSSY:
            self._lossy -= 1
        self._given = message
        return message

    def give_back(self) -> None:
        """A new loop starts: what the last one left unacknowledged comes again."""
        if self._given is not None and self._given._ack is not None:
            self._given.redelivered = True
            self._lossy += self._given.delivery_class in LOSSY
            self.queue.items.appendleft(self._given)
        self._given = None


class Messages(AsyncIterator[Message]):
    """What `agent.messages()` gives: an endless loop of messages."""

    def __init__(self, inbox: Inbox, attach: asyncio.Future[None]) -> None:
        self._inbox = inbox
        self._attach: asyncio.Future[None] | None = attach
        inbox.give_back()

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Message:
        if self._attach is not None:
            await asyncio.shield(self._attach)
            self._attach = None
        return await self._inbox.take()
