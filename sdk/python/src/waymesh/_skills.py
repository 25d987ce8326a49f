"""Skills: handlers, what is told of them, and how one is run for a call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
from collections.abc import Callable
from typing import Any

from ._connection import Line, Undecodable
from .errors import BadRequest, HandlerFailed, InvalidArguments, WaymeshError
from .schema import Signature
from .types import Call

Handler = Callable[..., Any]


class OwnSkill:
    """One skill of this agent: its description and its handler."""

    def __init__(
        self,
        handler: Handler,
        *,
        name: str | None,
        description: str | None,
        schema: dict[str, Any] | None,
        idempotent: bool,
    ) -> None:
        self.handler = handler
        self.signature = Signature(handler, Call)
        self.is_async = inspect.iscoroutinefunction(handler)
        first_paragraph = (inspect.getdoc(handler) or "").split("\n\n")[0].replace("\n", " ")
        self.name = name or handler.__name__.lower()
        self.spec: Line = {
            "name": self.name,
            "description": description or first_paragraph or None,
            "schema": schema if schema is not None else self.signature.schema,
            "idempotent": idempotent,
        }

    async def run(self, line: Line, threads: concurrent.futures.Executor) -> Any:
        """Runs the handler for a call; sync handlers run in a thread."""
        args = line["args"]
        if isinstance(args, Undecodable):
            raise InvalidArguments(f"the arguments cannot be read: {args.reason}")
        context = None if self.signature.context is None else _context(line)
        try:
            positional, named = self.signature.bind(args, context)
            if self.signature.whole is False:
                _check(self.handler, named)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidArguments(
                f"the arguments do not fit `{self.name}`: {error}", hint="see the skill's schema"
            ) from error
        if self.is_async:
            return await self.handler(*positional, **named)
        run = contextvars.copy_context().run
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(threads, lambda: run(self.handler, *positional, **named))
        return await result if inspect.isawaitable(result) else result


def _check(handler: Handler, named: dict[str, Any]) -> None:
    """Refuses names that the handler does not take, so that its own TypeErrors stay its own."""
    try:
        _SIGNATURES[handler].bind(**named)
    except KeyError:
        _SIGNATURES[handler] = inspect.signature(handler)
        _SIGNATURES[handler].bind(**named)


_SIGNATURES: dict[Handler, inspect.Signature] = {}


def failure(error: Exception) -> Line:
    """What the caller is told of a handler that raised."""
    if isinstance(error, BadRequest):
        error = HandlerFailed(f"the result cannot be sent: {error.message}", hint=error.hint)
    if isinstance(error, WaymeshError):
        return error.to_json()
    text = str(error)
    return HandlerFailed(f"{type(error).__name__}: {text}" if text else type(error).__name__).to_json()


def _context(line: Line) -> Call:
    return Call(
        caller=line["from_peer"],
        caller_id=line["agent_id"],
        message_id=line["message_id"],
        skill=line["skill"],
        remaining=line["remaining_ms"] / 1_000,
        redelivered=line["redelivered"],
    )
