//! Who is introduced to whom: in a small mesh everybody learns ahead of need
//! what it takes to write to anybody, so that a first letter leaves at once.
//!
//! An introduction is a hint. A node that has none asks for the name as it would
//! without, and one that uses it asks all the same, so nothing is lost where one
//! is skipped: for a connection that is slow to read, or in a mesh that has
//! grown. Only papers are told anew, certificates and sealing keys: who comes and
//! goes concerns those that watch it. So a mesh that restarts as a whole costs
//! one list a node. A node that flaps costs the others nothing, and the registry
//! one list a login; it slows down by itself, and [`LOGIN_EVERY`](super::LOGIN_EVERY)
//! limits whoever does not.

use waymesh_proto::Name;
use waymesh_proto::control::ServerMessage;

use super::listings::{Listing, Query, Question};
use super::{ConnId, Effect, Registry};

impl Registry {
    /// A node that has logged in wants to know everybody; in a large mesh it is told nothing.
    pub(super) fn introduce_all(&mut self, conn: ConnId) {
        if !self.agents.are_few() {
            return;
        }
        self.watchers.introduce(conn);
        let (answers, query) = (Question::Introduce, Query::default());
        self.list(conn, Listing::Agents { answers, query });
    }

    /// Introduces an agent to all others, if its papers are new.
    pub(super) fn introduce(&mut self, name: &Name) {
        let Some(record) = self.agents.take_news(name) else {
            return;
        };
        if !self.agents.are_few() {
            return self.watchers.end_introductions();
        }
        let own = self.agents.connection_of(&record.agent.agent_id);
        let others = self.watchers.introduced().iter().copied();
        let to: Vec<ConnId> = others.filter(|conn| Some(*conn) != own).collect();
        if !to.is_empty() {
            let agents = vec![record];
            let message = ServerMessage::Introduced { agents };
            self.effects.push_back(Effect::Introduce { to, message });
        }
    }
}
