//! Who may talk to whom: what membership and policies stand in the way of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waymesh_core::policy::{Policy, Request};
use waymesh_proto::error::Code;
use waymesh_proto::ids::{Role, SkillName};

use super::super::host::name_of;
use super::super::papers::Term;

/// One host's papers and what it lets through.
#[derive(Debug, Clone)]
pub struct Standing {
    /// When its certificate ends, and how good its clock is.
    pub term: Term,
    /// Its roles.
    pub roles: Vec<Role>,
    /// What it lets through.
    pub policy: Policy,
}

/// All hosts' standings.
#[derive(Debug, Default)]
pub struct Members {
    standings: Vec<Standing>,
    start: Option<Instant>,
    revoked: BTreeSet<usize>,
    /// When the registry that is there knew.
    known: BTreeMap<usize, Instant>,
}

impl Members {
    /// Of hosts whose certificates count from a moment.
    pub fn new(start: Instant, standings: Vec<Standing>) -> Self {
        Self {
            standings,
            start: Some(start),
            revoked: BTreeSet::new(),
            known: BTreeMap::new(),
        }
    }

    /// The authority has revoked a host.
    pub fn handle_revoked(&mut self, host: usize) {
        self.revoked.insert(host);
    }

    /// The registry says of a host that it is revoked.
    pub fn handle_told(&mut self, now: Instant, host: usize) {
        self.known.entry(host).or_insert(now);
    }

    /// Whether the authority has revoked a host.
    pub fn is_revoked(&self, host: usize) -> bool {
        self.revoked.contains(&host)
    }

    /// Hosts that are revoked, and since when the registry has told it.
    pub fn told(&self) -> impl Iterator<Item = (usize, Instant)> {
        self.known.iter().map(|(host, at)| (*host, *at))
    }

    fn standing(&self, host: usize) -> Option<&Standing> {
        self.standings.get(host)
    }

    /// Whether a host is a member no more, or will not be at the end of the
    /// schedule, or has a clock that others do not put up with.
    pub fn is_out(&self, host: usize) -> bool {
        let standing = self.standing(host);
        let is_lost = standing.is_some_and(|s| s.term.is_off() || s.term.is_final());
        is_lost || self.is_revoked(host)
    }

    /// Whether the certificate of a host has ended once, for anybody, or ends about now.
    fn has_ended(&self, now: Instant, host: usize) -> bool {
        /// Others' clocks may be ahead by this.
        const CLOCKS: Duration = Duration::from_secs(600);
        let ends = self.standing(host).and_then(|s| s.term.ends);
        let ends = ends.zip(self.start).map(|(after, start)| start + after);
        ends.is_some_and(|ends| ends <= now + CLOCKS)
    }

    /// Whether a policy of either lets nothing of the other through.
    pub fn is_denied(&self, a: usize, b: usize) -> bool {
        !self.permits(a, b, Request::Contact) || !self.permits(b, a, Request::Contact)
    }

    fn permits(&self, from: usize, to: usize, request: Request<'_>) -> bool {
        let (Some(from_is), Some(to_is)) = (self.standing(from), self.standing(to)) else {
            return true;
        };
        to_is
            .policy
            .permits(&name_of(from), &from_is.roles, request)
    }

    /// Whether messages of a host may come into the inbox of another.
    pub fn permits_messages(&self, from: usize, to: usize) -> bool {
        self.permits(from, to, Request::Message)
    }

    /// Whether a host may call a skill of another.
    pub fn permits_call(&self, from: usize, to: usize, skill: &SkillName) -> bool {
        self.permits(from, to, Request::Skill(skill))
    }

    /// Whether nothing stands between two hosts for messages, at the end of the schedule.
    pub fn is_sound(&self, from: usize, to: usize) -> bool {
        self.is_linkable(from, to) && self.permits_messages(from, to)
    }

    /// Whether two hosts may have a link at the end of the schedule.
    pub fn is_linkable(&self, a: usize, b: usize) -> bool {
        !self.is_out(a) && !self.is_out(b) && !self.is_denied(a, b)
    }

    /// Whether an error with this code about something that went from one host
    /// to another has its cause in their papers or policies.
    pub fn may_refuse(&self, now: Instant, from: usize, to: usize, code: Code) -> bool {
        let either = |is: &dyn Fn(usize) -> bool| is(from) || is(to);
        match code {
            Code::Unauthorized => {
                self.is_denied(from, to)
                    || !self.permits_messages(from, to)
                    || self
                        .standing(to)
                        .is_some_and(|s| !s.policy.allow.is_empty() || !s.policy.deny.is_empty())
                    || either(&|host| self.is_revoked(host))
            }
            Code::Revoked => either(&|host| self.is_revoked(host)),
            Code::CertificateExpired => {
                either(&|host| self.has_ended(now, host))
                    || either(&|host| self.standing(host).is_some_and(|s| s.term.is_off()))
            }
            Code::ClockSkew => either(&|host| self.standing(host).is_some_and(|s| s.term.is_off())),
            _ => false,
        }
    }
}
