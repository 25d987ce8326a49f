//! What one client has open, and the two translations: requests into core's
//! commands, core's events into lines.
//!
//! It does no I/O. It knows a request by the client's id and by the id it has
//! within the node, and it knows what the client may still acknowledge or
//! answer. What has ended is forgotten.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::watch;
use waymesh_core::app::{Command, InboundId};
use waymesh_proto::api::{Detail, SendState};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::Payload;
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::{MessageId, Name};
use waymesh_proto::ipc::{self, Attach, Follow, Hello, Request, RequestId, Verb, Wait};
use waymesh_proto::limits::OUTBOX_MAX_MESSAGES;

use self::broadcast::{Group, Spread};

mod answers;
mod broadcast;

/// Requests and messages that one client may have open; one more is refused with
/// `queue_full`. Chosen: the whole outbox to sixteen peers.
const OPEN_MAX: usize = 16 * OUTBOX_MAX_MESSAGES;

/// What a request leads to at once.
#[derive(Debug, Default)]
pub(super) struct Reaction {
    pub(super) command: Option<Command>,
    pub(super) answer: Option<ipc::Event>,
}

/// Something that core will tell about.
#[derive(Debug)]
enum Open {
    /// A request with one answer.
    Single(Option<RequestId>),
    Call(Option<RequestId>),
    Send(Sending),
    /// A broadcast that waits for the list of peers.
    Broadcast(Box<Spread>),
    /// One message of a broadcast.
    Part {
        group: MessageId,
    },
}

/// A message on its way.
#[derive(Debug)]
struct Sending {
    /// The request, until it is answered.
    id: Option<RequestId>,
    to: Name,
    class: Class,
    wait: Wait,
    follow: Follow,
    is_answered: bool,
    /// What core said last.
    known: Option<SendState>,
}

/// One client's open requests, calls and messages.
#[derive(Debug)]
pub(super) struct Session {
    hello: watch::Receiver<Hello>,
    by_id: HashMap<RequestId, MessageId>,
    open: HashMap<MessageId, Open>,
    groups: HashMap<MessageId, Group>,
    calls: HashSet<u64>,
    deliveries: HashSet<u64>,
    /// Commands that an event led to; at most one a peer and broadcast.
    commands: VecDeque<Command>,
}

impl Session {
    pub(super) fn new(hello: watch::Receiver<Hello>) -> Self {
        Self {
            hello,
            by_id: HashMap::new(),
            open: HashMap::new(),
            groups: HashMap::new(),
            calls: HashSet::new(),
            deliveries: HashSet::new(),
            commands: VecDeque::new(),
        }
    }

    /// Takes the next command that an event led to.
    pub(super) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(super) fn has_command(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.by_id.is_empty() && self.commands.is_empty()
    }

    pub(super) fn request(
        &mut self,
        request: Request,
        new_id: impl FnOnce() -> MessageId,
    ) -> Reaction {
        let Request { id, verb } = request;
        let reaction = self.admit(id.as_ref(), &verb).and_then(|()| match verb {
            Verb::Cancel { call } => self.cancel(id.clone(), &call),
            Verb::Reply { call_id, outcome } => self.reply(id.clone(), call_id, outcome),
            Verb::Ack { delivery } => self.ack(id.clone(), delivery),
            Verb::Info => Ok(Reaction {
                command: None,
                answer: Some(ipc::Event::result(id.clone(), &*self.hello.borrow())),
            }),
            verb => Ok(Reaction {
                command: Some(self.begin(id.clone(), verb, new_id())),
                answer: None,
            }),
        });
        reaction.unwrap_or_else(|fault| Reaction {
            command: None,
            answer: Some(ipc::Event::Error { id, fault }),
        })
    }

    /// Refuses a request whose id is in use, or one too many.
    fn admit(&self, id: Option<&RequestId>, verb: &Verb) -> Result<(), Fault> {
        if let Some(id) = id.filter(|id| self.by_id.contains_key(*id)) {
            return Err(Fault::new(
                Code::DuplicateId,
                format!("the request id `{id}` is in use"),
            )
            .with_hint("use an id again only after its last answer; a counter will do"));
        }
        let frees = matches!(
            verb,
            Verb::Cancel { .. } | Verb::Reply { .. } | Verb::Ack { .. }
        );
        if !frees && self.open.len() >= OPEN_MAX {
            return Err(
                Fault::new(Code::QueueFull, format!("{OPEN_MAX} requests are open"))
                    .with_hint("wait for answers before asking for more"),
            );
        }
        Ok(())
    }

