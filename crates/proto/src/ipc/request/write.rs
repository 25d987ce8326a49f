//! Writes a request as a line.

use std::time::Duration;

use serde::Serialize;

use super::{Attach, Follow, Request, Verb, Wait};
use crate::api::{Detail, SkillSpec, Via};
use crate::class::Class;
use crate::envelope::{Payload, Priority};
use crate::error::Fault;
use crate::ids::{Name, SkillName};
use crate::ipc::{RequestId, payload, whole_millis};

/// Every field of a request as it is written; what is absent is left out.
#[derive(Default, Serialize)]
struct Line<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_peer: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_peer_id: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skill: Option<Skill<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<Wait>,
    #[serde(skip_serializing_if = "Option::is_none")]
    states: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<Via>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Fault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a Name>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Skill<'a> {
    Name(&'a SkillName),
    Spec(&'a SkillSpec),
}

impl Request {
    /// Appends the request's line, and its payload, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut line = self.verb.line();
        line.id = self.id.as_ref();
        payload::write_line(out, &line, self.verb.part());
    }
}

impl Verb {
    /// The field of the payload and the payload, of a verb that has one.
    fn part(&self) -> Option<(&'static str, &Payload)> {
        match self {
            Self::Send { payload, .. } | Self::Broadcast { payload, .. } => {
                Some(("message", payload))
            }
            Self::Call { payload, .. } => Some(("args", payload)),
            Self::Reply {
                outcome: Ok(payload),
                ..
            } => Some(("result", payload)),
            _ => None,
        }
    }

    fn line(&self) -> Line<'_> {
        let line = |verb| Line {
            r#type: verb,
            ..Line::default()
        };
        match self {
            Self::Send {
                to,
                class,
                priority,
                ttl,
                wait,
                follow,
                ..
            } => Line {
                target_peer: Some(to),
                states: states(*follow),
                ..sending("send", *class, *priority, *ttl, *wait)
            },
            Self::Broadcast {
                class,
                priority,
                ttl,
                wait,
                follow,
                ..
            } => Line {
                states: states(*follow),
                ..sending("broadcast", *class, *priority, *ttl, *wait)
            },
            Self::ListPeers { attempts } => Line {
                attempts: (*attempts == Detail::Attempts).then_some(true),
                ..line("list_peers")
            },
            Self::Connect { to, timeout } => Line {
                target_peer_id: Some(to),
                timeout_ms: Some(whole_millis(*timeout)),
                ..line("connect")
            },
            Self::Call {
                to,
                skill,
                timeout,
                idempotent,
                priority,
                ..
            } => Line {
                target_peer: Some(to),
                skill: Some(Skill::Name(skill)),
                timeout_ms: Some(whole_millis(*timeout)),
                idempotent: Some(*idempotent),
                priority: Some(*priority),
                ..line("call")
            },
            Self::Cancel { call } => Line {
                call: Some(call),
                ..line("cancel")
            },
            Self::RegisterSkill(spec) => Line {
                skill: Some(Skill::Spec(spec)),
                ..line("register_skill")
            },
            Self::UnregisterSkill { skill } => Line {
                skill: Some(Skill::Name(skill)),
                ..line("unregister_skill")
            },
            Self::Reply { call_id, outcome } => Line {
                call_id: Some(*call_id),
                error: outcome.as_ref().err(),
                ..line("reply")
            },
            Self::Ack { delivery } => Line {
                delivery: Some(*delivery),
                ..line("ack")
            },
            Self::Attach(attach) => Line {
                observe: Some(*attach == Attach::Observe),
                ..line("attach")
            },
            Self::FindAgents { name, skill } => Line {
                name: name.as_ref(),
                skill: skill.as_ref().map(Skill::Name),
                ..line("find_agents")
            },
            Self::Ping { to, timeout, via } => Line {
                target_peer: Some(to),
                timeout_ms: Some(whole_millis(*timeout)),
                via: (*via != Via::default()).then_some(*via),
                ..line("ping")
            },
            Self::Network { timeout } => Line {
                timeout_ms: Some(whole_millis(*timeout)),
                ..line("network")
            },
            Self::Info => line("info"),
        }
    }
}

fn states(follow: Follow) -> Option<bool> {
    (follow == Follow::States).then_some(true)
}

fn sending(
    verb: &'static str,
    class: Class,
    priority: Priority,
    ttl: Duration,
    wait: Wait,
) -> Line<'static> {
    Line {
        r#type: verb,
        class: Some(class),
        priority: Some(priority),
        ttl_ms: Some(whole_millis(ttl)),
        wait: Some(wait),
        ..Line::default()
    }
}
