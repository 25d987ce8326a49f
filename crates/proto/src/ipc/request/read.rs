//! Reads a request out of a line.
//!
//! The line is first read into one flat header with every field that any verb
//! has, then turned into the verb; so a wrong field is named whatever the
//! order in the line, and payloads stay the text that they are.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Attach, Follow, Request, Verb, Wait};
use crate::api::{Detail, Via};
use crate::class::Class;
use crate::envelope::{Payload, Priority};
use crate::error::{Code, Executed, Fault};
use crate::ids::{IdError, Name, SkillName};
use crate::ipc::payload::{self, Announced, present};
use crate::ipc::{Incoming, RequestId, TIMEOUT_DEFAULT, bad, duration};
use crate::limits::TTL_DEFAULT_MS;

/// Every field that a request can have.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header<'a> {
    r#type: Option<Box<str>>,
    id: Option<Box<str>>,
    bytes: Option<u64>,
    content_type: Option<Box<str>>,
    target_peer: Option<Box<str>>,
    target_peer_id: Option<Box<str>>,
    #[serde(borrow, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    args: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    skill: Option<&'a RawValue>,
    class: Option<Class>,
    priority: Option<Priority>,
    ttl_ms: Option<u64>,
    timeout_ms: Option<u64>,
    wait: Option<Wait>,
    states: Option<bool>,
    idempotent: Option<bool>,
    observe: Option<bool>,
    attempts: Option<bool>,
    via: Option<Via>,
    call: Option<Box<str>>,
    call_id: Option<u64>,
    delivery: Option<u64>,
    error: Option<ReplyError>,
    name: Option<Box<str>>,
}

/// What a handler says went wrong; only the message is needed.
#[derive(Deserialize)]
struct ReplyError {
    #[serde(default)]
    code: Option<Box<str>>,
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    executed: Option<Executed>,
}

impl Incoming for Request {
    fn parse(line: &str) -> Result<(Self, Option<u64>), Fault> {
        let header: Header<'_> = serde_json::from_str(line).map_err(|error| unreadable(&error))?;
        let bytes = header.bytes;
        let id = header.id.as_deref().map(str::parse).transpose()?;
        let verb = header.verb()?;
        Ok((Self { id, verb }, bytes))
    }

    fn id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }

    fn check_size(bytes: u64) -> Result<(), Fault> {
        payload::check_size(bytes)
    }

    fn complete(&mut self, bytes: Vec<u8>) -> Result<(), Fault> {
        match &mut self.verb {
            Verb::Send { payload, .. }
            | Verb::Broadcast { payload, .. }
            | Verb::Call { payload, .. }
            | Verb::Reply {
                outcome: Ok(payload),
                ..
            } => payload::complete(payload, bytes),
            _ => Ok(()),
        }
    }
}

fn unreadable(error: &serde_json::Error) -> Fault {
    let hint = match error.classify() {
        serde_json::error::Category::Data => {
            "a field has the wrong type or value; see spec/ipc.md for what the verb takes"
        }
        _ => "the line is not well-formed JSON; escape line ends within texts as \\n",
    };
    bad(format!("the line cannot be read: {error}")).with_hint(hint)
}

