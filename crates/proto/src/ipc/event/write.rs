//! Writes an event as a line.

use serde::Serialize;

use super::{Event, Hello, PeerChange};
use crate::api::{PeerStatus, SendState};
use crate::class::Class;
use crate::envelope::Payload;
use crate::error::Fault;
use crate::ids::{AgentId, MessageId, Name, SkillName};
use crate::ipc::{RequestId, millis, payload, whole_millis};
use crate::link::Path;

/// Longest text of an error in a line, bytes, so that the line stays within its limit.
const TEXT_MAX_BYTES: usize = 4 * 1024;

impl Event {
    /// Appends the event's line, and its payload, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut line = Line::default();
        match self {
            Self::Hello(hello) => payload::write_line(
                out,
                &Tagged {
                    r#type: "hello",
                    hello,
                },
                None,
            ),
            Self::Ok { id } => {
                line.r#type = "ok";
                line.id = Some(id);
                payload::write_line(out, &line, None);
            }
            Self::Error { id, fault } => {
                line.r#type = "error";
                line.id = id.as_ref();
                line.error = Some(clipped(fault));
                payload::write_line(out, &line, None);
            }
            Self::Result { id, payload, route } => {
                line.r#type = "result";
                line.id = id.as_ref();
                line.message_id = route.and_then(|route| route.message_id);
                line.path = route.and_then(|route| route.path);
                line.request_path = route.and_then(|route| route.request_path);
                line.elapsed_ms = route.map(|route| millis(route.elapsed));
                payload::write_line(out, &line, Some(("result", payload)));
            }
            Self::State { id, outcome, last } => {
                line.r#type = "state";
                line.id = id.as_ref();
                line.peer_id = Some(&outcome.peer_id);
                line.message_id = Some(outcome.message_id);
                line.state = Some(outcome.state);
                line.path = outcome.path;
                line.error = outcome.error.as_ref().map(clipped);
                line.last = Some(*last);
                payload::write_line(out, &line, None);
            }
            Self::Message {
                delivery,
                message_id,
                from,
                agent_id,
                class,
                redelivered,
                path,
                payload,
            } => {
                line.r#type = "message";
                line.from_peer = Some(from);
                line.agent_id = Some(agent_id);
                line.delivery = *delivery;
                line.message_id = Some(*message_id);
                line.class = Some(*class);
                line.redelivered = Some(*redelivered);
                line.path = Some(*path);
                payload::write_line(out, &line, Some(("message", payload)));
            }
            Self::Call {
                call_id,
                message_id,
                from,
                agent_id,
                skill,
                remaining,
                redelivered,
                payload,
            } => {
                line.r#type = "call";
                line.call_id = Some(*call_id);
                line.from_peer = Some(from);
                line.agent_id = Some(agent_id);
                line.message_id = Some(*message_id);
                line.skill = Some(skill);
                line.remaining_ms = Some(whole_millis(*remaining));
                line.redelivered = Some(*redelivered);
                payload::write_line(out, &line, Some(("args", payload)));
            }
            Self::CallCancelled { call_id, fault } => {
                line.r#type = "call_cancelled";
                line.call_id = Some(*call_id);
                line.error = Some(clipped(fault));
                payload::write_line(out, &line, None);
            }
            Self::Peer { change, peer } => {
                payload::write_line(
                    out,
                    &PeerLine {
                        r#type: *change,
                        peer: Peer::of(peer),
                    },
                    None,
                );
            }
            Self::PeerList { id, peers } => {
                line.r#type = "peer_list";
                line.id = id.as_ref();
                let peers: Vec<_> = peers.iter().map(Peer::of).collect();
                let json = serde_json::to_vec(&peers).expect("peers always serialise");
                payload::write_line(out, &line, Some(("peers", &Payload::json(json))));
            }
            Self::CertificateExpiring { remaining } => {
                line.r#type = "certificate_expiring";
                line.remaining_ms = Some(whole_millis(*remaining));
                payload::write_line(out, &line, None);
            }
            Self::Gap {
                from,
                class,
                missing,
            } => {
                line.r#type = "gap";
                line.from_peer = Some(from);
                line.class = Some(*class);
                line.missing = Some(*missing);
                payload::write_line(out, &line, None);
            }
            Self::Unrecognized => {}
        }
    }
}

/// A peer in a line: its status, with its name also under the reference's key.
#[derive(Serialize)]
struct Peer<'a> {
    peer_id: &'a Name,
    #[serde(flatten)]
    status: &'a PeerStatus,
}

impl<'a> Peer<'a> {
    const fn of(status: &'a PeerStatus) -> Self {
        Self {
            peer_id: &status.agent,
            status,
        }
    }
}

#[derive(Serialize)]
struct PeerLine<'a> {
    r#type: PeerChange,
    #[serde(flatten)]
    peer: Peer<'a>,
}

#[derive(Serialize)]
struct Tagged<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    hello: &'a Hello,
}

/// The error with texts that fit a line.
fn clipped(fault: &Fault) -> Fault {
    let clip = |text: &str| match text.char_indices().find(|(at, _)| *at >= TEXT_MAX_BYTES) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    };
    Fault {
        code: fault.code,
        message: clip(&fault.message),
        hint: fault.hint.as_deref().map(clip),
        executed: fault.executed,
    }
}

/// Every field of an event as it is written, but for hello and peers.
#[derive(Default, Serialize)]
struct Line<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_peer: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skill: Option<&'a SkillName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<SendState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redelivered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_path: Option<Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<bool>,
}
