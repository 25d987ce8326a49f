"""Events between the socket, which never waits, and those who listen."""

from __future__ import annotations

import asyncio
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

from ._inbox import EVENTS_MAX, Queue
from .types import Event, EventKind

_log = logging.getLogger("waymesh")

EventHandler = Callable[[Event], Awaitable[None] | None]

#: How long handlers may take for what still waits when the agent stops, seconds.
HANDLER_PATIENCE = 1.0


class Events(AsyncIterator[Event]):
    """What `agent.events()` gives: a loop of events that ends with the agent."""

    def __init__(self, kinds: frozenset[EventKind]) -> None:
        self._kinds = kinds
        self._queue: Queue[Event] = Queue(EVENTS_MAX)

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        return await self._queue.take()

    def wants(self, kind: EventKind) -> bool:
        return not self._kinds or kind in self._kinds

    def put(self, event: Event) -> None:
        self._queue.put(event)

    def end(self) -> None:
        self._queue.end(None)


class Hub:
    """Who listens to what. A loop that nobody holds any more listens no longer."""

    def __init__(self) -> None:
        self._loops: weakref.WeakSet[Events] = weakref.WeakSet()
        self._handlers: list[tuple[frozenset[EventKind], EventHandler]] = []
        self._tasks: dict[asyncio.Task[None], Events] = {}
        self._running = False

    def listen(self, kinds: tuple[EventKind, ...]) -> Events:
        loop = Events(frozenset(kinds))
        self._loops.add(loop)
        return loop

    def on(self, kinds: tuple[EventKind, ...], handler: EventHandler) -> None:
        self._handlers.append((frozenset(kinds), handler))
        if self._running:
            self._serve(*self._handlers[-1])

    def wants(self, kind: EventKind) -> bool:
        return any(loop.wants(kind) for loop in self._loops)

    def tell(self, event: Event) -> None:
        for loop in self._loops:
            if loop.wants(event.kind):
                loop.put(event)

    def start(self) -> None:
        """From now on handlers are called."""
        self._running = True
        for kinds, handler in self._handlers:
            self._serve(kinds, handler)

    def end(self) -> None:
        """Nothing more comes."""
        self._running = False
        for loop in self._loops:
            loop.end()

    async def stop(self) -> None:
        """Ends the loops, and lets the handlers do what waits for them."""
        self.end()
        tasks = set(self._tasks) - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=HANDLER_PATIENCE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _serve(self, kinds: frozenset[EventKind], handler: EventHandler) -> None:
        events = self.listen(tuple(kinds))
        task = asyncio.get_running_loop().create_task(_serve(events, handler))
        self._tasks[task] = events
        task.add_done_callback(self._tasks.pop)


async def _serve(events: Events, handler: EventHandler) -> None:
    async for event in events:
        try:
            answer = handler(event)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # noqa: BLE001 - a handler that fails must not end the others
            _log.warning("a handler of %s failed", event.kind, exc_info=True)
