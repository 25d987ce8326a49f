//! What a logged-in node may say, and what it is answered.

use std::time::Instant;

use waymesh_proto::api::SkillSpec;
use waymesh_proto::control::{ClientMessage, PeerRules, ServerMessage, check_skills};
use waymesh_proto::signaling::SignedSignal;
use waymesh_proto::{AgentId, Code, Fault, Name};

use super::agents::{NoRoom, check_rules, size_of};
use super::connections::{Phase, Session};
use super::listings::{Listing, Query, Question};
use super::{CloseReason, ConnId, Effect, Registry};
use crate::policy::may_reach;

impl Registry {
    /// A decoded message arrived. What has a signature goes to
    /// [`Registry::handle_login`], [`Registry::handle_join`] or
    /// [`Registry::handle_sealing`] after that was verified; here it is refused.
    pub fn handle_message(&mut self, now: Instant, conn: ConnId, message: ClientMessage) {
        self.connections.heard(now, conn);
        if self.connections.phase(conn).is_none() {
            return;
        }
        let Some(Session { name, agent_id }) = self.session_or_refuse(conn) else {
            return;
        };
        match message {
            ClientMessage::Login(_) | ClientMessage::Join(_) | ClientMessage::Sealing { .. } => {
                let fault = Fault::new(Code::BadRequest, "this connection has logged in already");
                self.complain(conn, fault);
            }
            ClientMessage::Rules(rules) => self.obey(now, conn, (&name, agent_id), rules),
            ClientMessage::Settled { items } => self.settle(now, conn, agent_id, &items),
            ClientMessage::IceServers => self.handle_servers_asked(now, conn),
            ClientMessage::Resume => self.resume(now, conn),
            ClientMessage::Withdraw { item } => self.withdraw(agent_id, item),
            ClientMessage::Skills { skills } => {
                self.publish(now, conn, (&name, agent_id), skills);
            }
            ClientMessage::Resolve { name } => self.resolve(conn, name),
            ClientMessage::WatchAll => self.watch_all(conn),
            ClientMessage::Find { id, name, skill } => {
                let (answers, after) = (Question::Find(id), None);
                let query = Query { name, skill, after };
                self.list(conn, Listing::Agents { answers, query });
            }
            ClientMessage::Signal { signal } => self.relay(now, conn, &name, agent_id, signal),
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

    /// Whether an agent may say so much of itself so soon again; if not, it is told.
    pub(super) fn may_say(
        &mut self,
        now: Instant,
        conn: ConnId,
        agent: AgentId,
        bytes: usize,
    ) -> bool {
        let may = self.agents.pay_saying(now, &agent, bytes);
        if !may {
            let text = "this agent changes what it says of itself too often";
            let error = Fault::new(Code::RateLimited, text).with_hint("say all of it at once");
            self.send(vec![conn], ServerMessage::Error { error });
        }
        may
    }

    fn publish(
        &mut self,
        now: Instant,
        conn: ConnId,
        (name, agent): (&Name, AgentId),
        skills: Vec<SkillSpec>,
    ) {
        let bytes = match check_skills(&skills) {
            Ok(bytes) => bytes,
            Err(error) => return self.complain(conn, error.fault()),
        };
        if !self.may_say(now, conn, agent, bytes) {
            return;
        }
        match self.agents.set_skills(name, skills, bytes) {
            Ok(false) => {}
            Ok(true) => {
                self.store(name);
                self.announce(name);
            }
            Err(NoRoom) => {
                let error = Fault::new(
                    Code::RateLimited,
                    "the registry has no room for the skills of more agents",
                )
                .with_hint("shorten descriptions and schemas");
                self.send(vec![conn], ServerMessage::Error { error });
            }
        }
    }

    /// Lets through to an agent only whom it wants to hear of.
    fn obey(
        &mut self,
        now: Instant,
        conn: ConnId,
        (name, agent): (&Name, AgentId),
        rules: PeerRules,
    ) {
        if let Err(fault) = check_rules(&rules) {
            return self.complain(conn, fault);
        }
        if !self.may_say(now, conn, agent, size_of(&rules)) {
            return;
        }
        match self.agents.set_rules(name, rules) {
            Ok(false) => {}
            Ok(true) => self.store(name),
            Err(NoRoom) => {
                let error = Fault::new(
                    Code::RateLimited,
                    "the registry has no room for the rules of more agents",
                )
                .with_hint("deny roles instead of names");
                self.send(vec![conn], ServerMessage::Error { error });
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
        let query = Query {
            name: Some(name.clone()),
            ..Query::default()
        };
        let answers = Question::Resolve(name);
        self.list(conn, Listing::Agents { answers, query });
    }

    fn watch_all(&mut self, conn: ConnId) {
        self.watchers.watch_all(conn);
        let (answers, query) = (Question::WatchAll, Query::default());
        self.list(conn, Listing::Agents { answers, query });
    }

    /// Passes a signal on unread but for its address. The receiver verifies it.
    fn relay(
        &mut self,
        now: Instant,
        conn: ConnId,
        from_name: &Name,
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
        let undeliverable = |code| ServerMessage::Undeliverable {
            to: body.to,
            session: body.session,
            code,
        };
        let rules = self.agents.rules(&body.to);
        let roles = self.agents.roles(from_name);
        if rules.is_some_and(|rules| !may_reach(rules, from_name, roles)) {
            return self.send(vec![conn], undeliverable(Code::Unauthorized));
        }
        let otherwise = undeliverable(Code::PeerOffline);
        match self.agents.connection_of(&body.to) {
            Some(to) => self.effects.push_back(Effect::Relay {
                to,
                signal: ServerMessage::Signal { signal },
                from: conn,
                otherwise,
            }),
            None => self.send(vec![conn], otherwise),
        }
    }
}
