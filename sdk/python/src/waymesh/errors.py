"""What can go wrong, by the codes that every part of waymesh shares.

Each code has a number that is never reused and says when to try again. Codes
that programs react to have a class of their own; the others, and those of a
newer node, are plain `WaymeshError`s with `.code`.
"""

from __future__ import annotations

import builtins
from typing import Any, ClassVar, Literal

Retry = Literal["never", "now", "after"]
Executed = Literal["no", "unknown"]

#: Every code with its number and when to try again.
CODES: dict[str, tuple[int, Retry]] = {
    "unrecognized": (1000, "never"),
    "internal": (1001, "after"),
    "bad_request": (1002, "never"),
    "usage": (1003, "never"),
    "unknown_verb": (1004, "never"),
    "line_too_long": (1005, "never"),
    "not_utf8": (1006, "never"),
    "not_supported_yet": (1007, "never"),
    "node_not_running": (1008, "after"),
    "sidecar_failed": (1009, "after"),
    "storage": (1010, "after"),
    "bind_failed": (1011, "after"),
    "unknown_peer": (2001, "after"),
    "unknown_skill": (2002, "after"),
    "invalid_arguments": (2003, "never"),
    "message_too_large": (2004, "never"),
    "queue_full": (2005, "after"),
    "expired": (2006, "after"),
    "unconfirmed": (2007, "after"),
    "timeout": (2008, "after"),
    "peer_lost": (2009, "after"),
    "handler_failed": (2010, "never"),
    "handler_lost": (2011, "after"),
    "cancelled": (2012, "never"),
    "already_owned": (2013, "after"),
    "slow_consumer": (2014, "after"),
    "duplicate_id": (2015, "never"),
    "unknown_id": (2016, "never"),
    "mailbox_full": (2017, "after"),
    "no_sealing_key": (2018, "after"),
    "unreadable": (2019, "after"),
    "link_failed": (3001, "after"),
    "peer_offline": (3002, "after"),
    "bad_frame": (3003, "never"),
    "bad_description": (3004, "never"),
    "stale_incarnation": (3005, "now"),
    "replayed": (3006, "never"),
    "shutting_down": (3007, "after"),
    "link_idle": (3008, "now"),
    "path_unavailable": (3009, "after"),
    "bad_signature": (4001, "never"),
    "name_taken": (4002, "never"),
    "identity_in_use": (4003, "never"),
    "identity_changed": (4004, "never"),
    "unauthorized": (4005, "never"),
    "registry_identity_changed": (4006, "never"),
    "wrong_registry": (4007, "never"),
    "bad_certificate": (4008, "never"),
    "certificate_expired": (4009, "after"),
    "revoked": (4010, "never"),
    "bad_invite": (4011, "never"),
    "invite_exhausted": (4012, "never"),
    "invite_expired": (4013, "never"),
    "bad_pairing_code": (4014, "never"),
    "invite_required": (4015, "never"),
    "rejected": (4016, "never"),
    "untrusted_tls": (4017, "never"),
    "clock_skew": (4018, "after"),
    "pending": (4019, "after"),
    "registry_unreachable": (5001, "after"),
    "rate_limited": (5002, "after"),
    "too_large": (5003, "never"),
    "no_mesh": (5004, "after"),
    "no_authority": (5005, "never"),
}

_BY_CODE: dict[str, type[WaymeshError]] = {}


