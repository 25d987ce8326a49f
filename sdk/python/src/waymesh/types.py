"""What an agent is told: peers, messages, calls, outcomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

DeliveryClass = Literal["control", "tasks", "bulk", "events", "telemetry", "live"]
Priority = Literal["low", "normal", "high", "critical"]
Path = Literal["direct", "relay", "mailbox"]
SendState = Literal["queued", "stored", "delivered", "expired", "refused", "unconfirmed"]
EventKind = Literal["peer_connected", "peer_disconnected", "path_changed", "gap", "send_failed", "node_lost"]


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """How a peer is reached now. What is not known is None."""

    name: str
    agent_id: str | None
    state: Literal["connecting", "linked", "mailbox", "offline"]
    path: Path | None
    transport: str | None
    local_candidate: str | None
    remote_candidate: str | None
    protocol: str | None
    rtt_ms: float | None
    setup_ms: float | None
    reason: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Peer:
        return cls(
            data["agent"],
            *(data.get(field.name) for field in dataclasses.fields(cls)[1:]),  # type: ignore[arg-type]
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Skill:
    """A skill as its owner describes it."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    idempotent: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent as the registry knows it."""

    name: str
    agent_id: str
    incarnation: int
    online: bool
    skills: tuple[Skill, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AgentRecord:
        skills = tuple(
            Skill(s["name"], s.get("description"), s.get("schema"), bool(s.get("idempotent")))
            for s in data.get("skills", ())
        )
        return cls(data["name"], data["agent_id"], data["incarnation"], data["online"], skills)


@dataclasses.dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping."""

    path: Path
    rtt_ms: float


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """What is known of a message."""

    peer: str
    message_id: str
    state: SendState
    path: Path | None
    error: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that changed. `peer` is None for `node_lost`; `data` is the node's line."""

    kind: EventKind
    peer: str | None
    data: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """The call that a handler answers; a parameter with this type gets it."""

    caller: str
    caller_id: str
    message_id: str
    skill: str
    remaining: float
    redelivered: bool


@dataclasses.dataclass(slots=True)
class Message:
    """A message from a peer. `data` is its JSON value, or bytes with a `content_type`."""

    sender: str
    data: Any
    message_id: str
    agent_id: str
    delivery_class: DeliveryClass
    redelivered: bool
    path: Path
    content_type: str | None
    _ack: Callable[[], None] | None = dataclasses.field(repr=False, compare=False)

    async def ack(self) -> None:
        """Tells the sender that the message was taken. Again is harmless."""
        self._acknowledge()

    def _acknowledge(self) -> None:
        if self._ack is not None:
            self._ack()
            self._ack = None
