//! Reads an event out of a line.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Event, Outcome, PeerChange, Route};
use crate::api::SendState;
use crate::class::Class;
use crate::envelope::Payload;
use crate::error::{Code, Fault};
use crate::ids::{AgentId, MessageId, Name, SkillName};
use crate::ipc::payload::{self, Announced, present};
use crate::ipc::{Incoming, RequestId, bad, from_millis};
use crate::link::Path;

/// Largest part behind a line of a node that a reader takes, bytes. Chosen: an
/// answer of the node's own, such as a list of agents, may exceed a message.
const EVENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Every field of an event as a client reads it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header<'a> {
    r#type: Box<str>,
    id: Option<Box<str>>,
    bytes: Option<u64>,
    content_type: Option<Box<str>>,
    call_id: Option<u64>,
    delivery: Option<u64>,
    message_id: Option<MessageId>,
    from_peer: Option<Name>,
    peer_id: Option<Name>,
    agent_id: Option<AgentId>,
    skill: Option<SkillName>,
    state: Option<Box<str>>,
    class: Option<Class>,
    redelivered: bool,
    remaining_ms: u64,
    path: Option<Path>,
    request_path: Option<Path>,
    elapsed_ms: Option<f64>,
    missing: u64,
    error: Option<Fault>,
    last: bool,
    #[serde(borrow, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    args: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    peers: Option<&'a RawValue>,
}

impl Incoming for Event {
    fn parse(line: &str) -> Result<(Self, Option<u64>), Fault> {
        let header: Header<'_> = json(line)?;
        let bytes = header.bytes;
        Ok((header.event(line)?, bytes))
    }

    fn id(&self) -> Option<&RequestId> {
        Self::id(self)
    }

    fn check_size(bytes: u64) -> Result<(), Fault> {
        if bytes > EVENT_BYTES_MAX {
            return Err(Fault::new(
                Code::TooLarge,
                format!("the node announces {bytes} bytes, more than {EVENT_BYTES_MAX}"),
            ));
        }
        Ok(())
    }

    fn complete(&mut self, bytes: Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Message { payload, .. }
            | Self::Call { payload, .. }
            | Self::Result { payload, .. } => payload::complete(payload, bytes),
            Self::PeerList { peers, .. } => {
                *peers = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Header<'_> {
    fn event(mut self, line: &str) -> Result<Event, Fault> {
        let id = self.id.as_deref().map(str::parse).transpose()?;
        Ok(match &*self.r#type {
            "hello" => Event::Hello(json(line)?),
            "ok" => Event::Ok {
                id: required("id", id)?,
            },
            "error" => Event::Error {
                id,
                fault: required("error", self.error)?,
            },
            "result" => Event::Result {
                id,
                route: self.elapsed_ms.map(|elapsed| Route {
                    message_id: self.message_id,
                    path: self.path,
                    request_path: self.request_path,
                    elapsed: from_millis(elapsed),
                }),
                payload: self.payload("result", self.result)?,
            },
            "state" => Event::State {
                id,
                last: self.last,
                outcome: Outcome {
                    state: state(&required("state", self.state)?)?,
                    peer_id: required("peer_id", self.peer_id)?,
                    message_id: required("message_id", self.message_id)?,
                    path: self.path,
                    error: self.error,
                },
            },
            "message" => Event::Message {
                payload: self.payload("message", self.message)?,
                delivery: self.delivery,
                message_id: required("message_id", self.message_id)?,
                from: required("from_peer", self.from_peer)?,
                agent_id: required("agent_id", self.agent_id)?,
                class: required("class", self.class)?,
                redelivered: self.redelivered,
                path: required("path", self.path)?,
            },
            "call" => Event::Call {
                payload: self.payload("args", self.args)?,
                call_id: required("call_id", self.call_id)?,
                message_id: required("message_id", self.message_id)?,
                from: required("from_peer", self.from_peer)?,
                agent_id: required("agent_id", self.agent_id)?,
                skill: required("skill", self.skill)?,
                remaining: Duration::from_millis(self.remaining_ms),
                redelivered: self.redelivered,
            },
            "call_cancelled" => Event::CallCancelled {
                call_id: required("call_id", self.call_id)?,
                fault: required("error", self.error)?,
            },
            "peer_connected" => peer(PeerChange::PeerConnected, line)?,
            "peer_disconnected" => peer(PeerChange::PeerDisconnected, line)?,
            "path_changed" => peer(PeerChange::PathChanged, line)?,
            "peer_list" => Event::PeerList {
                id,
                peers: self
                    .peers
                    .map_or(Ok(Vec::new()), |peers| json(peers.get()))?,
            },
            "certificate_expiring" => Event::CertificateExpiring {
                remaining: Duration::from_millis(self.remaining_ms),
            },
            "gap" => Event::Gap {
                from: required("from_peer", self.from_peer)?,
                class: required("class", self.class)?,
                missing: self.missing,
            },
            _ => Event::Unrecognized,
        })
    }

    fn payload(&mut self, field: &str, inline: Option<&RawValue>) -> Result<Payload, Fault> {
        let announced = Announced {
            bytes: self.bytes,
            content_type: self.content_type.take(),
        };
        payload::of_line(field, inline, announced)
    }
}

fn peer(change: PeerChange, line: &str) -> Result<Event, Fault> {
    Ok(Event::Peer {
        change,
        peer: json(line)?,
    })
}

fn state(text: &str) -> Result<SendState, Fault> {
    serde_json::from_value(text.into()).map_err(|error| unreadable(&error))
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| bad(format!("the node's line lacks `{field}`")))
}

fn unreadable(error: &serde_json::Error) -> Fault {
    bad(format!("the node's line cannot be read: {error}"))
        .with_hint("is the node of another version than this program?")
}
