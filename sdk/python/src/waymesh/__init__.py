"""waymesh: AI agents that talk to each other from wherever they run.

    from waymesh import Agent

    agent = Agent("adder", invite="…")  # what `waymesh invite` printed; later starts need none

    @agent.skill
    async def add(a: int, b: int) -> int:
        return a + b

    asyncio.run(agent.run())
"""

from . import errors
from .agent import Agent
from .errors import (
    AlreadyOwned,
    Cancelled,
    Expired,
    HandlerFailed,
    InvalidArguments,
    InviteRequired,
    MessageTooLarge,
    NodeNotRunning,
    PeerLost,
    PeerOffline,
    Pending,
    QueueFull,
    RegistryUnreachable,
    SidecarFailed,
    Timeout,
    UnknownPeer,
    UnknownSkill,
    WaymeshError,
)
from .types import (
    AgentRecord,
    Attempt,
    Call,
    Candidate,
    CandidatePair,
    Event,
    IceServer,
    Message,
    NodeInfo,
    Peer,
    PendingJoin,
    Pong,
    Sent,
    Skill,
)

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentRecord",
    "AlreadyOwned",
    "Attempt",
    "Call",
    "Cancelled",
    "Candidate",
    "CandidatePair",
    "Event",
    "Expired",
    "HandlerFailed",
    "IceServer",
    "InvalidArguments",
    "InviteRequired",
    "Message",
    "MessageTooLarge",
    "NodeInfo",
    "NodeNotRunning",
    "Peer",
    "PeerLost",
    "PeerOffline",
    "Pending",
    "PendingJoin",
    "Pong",
    "QueueFull",
    "RegistryUnreachable",
    "Sent",
    "SidecarFailed",
    "Skill",
    "Timeout",
    "UnknownPeer",
    "UnknownSkill",
    "WaymeshError",
    "errors",
]