class WaymeshError(Exception):
    """An error with a code.

    `hint` says what to do about it, `retry` when the same request may succeed,
    and `executed`, for a failed call, whether the handler may have run.
    """

    default_code: ClassVar[str] = "unrecognized"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        number: int | None = None,
        hint: str | None = None,
        retry: Retry | None = None,
        executed: Executed | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        known = CODES.get(self.code, CODES["unrecognized"])
        self.message = message
        self.number = known[0] if number is None else number
        self.hint = hint
        self.retry: Retry = known[1] if retry is None else retry
        self.executed = executed

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "default_code" in cls.__dict__:
            _BY_CODE[cls.default_code] = cls

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.code}: {self.message}{hint}"

    @classmethod
    def from_json(cls, fault: dict[str, Any]) -> WaymeshError:
        """The error that a node or the command line told as JSON."""
        code = str(fault.get("code", "unrecognized"))
        return _BY_CODE.get(code, WaymeshError)(
            str(fault.get("message", "")),
            code=code,
            number=fault.get("number"),
            hint=fault.get("hint"),
            retry=fault.get("retry"),
            executed=fault.get("executed"),
        )

    def to_json(self) -> dict[str, Any]:
        """The error as a node reads it in a `reply`."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "executed": self.executed,
        }


class Internal(WaymeshError):
    """A fault of this program; please report it."""

    default_code = "internal"


class BadRequest(WaymeshError):
    """The request is not well formed."""

    default_code = "bad_request"


class UnknownVerb(WaymeshError):
    """The verb, event or message type is not known."""

    default_code = "unknown_verb"


class LineTooLong(WaymeshError):
    """The line is longer than the limit."""

    default_code = "line_too_long"


class NotUtf8(WaymeshError):
    """The bytes are not UTF-8."""

    default_code = "not_utf8"


class NotSupportedYet(WaymeshError):
    """Known, but this version does not do it yet."""

    default_code = "not_supported_yet"


class NodeNotRunning(WaymeshError):
    """No node answers on the IPC socket."""

    default_code = "node_not_running"


class SidecarFailed(WaymeshError):
    """The program could not be started or found."""

    default_code = "sidecar_failed"


class Storage(WaymeshError):
    """A file or folder could not be used."""

    default_code = "storage"


class BindFailed(WaymeshError):
    """The listening address cannot be used."""

    default_code = "bind_failed"


class UnknownPeer(WaymeshError):
    """No agent has this name."""

    default_code = "unknown_peer"


class UnknownSkill(WaymeshError):
    """The peer offers no such skill."""

    default_code = "unknown_skill"


class InvalidArguments(WaymeshError):
    """The arguments do not fit the skill's schema."""

    default_code = "invalid_arguments"


class MessageTooLarge(WaymeshError):
    """The message is larger than the limit."""

    default_code = "message_too_large"


class QueueFull(WaymeshError):
    """A bounded queue is full."""

    default_code = "queue_full"


class Expired(WaymeshError):
    """The message's lifetime ended before it was delivered."""

    default_code = "expired"


class Unconfirmed(WaymeshError):
    """The message's lifetime ended and nobody said what became of it."""

    default_code = "unconfirmed"


class Timeout(WaymeshError, builtins.TimeoutError):
    """The deadline of the call passed."""

    default_code = "timeout"


class PeerLost(WaymeshError):
    """The peer restarted or vanished during the call."""

    default_code = "peer_lost"


class HandlerFailed(WaymeshError):
    """The skill's handler failed."""

    default_code = "handler_failed"


class HandlerLost(WaymeshError):
    """The skill's process went away before it answered."""

    default_code = "handler_lost"


class Cancelled(WaymeshError):
    """The call was cancelled by the caller."""

    default_code = "cancelled"


class AlreadyOwned(WaymeshError):
    """Another client owns the skill or the message inbox."""

    default_code = "already_owned"


class SlowConsumer(WaymeshError):
    """The client did not read its events."""

    default_code = "slow_consumer"


class DuplicateId(WaymeshError):
    """The id is already in use."""

    default_code = "duplicate_id"


class UnknownId(WaymeshError):
    """The id does not name anything open."""

    default_code = "unknown_id"


class LinkFailed(WaymeshError):
    """The link could not be made."""

    default_code = "link_failed"


class PeerOffline(WaymeshError):
    """The peer is not connected to the registry."""

    default_code = "peer_offline"


class BadFrame(WaymeshError):
    """Frames of the peer are malformed."""

    default_code = "bad_frame"