impl Header<'_> {
    fn verb(mut self) -> Result<Verb, Fault> {
        let Some(verb) = self.r#type.take() else {
            return Err(missing("type").with_hint("`type` is the verb, for example \"send\""));
        };
        match &*verb {
            "send" => self.send(),
            "broadcast" => self.broadcast(),
            "list_peers" => Ok(Verb::ListPeers {
                attempts: match self.attempts {
                    Some(true) => Detail::Attempts,
                    _ => Detail::Now,
                },
            }),
            "connect" => self.connect(),
            "call" => self.call(),
            "cancel" => self.cancel(),
            "register_skill" => self.register_skill(),
            "unregister_skill" => Ok(Verb::UnregisterSkill {
                skill: self.skill_name()?,
            }),
            "reply" => self.reply(),
            "ack" => Ok(Verb::Ack {
                delivery: required("delivery", self.delivery)?,
            }),
            "attach" => Ok(Verb::Attach(match self.observe {
                Some(true) => Attach::Observe,
                _ => Attach::Own,
            })),
            "find_agents" => self.find_agents(),
            "ping" => Ok(Verb::Ping {
                to: self.target_peer()?,
                timeout: self.timeout()?,
                via: self.via.unwrap_or_default(),
            }),
            "network" => Ok(Verb::Network {
                timeout: self.timeout()?,
            }),
            "info" => Ok(Verb::Info),
            _ => Err(unknown_verb(&verb)),
        }
    }

    fn send(mut self) -> Result<Verb, Fault> {
        Ok(Verb::Send {
            to: self.target_peer()?,
            payload: self.payload("message", self.message)?,
            class: self.class.unwrap_or(Class::Control),
            priority: self.priority.unwrap_or_default(),
            ttl: duration("ttl_ms", self.ttl_ms.unwrap_or(TTL_DEFAULT_MS))?,
            wait: self.wait.unwrap_or_default(),
            follow: self.follow(),
        })
    }

    fn broadcast(mut self) -> Result<Verb, Fault> {
        Ok(Verb::Broadcast {
            payload: self.payload("message", self.message)?,
            class: self.class.unwrap_or(Class::Control),
            priority: self.priority.unwrap_or_default(),
            ttl: duration("ttl_ms", self.ttl_ms.unwrap_or(TTL_DEFAULT_MS))?,
            wait: self.wait.unwrap_or_default(),
            follow: self.follow(),
        })
    }

    fn follow(&self) -> Follow {
        match self.states {
            Some(true) => Follow::States,
            _ => Follow::Failures,
        }
    }

    fn connect(self) -> Result<Verb, Fault> {
        let field = "target_peer_id";
        let peer = self.target_peer_id.as_ref().or(self.target_peer.as_ref());
        let to = parsed(field, required(field, peer)?)?;
        Ok(Verb::Connect {
            to,
            timeout: self.timeout()?,
        })
    }

    fn call(mut self) -> Result<Verb, Fault> {
        Ok(Verb::Call {
            to: self.target_peer()?,
            skill: self.skill_name()?,
            payload: self.payload("args", self.args)?,
            timeout: self.timeout()?,
            idempotent: self.idempotent.unwrap_or(false),
            priority: self.priority.unwrap_or_default(),
        })
    }

    fn cancel(self) -> Result<Verb, Fault> {
        let call = required("call", self.call)
            .map_err(|fault| fault.with_hint("`call` is the id of the call's request"))?;
        Ok(Verb::Cancel {
            call: call.parse()?,
        })
    }

    fn register_skill(self) -> Result<Verb, Fault> {
        let spec = required("skill", self.skill)?;
        serde_json::from_str(spec.get()).map(Verb::RegisterSkill).map_err(|error| {
            bad(format!("`skill` cannot be read: {error}")).with_hint(
                "it is an object like {\"name\":\"add\",\"description\":null,\"schema\":null,\"idempotent\":true}",
            )
        })
    }

    fn reply(mut self) -> Result<Verb, Fault> {
        let call_id = required("call_id", self.call_id)?;
        let outcome = match self.error.take() {
            Some(error) => Err(error.into()),
            None => Ok(self.payload("result", self.result)?),
        };
        Ok(Verb::Reply { call_id, outcome })
    }

    fn find_agents(self) -> Result<Verb, Fault> {
        let name = self
            .name
            .as_deref()
            .map(|name| parsed("name", name))
            .transpose()?;
        let skill = self
            .skill
            .is_some()
            .then(|| self.skill_name())
            .transpose()?;
        Ok(Verb::FindAgents { name, skill })
    }

    fn target_peer(&self) -> Result<Name, Fault> {
        parsed(
            "target_peer",
            required("target_peer", self.target_peer.as_ref())?,
        )
    }

    fn skill_name(&self) -> Result<SkillName, Fault> {
        let raw = required("skill", self.skill)?;
        let name: String = serde_json::from_str(raw.get())
            .map_err(|_| bad("`skill` is not a text").with_hint("`skill` is the skill's name"))?;
        parsed("skill", &name)
    }

    fn timeout(&self) -> Result<Duration, Fault> {
        self.timeout_ms
            .map_or(Ok(TIMEOUT_DEFAULT), |ms| duration("timeout_ms", ms))
    }

    fn payload(&mut self, field: &str, inline: Option<&RawValue>) -> Result<Payload, Fault> {
        let announced = Announced {
            bytes: self.bytes,
            content_type: self.content_type.take(),
        };
        payload::of_line(field, inline, announced)
    }
}

fn missing(field: &str) -> Fault {
    bad(format!("`{field}` is missing"))
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| missing(field).with_hint("see spec/ipc.md for what the verb takes"))
}

fn parsed<T: std::str::FromStr<Err = IdError>>(field: &str, text: &str) -> Result<T, Fault> {
    text.parse().map_err(|error| {
        bad(format!("`{field}` is {error}")).with_hint("names are short and in lower case")
    })
}

fn unknown_verb(verb: &str) -> Fault {
    let shown: String = verb.chars().take(63).collect();
    Fault::new(Code::UnknownVerb, format!("there is no verb `{shown}`")).with_hint(
        "the verbs are send, broadcast, list_peers, connect, call, cancel, register_skill, \
         unregister_skill, reply, ack, attach, find_agents, ping, network and info",
    )
}

impl From<ReplyError> for Fault {
    /// A code that this version does not know, or none, is the handler's own failure.
    fn from(error: ReplyError) -> Self {
        let Ok(code) = error.code.as_deref().unwrap_or_default().parse();
        Self {
            code: match code {
                Code::Unrecognized => Code::HandlerFailed,
                code => code,
            },
            message: error.message,
            hint: error.hint,
            executed: error.executed,
        }
    }
}
