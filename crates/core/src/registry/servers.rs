//! When a member is told the STUN and TURN servers, and how long what it is
//! told is good.
//!
//! The credentials for TURN are short-lived and end with the membership at the
//! latest. Half-way through their life new ones are told, and also when a node
//! says that a server has refused them. What they are, the program knows
//! ([`Effect::Servers`]).

use std::time::Instant;

use waymesh_proto::control::ServerMessage;
use waymesh_proto::ice::IceServers;
use waymesh_proto::{Code, Fault};

use super::{ConnId, Effect, Registry};

impl Registry {
    /// Tells a member its servers, if there are any, and when it is told next.
    pub(super) fn tell_servers(&mut self, now: Instant, conn: ConnId) {
        let (Some(life), Some(term), Some(session)) = (
            self.servers_life,
            self.connections.term(conn),
            self.connections.session(conn),
        ) else {
            return;
        };
        let agent_id = session.agent_id;
        let until = term.ends.min(now + life);
        // What ends with the certificate cannot be made longer before that is.
        let next = (until < term.ends).then(|| now + life / 2);
        self.connections.set_servers_due(conn, next);
        if until > now {
            self.effects.push_back(Effect::Servers {
                conn,
                agent_id,
                until,
            });
        }
    }

    /// A certificate was extended: credentials that would have ended with it are told anew.
    pub(super) fn tell_longer_servers(&mut self, now: Instant, conn: ConnId) {
        if self.connections.servers_due(conn).is_none() {
            self.tell_servers(now, conn);
        }
    }

    /// A member asks for its servers, because one has refused what it was told.
    pub(super) fn handle_servers_asked(&mut self, now: Instant, conn: ConnId) {
        if !self.connections.pay_ask(now, conn) {
            let text = "this connection asks for its servers too often";
            let fault = Fault::new(Code::RateLimited, text)
                .with_hint("the registry tells new credentials before the old ones end");
            // As every answer of this code, it does not count as a refused message.
            return self.send(vec![conn], ServerMessage::Error { error: fault });
        }
        match self.servers_life {
            Some(_) => self.tell_servers(now, conn),
            None => self.send(vec![conn], ServerMessage::IceServers(IceServers::default())),
        }
    }
}
