"""waymesh: AI agents that talk to each other from wherever they run.

    from waymesh import Agent

    agent = Agent("adder", registry="http://127.0.0.1:7700")

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
    MessageTooLarge,
    NodeNotRunning,
    PeerLost,
    PeerOffline,
    QueueFull,
    RegistryUnreachable,
    SidecarFailed,
    Timeout,
    UnknownPeer,
    UnknownSkill,
    WaymeshError,
)
from .types import AgentRecord, Call, Event, Message, Peer, Pong, Sent, Skill

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentRecord",
    "AlreadyOwned",
    "Call",
    "Cancelled",
    "Event",
    "Expired",
    "HandlerFailed",
    "InvalidArguments",
    "Message",
    "MessageTooLarge",
    "NodeNotRunning",
    "Peer",
    "PeerLost",
    "PeerOffline",
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
