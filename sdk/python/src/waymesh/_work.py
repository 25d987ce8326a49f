"""The calls that this agent is answering: one task each, until it ends or its caller leaves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys

from ._connection import Connection, Line
from ._skills import OwnSkill, failure
from .errors import UnknownSkill, WaymeshError

_log = logging.getLogger("waymesh")


class Work:
    """Own skills, and the calls of them that run."""

    def __init__(self) -> None:
        self.skills: dict[str, OwnSkill] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None

    def start(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="waymesh-skill")

    def stop(self) -> None:
        self.cancel_all()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def take(self, connection: Connection, line: Line) -> None:
        """Runs the handler for a call and posts its answer."""
        call_id = line["call_id"]
        run = self._run(connection, line)
        if sys.version_info >= (3, 12):
            task = asyncio.Task(run, loop=asyncio.get_running_loop(), eager_start=True)
            if task.done():
                return
        else:
            task = asyncio.get_running_loop().create_task(run)
        self._calls[call_id] = task
        task.add_done_callback(lambda _: self._calls.pop(call_id, None))

    def cancel(self, call_id: int) -> None:
        task = self._calls.get(call_id)
        if task is not None:
            task.cancel()

    def cancel_all(self) -> None:
        for task in list(self._calls.values()):
            task.cancel()

    async def _run(self, connection: Connection, line: Line) -> None:
        reply: Line = {"type": "reply", "call_id": line["call_id"]}
        try:
            skill = self.skills.get(line["skill"])
            if skill is None or self._threads is None:
                raise UnknownSkill(f"there is no skill `{line['skill']}` here any more")
            result = await skill.run(line, self._threads)
            connection.post(dict(reply), "result", result)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the caller is told
            if not isinstance(error, WaymeshError):
                _log.warning("the skill %s failed", line["skill"], exc_info=True)
            connection.post(reply | {"error": failure(error)})
