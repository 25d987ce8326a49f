"""What an agent asks of the mesh: links, peers, other agents, its own node."""

from __future__ import annotations

from ._attached import Attached, millis
from ._connection import Line
from .types import AgentRecord, NodeInfo, Peer, Pong, Via


class Mesh(Attached):
    """Questions about who is there and how they are reached."""

    async def connect(self, peer: str, *, timeout: float = 30.0) -> None:
        """Makes a link to a peer now, instead of on first use."""
        line = {"type": "connect", "target_peer_id": peer, "timeout_ms": millis(timeout)}
        await self._require().request(line)

    async def peers(self, *, attempts: bool = False) -> list[Peer]:
        """The peers and how each is reached; with `attempts`, also what was tried and why it ended so."""
        line: Line = {"type": "list_peers"} | ({"attempts": True} if attempts else {})
        answer = await self._require().request(line)
        return [Peer.from_json(peer) for peer in answer["peers"]]

    async def find(self, *, name: str | None = None, skill: str | None = None) -> list[AgentRecord]:
        """The agents that the registry knows, by name and skill."""
        wanted = {"name": name, "skill": skill}
        line: Line = {"type": "find_agents"} | {k: v for k, v in wanted.items() if v is not None}
        answer = await self._require().request(line)
        return [AgentRecord.from_json(agent) for agent in answer["result"]["agents"]]

    async def ping(self, peer: str, *, via: Via = "in_use", timeout: float = 30.0) -> Pong:
        """Measures a round trip to the node of a peer.

        `in_use` makes a link where there is none; `link` is the one that is up, `mailbox` the
        way through the registry. A way that does not exist now raises `path_unavailable`.
        """
        line: Line = {"type": "ping", "target_peer": peer, "timeout_ms": millis(timeout)}
        if via != "in_use":
            line["via"] = via
        answer = await self._require().request(line)
        return Pong(answer["result"]["path"], answer["result"]["rtt_ms"])

    async def info(self) -> NodeInfo:
        """Who the node is, and how it stands in its mesh now."""
        answer = await self._require().request({"type": "info"})
        return NodeInfo.from_json(answer["result"])