    fn cancel(&self, id: Option<RequestId>, call: &RequestId) -> Result<Reaction, Fault> {
        let found = self.by_id.get(call).copied();
        let is_call = |message: &MessageId| matches!(self.open.get(message), Some(Open::Call(_)));
        let Some(message) = found.filter(is_call) else {
            return Err(unknown_id(format!("no call `{call}` is open")));
        };
        Ok(done(id, Command::Cancel { id: message }))
    }

    fn reply(
        &mut self,
        id: Option<RequestId>,
        call_id: u64,
        outcome: Result<Payload, Fault>,
    ) -> Result<Reaction, Fault> {
        if !self.calls.remove(&call_id) {
            return Err(unknown_id(format!("call {call_id} is not open")));
        }
        let call = InboundId(call_id);
        Ok(done(id, Command::Reply { call, outcome }))
    }

    fn ack(&mut self, id: Option<RequestId>, delivery: u64) -> Result<Reaction, Fault> {
        if !self.deliveries.remove(&delivery) {
            return Err(unknown_id(format!("message {delivery} is not open")));
        }
        let message = InboundId(delivery);
        Ok(done(id, Command::Consumed { message }))
    }

    /// Opens a request that core answers.
    fn begin(&mut self, request: Option<RequestId>, verb: Verb, id: MessageId) -> Command {
        if let Some(request) = &request {
            self.by_id.insert(request.clone(), id);
        }
        let (open, command) = match verb {
            Verb::Send {
                to,
                payload,
                class,
                priority,
                ttl,
                wait,
                follow,
            } => {
                let open = Open::Send(Sending {
                    id: request,
                    to: to.clone(),
                    class,
                    wait,
                    follow,
                    is_answered: false,
                    known: None,
                });
                (
                    open,
                    Command::Send {
                        id,
                        to,
                        class,
                        priority,
                        ttl,
                        storing: crate::client::storing(wait),
                        payload,
                    },
                )
            }
            Verb::Broadcast {
                payload,
                class,
                priority,
                ttl,
                wait,
                follow,
            } => {
                let spread = Spread {
                    id: request,
                    payload,
                    class,
                    priority,
                    ttl,
                    wait: if class.is_reliable() {
                        wait
                    } else {
                        Wait::Queued
                    },
                    follow,
                };
                (
                    Open::Broadcast(Box::new(spread)),
                    Command::ListPeers {
                        id,
                        attempts: Detail::default(),
                    },
                )
            }
            Verb::Call {
                to,
                skill,
                payload,
                timeout,
                idempotent,
                priority,
            } => (
                Open::Call(request),
                Command::Call {
                    id,
                    to,
                    skill,
                    priority,
                    timeout,
                    idempotent,
                    payload,
                },
            ),
            verb => (Open::Single(request), single(verb, id)),
        };
        self.open.insert(id, open);
        command
    }

    /// Ends a request with one answer; `None` when nobody knows of it any more.
    fn end(&mut self, id: MessageId) -> Option<Option<RequestId>> {
        match self.open.remove(&id)? {
            Open::Single(request) | Open::Call(request) => {
                self.answered(request.as_ref());
                Some(request)
            }
            Open::Broadcast(spread) => {
                self.answered(spread.id.as_ref());
                Some(spread.id)
            }
            other => {
                self.open.insert(id, other);
                None
            }
        }
    }

    fn answered(&mut self, request: Option<&RequestId>) {
        if let Some(request) = request {
            self.by_id.remove(request);
        }
    }
}

/// The command of a verb that is neither a send, a call nor the session's own.
fn single(verb: Verb, id: MessageId) -> Command {
    match verb {
        Verb::Connect { to, timeout } => Command::Connect { id, to, timeout },
        Verb::RegisterSkill(spec) => Command::OfferSkill { id, spec },
        Verb::UnregisterSkill { skill } => Command::WithdrawSkill { id, skill },
        Verb::Attach(Attach::Own) => Command::ClaimInbox { id },
        Verb::Attach(Attach::Observe) => Command::Observe { id },
        Verb::FindAgents { name, skill } => Command::FindAgents { id, name, skill },
        Verb::Ping { to, timeout, via } => Command::Ping {
            id,
            to,
            timeout,
            via,
        },
        Verb::Network { timeout } => Command::Network { id, timeout },
        Verb::ListPeers { attempts } => Command::ListPeers { id, attempts },
        _ => Command::ListPeers {
            id,
            attempts: Detail::default(),
        },
    }
}

/// A command that core does not answer; handing it over is all.
fn done(id: Option<RequestId>, command: Command) -> Reaction {
    Reaction {
        command: Some(command),
        answer: id.map(|id| ipc::Event::Ok { id }),
    }
}

fn unknown_id(message: String) -> Fault {
    Fault::new(Code::UnknownId, message)
        .with_hint("it ended already, or belongs to another connection")
}
