"""What an agent offers: functions that become skills, before its start and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from ._attached import Attached
from ._skills import Handler, OwnSkill
from ._work import Work
from .errors import BadRequest, WaymeshError

_H = TypeVar("_H", bound=Handler)


class Offering(Attached):
    """The skills of an agent."""

    _work: Work

    @overload
    def skill(self, handler: _H, /) -> _H: ...
    @overload
    def skill(
        self,
        name: str | None = None,
        *,
        description: str | None = None,
        schema: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> Callable[[_H], _H]: ...
    def skill(
        self,
        name: Any = None,
        *,
        description: str | None = None,
        schema: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Makes a function a skill: `@agent.skill` or `@agent.skill("name", …)`.

        The schema comes from the type hints, the description from the docstring.
        Sync functions run in a thread. Only an `idempotent` one is run again when
        a call of it was lost.
        """

        def declare(handler: _H) -> _H:
            if self._connection is not None:
                raise BadRequest("the agent runs already", hint="use `await agent.offer(handler)`")
            named = name if isinstance(name, str) else None
            self._declare(handler, named, description, schema, idempotent)
            return handler

        return declare(name) if callable(name) else declare

    async def offer(
        self,
        handler: Handler,
        name: str | None = None,
        *,
        description: str | None = None,
        schema: dict[str, Any] | None = None,
        idempotent: bool = False,
    ) -> None:
        """Offers a skill while the agent runs."""
        skill = self._declare(handler, name, description, schema, idempotent)
        try:
            await self._offer(skill)
        except WaymeshError:
            del self._work.skills[skill.name]
            raise

    async def withdraw(self, name: str) -> None:
        """Gives a skill up; calls that run go on."""
        await self._require().request({"type": "unregister_skill", "skill": name})
        self._work.skills.pop(name, None)

    def _declare(
        self,
        handler: Handler,
        name: str | None,
        description: str | None,
        schema: dict[str, Any] | None,
        idempotent: bool,
    ) -> OwnSkill:
        skill = OwnSkill(
            handler, name=name, description=description, schema=schema, idempotent=idempotent
        )
        if skill.name in self._work.skills:
            raise BadRequest(f"the agent has a skill `{skill.name}` already")
        self._work.skills[skill.name] = skill
        return skill

    async def _offer(self, skill: OwnSkill) -> None:
        await self._require().request({"type": "register_skill", "skill": skill.spec})