class BadDescription(WaymeshError):
    """The peer's session description or candidate is unusable."""

    default_code = "bad_description"


class StaleIncarnation(WaymeshError):
    """The message was meant for another incarnation."""

    default_code = "stale_incarnation"


class Replayed(WaymeshError):
    """The signaling message is older than one already seen."""

    default_code = "replayed"


class BadSignature(WaymeshError):
    """A signature does not verify."""

    default_code = "bad_signature"


class NameTaken(WaymeshError):
    """The name belongs to another key."""

    default_code = "name_taken"


class IdentityInUse(WaymeshError):
    """Another process uses this identity."""

    default_code = "identity_in_use"


class IdentityChanged(WaymeshError):
    """The name now answers with another key than before."""

    default_code = "identity_changed"


class Unauthorized(WaymeshError):
    """The caller may not do this."""

    default_code = "unauthorized"


class RegistryIdentityChanged(WaymeshError):
    """The registry's key is not the one seen before."""

    default_code = "registry_identity_changed"


class WrongRegistry(WaymeshError):
    """The login was meant for another registry or mesh."""

    default_code = "wrong_registry"


class RegistryUnreachable(WaymeshError):
    """The registry cannot be reached."""

    default_code = "registry_unreachable"


class RateLimited(WaymeshError):
    """Too many requests or connections."""

    default_code = "rate_limited"


class TooLarge(WaymeshError):
    """The body or message is larger than the limit."""

    default_code = "too_large"


class ShuttingDown(WaymeshError):
    """The program is stopping."""

    default_code = "shutting_down"


class LinkIdle(WaymeshError):
    """The link carried nothing for long."""

    default_code = "link_idle"


class Usage(WaymeshError):
    """The command line or configuration is wrong."""

    default_code = "usage"


class MailboxFull(WaymeshError):
    """The receiver's mailbox, or the sender's share of it, is full."""

    default_code = "mailbox_full"


class NoSealingKey(WaymeshError):
    """The receiver has no key to seal messages with."""

    default_code = "no_sealing_key"


class Unreadable(WaymeshError):
    """A sealed message cannot be opened: it was changed, or its key is gone."""

    default_code = "unreadable"


class BadCertificate(WaymeshError):
    """The certificate was not issued by this mesh, or does not fit its holder."""

    default_code = "bad_certificate"


class CertificateExpired(WaymeshError):
    """The certificate is no longer valid."""

    default_code = "certificate_expired"


class Revoked(WaymeshError):
    """The member or the invite was revoked."""

    default_code = "revoked"


class BadInvite(WaymeshError):
    """The invite is malformed, of another mesh, or does not allow this."""

    default_code = "bad_invite"


class InviteExhausted(WaymeshError):
    """The invite has admitted as many as it may."""

    default_code = "invite_exhausted"


class InviteExpired(WaymeshError):
    """The invite's time is over."""

    default_code = "invite_expired"


class BadPairingCode(WaymeshError):
    """The pairing code is wrong, used or too old."""

    default_code = "bad_pairing_code"


class InviteRequired(WaymeshError):
    """The node has no membership yet: it needs an invite or a pairing code."""

    default_code = "invite_required"


class Rejected(WaymeshError):
    """An admin rejected the request to join."""

    default_code = "rejected"


class UntrustedTls(WaymeshError):
    """The TLS certificate of the registry is not trusted."""

    default_code = "untrusted_tls"


class ClockSkew(WaymeshError):
    """The clocks of the two sides are too far apart."""

    default_code = "clock_skew"


class Pending(WaymeshError):
    """The request to join waits for an admin's approval."""

    default_code = "pending"


class NoMesh(WaymeshError):
    """The registry belongs to no mesh yet."""

    default_code = "no_mesh"


class NoAuthority(WaymeshError):
    """The authority directory is missing, or of another mesh."""

    default_code = "no_authority"
