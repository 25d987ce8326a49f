//! The errors that core tells: what happened, why, and what to do.

use std::time::Duration;

use waymesh_proto::error::{Code, Executed, Fault};
use waymesh_proto::ids::{Name, SkillName};
use waymesh_proto::limits::CONTENT_TYPE_MAX_BYTES;

use crate::peer::{Peer, Presence};

/// Why nothing reached a peer in time; `sent` tells whether something may have.
pub(super) fn not_reached(
    peer: &Peer,
    what: &str,
    waited: Duration,
    sent: bool,
    late: Code,
) -> Fault {
    let name = &peer.name;
    let waited = format!("{:.1} s", waited.as_secs_f64());
    if let Some(fault) = &peer.distrust {
        let executed = if sent {
            Executed::Unknown
        } else {
            Executed::No
        };
        return fault.clone().with_executed(executed);
    }
    if sent {
        return Fault::new(
            late,
            format!("{what} was sent to {name}, but no answer came within {waited}"),
        )
        .with_hint("`waymesh peers` shows whether it is still linked; --timeout gives it more time")
        .with_executed(Executed::Unknown);
    }
    let fault = match peer.presence {
        Presence::Unknown => Fault::new(
            Code::UnknownPeer,
            format!("no agent is called {name}; waited {waited} for one to appear"),
        )
        .with_hint("`waymesh agents` lists the names that the registry knows"),
        Presence::Offline => Fault::new(
            Code::PeerOffline,
            format!("{name} is not connected to the registry; waited {waited} for it"),
        )
        .with_hint("start the peer's node, or give it more time with --timeout"),
        Presence::Unasked => Fault::new(
            Code::RegistryUnreachable,
            format!("the registry did not say where {name} is within {waited}"),
        )
        .with_hint("check that the registry runs and that --registry names it"),
        Presence::Online => Fault::new(
            late,
            format!(
                "{what} did not reach {name} within {waited}: {}",
                peer.reason
            ),
        )
        .with_hint("`waymesh peers` shows why the peer is not linked"),
    };
    fault.with_executed(Executed::No)
}

pub(super) fn identity_changed(name: &Name) -> Fault {
    Fault::new(
        Code::IdentityChanged,
        format!("{name} answers with another key than before"),
    )
    .with_hint("if the agent was set up anew on purpose, give it a new name or forget its pin")
}

pub(super) fn revoked(name: &Name) -> Fault {
    Fault::new(
        Code::Revoked,
        format!("the membership of {name} was revoked"),
    )
    .with_hint("an admin of the mesh has to invite it again under a new identity")
}

pub(super) fn certificate_expired(name: &Name) -> Fault {
    Fault::new(
        Code::CertificateExpired,
        format!("the certificate of {name} has expired"),
    )
    .with_hint("its node gets a longer one by itself when it reaches the registry before `renew_until`; after that it needs a new invite")
}

pub(super) fn unauthorized(name: &Name) -> Fault {
    Fault::new(
        Code::Unauthorized,
        format!("the policy of {name} does not let this agent in"),
    )
    .with_hint("whoever runs it can allow it with --allow, or stop denying it")
    .with_executed(Executed::No)
}

pub(super) fn mailbox_only(name: &Name) -> Fault {
    Fault::new(
        Code::LinkFailed,
        format!("{name} makes no links: its topology is mailbox_only"),
    )
}

/// What a refusal by the peer or the registry means.
pub(super) fn refused(name: &Name, what: &str, code: Code) -> Fault {
    match code {
        Code::Unauthorized => unauthorized(name),
        code => Fault::new(code, format!("{name} refused {what}: {code}")),
    }
}

pub(super) fn peer_lost(name: &Name, why: &str, executed: Executed) -> Fault {
    Fault::new(
        Code::PeerLost,
        format!("{name} was lost during the call: {why}"),
    )
    .with_hint("check whether the work was done before you repeat the call")
    .with_executed(executed)
}

pub(super) fn unknown_skill(me: &Name, skill: &SkillName, known: &[&str]) -> Fault {
    let offers = if known.is_empty() {
        "nothing".to_owned()
    } else {
        known.join(", ")
    };
    Fault::new(
        Code::UnknownSkill,
        format!("{me} offers no skill called {skill}"),
    )
    .with_hint(format!("it offers {offers}"))
    .with_executed(Executed::No)
}

pub(super) fn handler_lost(skill: Option<&str>) -> Fault {
    let what = skill.unwrap_or("the skill");
    Fault::new(
        Code::HandlerLost,
        format!("the process that runs {what} went away before it answered"),
    )
    .with_executed(Executed::Unknown)
}

pub(super) fn queue_full(name: &Name) -> Fault {
    Fault::new(
        Code::QueueFull,
        format!("too much waits for {name} already"),
    )
    .with_hint("wait until earlier messages are delivered")
    .with_executed(Executed::No)
}

pub(super) fn too_large(bytes: usize, limit: usize) -> Fault {
    Fault::new(
        Code::MessageTooLarge,
        format!("the payload has {bytes} bytes; this class takes {limit}"),
    )
    .with_hint("send it in parts, or in class `bulk` if it is over the limit of a lossy class")
    .with_executed(Executed::No)
}

pub(super) fn bad_content_type() -> Fault {
    Fault::new(
        Code::BadRequest,
        format!("a content type has at most {CONTENT_TYPE_MAX_BYTES} bytes"),
    )
    .with_executed(Executed::No)
}

pub(super) fn to_self() -> Fault {
    Fault::new(
        Code::BadRequest,
        "an agent cannot send to itself through its node",
    )
    .with_hint("call the function directly")
    .with_executed(Executed::No)
}

/// The path that a ping was to take does not exist.
pub(super) fn path_unavailable(path: &str, why: &str) -> Fault {
    Fault::new(Code::PathUnavailable, format!("there is no {path}: {why}"))
        .with_hint("`waymesh ping` without --via takes the path that works")
}

pub(super) fn duplicate() -> Fault {
    Fault::new(Code::DuplicateId, "the id is already in use")
}

pub(super) fn cancelled() -> Fault {
    Fault::new(Code::Cancelled, "the call was cancelled by the caller")
        .with_executed(Executed::Unknown)
}
