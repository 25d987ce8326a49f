"""What an agent is told: peers, messages, calls, outcomes."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any, Literal

DeliveryClass = Literal["control", "tasks", "bulk", "events", "telemetry", "live"]
Priority = Literal["low", "normal", "high", "critical"]
Path = Literal["direct", "relay", "mailbox"]
SendState = Literal["queued", "stored", "delivered", "expired", "refused", "unconfirmed"]
Wait = Literal["queued", "stored", "delivered"]
Via = Literal["in_use", "link", "mailbox"]
CandidateKind = Literal["host", "srflx", "prflx", "relay"]
EventKind = Literal[
    "state",
    "peer_connected",
    "peer_disconnected",
    "path_changed",
    "gap",
    "certificate_expiring",
    "pending",
    "registered",
    "node_lost",
]

#: The states of messages that will not be delivered, or of which nobody knows.
FAILED: frozenset[str] = frozenset({"expired", "refused", "unconfirmed"})


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """An address that one side of a link may be reached at."""

    kind: CandidateKind
    address: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Candidate:
        return cls(data["kind"], data["address"])


@dataclasses.dataclass(frozen=True, slots=True)
class CandidatePair:
    """Two addresses, and what the checks between them gave."""

    local: Candidate
    remote: Candidate
    sent: int
    answered: int
    heard: int
    rtt_ms: float | None
    error: str | None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CandidatePair:
        return cls(
            Candidate.from_json(data["local"]),
            Candidate.from_json(data["remote"]),
            data["sent"],
            data["answered"],
            data["heard"],
            data.get("rtt_ms"),
            data.get("error"),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server and what it gave: an address, or why not."""

    url: str
    state: Literal["waiting", "gave", "not_needed", "failed"]
    address: str | None
    why: str | None
    took_ms: float

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> IceServer:
        outcome = data["outcome"]
        return cls(data["url"], outcome["state"], outcome.get("address"), outcome.get("why"), data["took_ms"])


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to make a link. `ice_ms` is the time until the two sides found each other."""

    age_ms: float
    took_ms: float
    role: Literal["offered", "answered"]
    purpose: Literal["connect", "recover", "upgrade"]
    outcome: Literal["trying", "linked", "unneeded", "failed"]
    path: Path | None
    reason: str
    local: tuple[Candidate, ...] = ()
    remote: tuple[Candidate, ...] = ()
    pairs: tuple[CandidatePair, ...] = ()
    servers: tuple[IceServer, ...] = ()
    ice_ms: float | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Attempt:
        tried = data.get("tried") or {}
        return cls(
            data["age_ms"],
            data["took_ms"],
            data["role"],
            data["purpose"],
            data["outcome"],
            data.get("path"),
            data["reason"],
            tuple(map(Candidate.from_json, tried.get("local", ()))),
            tuple(map(Candidate.from_json, tried.get("remote", ()))),
            tuple(map(CandidatePair.from_json, tried.get("pairs", ()))),
            tuple(map(IceServer.from_json, tried.get("servers", ()))),
            tried.get("ice_ms"),
        )


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
    #: The last attempts to make a link, newest first; None unless they were asked for.
    attempts: tuple[Attempt, ...] | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Peer:
        attempts = data.get("attempts")
        return cls(
            data["agent"],
            *(data.get(field.name) for field in dataclasses.fields(cls)[1:-1]),  # type: ignore[arg-type]
            attempts=None if attempts is None else tuple(map(Attempt.from_json, attempts)),
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
    roles: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AgentRecord:
        skills = tuple(
            Skill(s["name"], s.get("description"), s.get("schema"), bool(s.get("idempotent")))
            for s in data.get("skills", ())
        )
        roles = tuple(data.get("roles", ()))
        return cls(data["name"], data["agent_id"], data["incarnation"], data["online"], skills, roles)


@dataclasses.dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who a node is. `mesh` and `certificate_expires` are None before it is a member."""

    name: str
    agent_id: str
    incarnation: int
    registry: str | None
    mesh: str | None
    certificate_expires: datetime.datetime | None
    version: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NodeInfo:
        expires_ms = data.get("certificate_expires_ms")
        return cls(
            data["agent"],
            data["agent_id"],
            data["incarnation"],
            data.get("registry"),
            data.get("mesh"),
            None if expires_ms is None else datetime.datetime.fromtimestamp(expires_ms / 1_000, datetime.UTC),
            data["version"],
        )


@dataclasses.dataclass(frozen=True, slots=True)
class PendingJoin:
    """A request to join that waits for an admin, who sees the same fingerprints."""

    request: str
    fingerprint: str
    mesh_fingerprint: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PendingJoin:
        return cls(data["request"], data["fingerprint"], data["mesh_fingerprint"])


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

    @property
    def is_final(self) -> bool:
        """Whether nothing more will be heard of the message."""
        return self.state not in ("queued", "stored")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sent:
        return cls(data["peer_id"], data["message_id"], data["state"], data.get("path"), data.get("error"))


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `data` is the node's line, `peer` whom it is about, if anybody."""

    kind: EventKind
    peer: str | None
    data: dict[str, Any]

    @property
    def sent(self) -> Sent | None:
        """What is known of the message, for `state`."""
        return Sent.from_json(self.data) if self.kind == "state" else None

    @property
    def status(self) -> Peer | None:
        """How the peer is reached now, for `peer_connected`, `peer_disconnected`, `path_changed`."""
        return Peer.from_json(self.data) if "agent" in self.data and "reason" in self.data else None

    @property
    def pending(self) -> PendingJoin | None:
        """What an admin has to approve, for `pending`."""
        return PendingJoin.from_json(self.data) if self.kind == "pending" else None


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
