//! Answers that carry agents or revocations, given out part by part as the
//! connection reads.
//!
//! A question becomes a listing that waits in its connection's queue. The
//! program says when there is room ([`Registry::handle_room`]); each time one
//! part of the first listing is cut out of the directory as it is then. So an
//! answer costs one part of memory however large the directory is, and nobody
//! is cut off because others have much to tell.
//!
//! Invariant: a connection with listings has one [`Effect::AwaitRoom`] that is
//! not answered yet.

use std::collections::{BTreeMap, VecDeque};

use waymesh_proto::api::AgentRecord;
use waymesh_proto::control::{AGENTS_PART_BYTES, MemberRecord, ServerMessage};
use waymesh_proto::{Code, Fault, MessageId, Name, SkillName};

use super::agents::without_skills;
use super::{ConnId, Effect, LISTINGS_MAX, Registry};

/// Which agents are looked for: all that fit everything that is given.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only this name.
    pub name: Option<Name>,
    /// Only agents with this skill.
    pub skill: Option<SkillName>,
    /// Only names that sort after this one.
    pub after: Option<Name>,
}

/// One part of the agents that are looked for, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The agents.
    pub agents: Vec<AgentRecord>,
    /// The last name of this page, after which the next one begins; `None` at the end.
    pub next: Option<Name>,
}

/// What is still to be given out.
#[derive(Debug)]
pub(super) enum Listing {
    /// Agents, and whom they are for.
    Agents { answers: Question, query: Query },
    /// Revocations from this position on.
    Revocations { from: usize },
}

/// What was asked.
#[derive(Debug)]
pub(super) enum Question {
    Resolve(Name),
    WatchAll,
    Introduce,
    Find(MessageId),
}

impl Question {
    fn answer(&self, agents: Vec<MemberRecord>, more: bool) -> ServerMessage {
        match self {
            Self::Resolve(name) if agents.is_empty() => {
                ServerMessage::Unknown { name: name.clone() }
            }
            Self::Resolve(_) | Self::WatchAll => ServerMessage::Records { agents },
            Self::Introduce => ServerMessage::Introduced {
                agents: agents.into_iter().map(without_skills).collect(),
            },
            Self::Find(id) => ServerMessage::Found {
                id: *id,
                agents: agents.into_iter().map(|member| member.agent).collect(),
                more,
            },
        }
    }
}

/// The listings that are not given out whole.
#[derive(Debug, Default)]
pub(super) struct Listings(BTreeMap<ConnId, VecDeque<Listing>>);

impl Listings {
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }
}

impl Registry {
    /// Answers as the connection reads.
    pub(super) fn list(&mut self, conn: ConnId, listing: Listing) {
        let waiting = self.listings.0.entry(conn).or_default();
        if waiting.len() >= LISTINGS_MAX {
            let error = Fault::new(Code::QueueFull, "too many questions wait for their answer")
                .with_hint("read the answers");
            return self.send(vec![conn], ServerMessage::Error { error });
        }
        waiting.push_back(listing);
        if waiting.len() == 1 {
            self.effects.push_back(Effect::AwaitRoom { conn });
        }
    }

    /// The connection has room for one part, as [`Effect::AwaitRoom`] asked.
    pub fn handle_room(&mut self, conn: ConnId) {
        let Some(waiting) = self.listings.0.get_mut(&conn) else {
            return;
        };
        let Some(listing) = waiting.pop_front() else {
            return;
        };
        let (part, rest) = match listing {
            Listing::Agents { answers, mut query } => {
                let (agents, next) = self.agents.page(&query, usize::MAX, AGENTS_PART_BYTES);
                let part = answers.answer(agents, next.is_some());
                // Who has become one of many meanwhile is not told of all of them.
                let goes_on = !matches!(answers, Question::Introduce) || self.agents.are_few();
                query.after = next.filter(|_| goes_on);
                let more = query.after.is_some();
                (part, more.then_some(Listing::Agents { answers, query }))
            }
            Listing::Revocations { from } => {
                let (part, next) = self.rolls.part(from);
                (part, next.map(|from| Listing::Revocations { from }))
            }
        };
        if let Some(rest) = rest {
            waiting.push_front(rest);
        }
        let is_done = waiting.is_empty();
        self.send(vec![conn], part);
        if is_done {
            self.listings.forget(conn);
        } else {
            self.effects.push_back(Effect::AwaitRoom { conn });
        }
    }
}
