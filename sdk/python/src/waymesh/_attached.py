"""What every part of an agent works with: the connection to its node, and who is told."""

from __future__ import annotations

from ._connection import Connection
from ._events import Hub
from .errors import NodeNotRunning


class Attached:
    """Someone with a node, while it runs."""

    _connection: Connection | None
    _events: Hub

    def _require(self) -> Connection:
        if self._connection is None:
            raise NodeNotRunning("the agent does not run", hint="use `async with Agent(...)`")
        return self._connection


def millis(seconds: float) -> int:
    """Seconds as the node takes times: whole milliseconds, one at least."""
    return max(1, round(seconds * 1_000))
