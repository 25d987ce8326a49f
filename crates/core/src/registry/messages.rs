//! What a logged-in node may say, and what it is answered.

use std::time::Instant;

use waymesh_proto::api::{AgentRecord, SkillSpec};
use waymesh_proto::control::{AGENTS_PART_BYTES, ClientMessage, ServerMessage, check_skills};
use waymesh_proto::signaling::SignedSignal;
use waymesh_proto::{AgentId, Code, Fault, MessageId, Name, SkillName};

use super::connections::Phase;
use super::{CloseReason, ConnId, Effect, Registry};

impl Registry {
    /// A decoded message arrived. A login goes to [`Registry::handle_login`]
    /// after it was verified; here it is refused.
    pub fn handle_message(&mut self, now: Instant, conn: ConnId, message: ClientMessage) {
        self.connections.heard(now, conn);
        let (name, id) = match self.connections.phase(conn) {
            None => return,
            Some(Phase::LoggedIn(name, id)) => (name.clone(), *id),
            Some(Phase::Greeting | Phase::Storing(_)) => {
                let fault = Fault::new(Code::Unauthorized, "log in first");
                return self.refuse(conn, fault, CloseReason::Refused);
            }
        };
        match message {
            ClientMessage::Login(_) => {
                let fault = Fault::new(Code::BadRequest, "this connection has logged in already");
                self.complain(conn, fault);
            }
            ClientMessage::Skills { skills } => self.publish(conn, &name, skills),
            ClientMessage::Resolve { name } => self.resolve(conn, name),
            ClientMessage::WatchAll => self.watch_all(conn),
            ClientMessage::Find { id, name, skill } => self.answer_find(conn, id, name, skill),
            ClientMessage::Signal { signal } => self.relay(now, conn, name, id, signal),
        }
    }

    /// A message arrived that could not be decoded; the sender is told why.
    pub fn handle_malformed(&mut self, now: Instant, conn: ConnId, fault: Fault) {
        self.connections.heard(now, conn);
        match self.connections.phase(conn) {
            Some(Phase::LoggedIn(..)) => self.complain(conn, fault),
            _ => self.refuse(conn, fault, CloseReason::Refused),
        }
    }

    fn publish(&mut self, conn: ConnId, name: &Name, skills: Vec<SkillSpec>) {
        match check_skills(&skills) {
            Err(error) => self.complain(conn, error.fault()),
            Ok(bytes) => {
                if self.agents.set_skills(name, skills, bytes) {
                    self.store(name);
                    self.announce(name);
                }
            }
        }
    }

    fn resolve(&mut self, conn: ConnId, name: Name) {
        if self.watchers.watch(conn, &name).is_err() {
            let fault = Fault::new(Code::QueueFull, "this connection watches too many names")
                .with_hint("send watch_all instead");
            // A limit of the registry's own is no abuse: the node cannot know how near it is.
            return self.send(vec![conn], ServerMessage::Error { error: fault });
        }
        let answer = match self.agents.record(&name) {
            Some(record) => ServerMessage::Records {
                agents: vec![record],
            },
            None => ServerMessage::Unknown { name },
        };
        self.send(vec![conn], answer);
    }

    fn watch_all(&mut self, conn: ConnId) {
        self.watchers.watch_all(conn);
        for agents in parts(self.agents.find(None, None)) {
            self.send(vec![conn], ServerMessage::Records { agents });
        }
    }

    fn answer_find(
        &mut self,
        conn: ConnId,
        id: MessageId,
        name: Option<Name>,
        skill: Option<SkillName>,
    ) {
        let mut parts = parts(self.agents.find(name.as_ref(), skill.as_ref()));
        let last = parts.pop().unwrap_or_default();
        for agents in parts {
            let more = true;
            self.send(vec![conn], ServerMessage::Found { id, agents, more });
        }
        let found = ServerMessage::Found {
            id,
            agents: last,
            more: false,
        };
        self.send(vec![conn], found);
    }

    /// Passes a signal on unread but for its address. The receiver verifies it.
    fn relay(
        &mut self,
        now: Instant,
        conn: ConnId,
        from_name: Name,
        from: AgentId,
        signal: SignedSignal,
    ) {
        if !self.connections.pay_signal(now, conn) {
            let error = Fault::new(Code::RateLimited, "this connection sends too many signals");
            return self.send(vec![conn], ServerMessage::Error { error });
        }
        let body = match signal.decode_body() {
            Ok(body) => body,
            Err(error) => return self.complain(conn, error.fault()),
        };
        if body.from != from {
            let fault = Fault::new(Code::Unauthorized, "the signal names another sender");
            return self.complain(conn, fault);
        }
        let otherwise = ServerMessage::Undeliverable {
            to: body.to,
            session: body.session,
        };
        match self.agents.connection_of(&body.to) {
            Some(to) => self.effects.push_back(Effect::Relay {
                to,
                signal: ServerMessage::Signal { from_name, signal },
                from: conn,
                otherwise,
            }),
            None => self.send(vec![conn], otherwise),
        }
    }
}

/// Cuts agents into messages of about [`AGENTS_PART_BYTES`].
fn parts(agents: impl Iterator<Item = (AgentRecord, usize)>) -> Vec<Vec<AgentRecord>> {
    let mut parts: Vec<Vec<AgentRecord>> = Vec::new();
    let mut room = 0;
    for (record, bytes) in agents {
        match parts.last_mut() {
            Some(part) if bytes <= room => part.push(record),
            _ => {
                room = AGENTS_PART_BYTES;
                parts.push(vec![record]);
            }
        }
        room = room.saturating_sub(bytes);
    }
    parts
}
