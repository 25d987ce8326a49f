//! One peer: who it is, how it is reached, what waits for it.

use std::time::{Duration, Instant};

use waymesh_proto::api::{PeerState, PeerStatus, Transport};
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{AgentId, Incarnation, LinkId, MessageId, Name};
use waymesh_proto::link::{CandidatePair, Path};

use crate::app::{ClientId, Member};
use crate::liveness::Liveness;
use crate::mail::Mail;
use crate::outbound::Scope;
use crate::session::Sessions;
use crate::streams::Streams;

/// A node's own handle of a peer: it may be known by name before its identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerKey(pub(crate) u32);

/// What the registry says of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nothing yet.
    Unasked,
    /// No agent has the name.
    Unknown,
    Offline,
    Online,
}

/// A link that is up.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) pair: CandidatePair,
    pub(crate) incarnation: Incarnation,
    pub(crate) liveness: Liveness,
    pub(crate) said_hello: bool,
    pub(crate) probe: Option<u64>,
    pub(crate) echoes: Vec<u64>,
    pub(crate) last_used: Instant,
    pub(crate) setup: Duration,
    /// How many of the known revocations the peer has been told on this link.
    pub(crate) told_revocations: usize,
    /// Revocations that it told and that do not hold.
    pub(crate) false_revocations: u32,
}

/// A client that waits for a link or for a round trip.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) client: ClientId,
    pub(crate) id: MessageId,
    pub(crate) started: Instant,
    pub(crate) timeout: Duration,
    pub(crate) wants: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Link,
    Echo { token: Option<u64> },
}

impl Waiter {
    pub(crate) fn deadline(&self) -> Instant {
        self.started + self.timeout
    }
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: Name,
    pub(crate) id: Option<AgentId>,
    pub(crate) presence: Presence,
    /// The newest incarnation that is known.
    pub(crate) incarnation: Option<Incarnation>,
    /// What its certificate proves.
    pub(crate) member: Option<Member>,
    /// Why nothing is to go to it or come from it.
    pub(crate) distrust: Option<Fault>,
    pub(crate) mail: Mail,
    pub(crate) sessions: Sessions,
    pub(crate) link: Option<Link>,
    pub(crate) streams: Streams,
    pub(crate) waiters: Vec<Waiter>,
    /// A client waits for an answer: only a link tells whether it can still come.
    pub(crate) awaited: bool,
    /// When a link is made without being asked for (`full_mesh`).
    pub(crate) eager_at: Option<Instant>,
    /// When the peer counts as lost unless it shows up again.
    pub(crate) lost_at: Option<Instant>,
    pub(crate) wanted_since: Option<Instant>,
    pub(crate) reason: String,
    /// What the mesh has accounted for this peer.
    pub(crate) counted_out: usize,
    pub(crate) counted_in: u64,
    pub(crate) timer: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            name,
            id: None,
            presence: Presence::Unasked,
            incarnation: None,
            member: None,
            distrust: None,
            mail: Mail::default(),
            sessions: Sessions::new(false),
            link: None,
            streams: Streams::default(),
            waiters: Vec::new(),
            awaited: false,
            eager_at: None,
            lost_at: None,
            wanted_since: None,
            reason: "not needed yet".into(),
            counted_out: 0,
            counted_in: 0,
            timer: None,
        }
    }

    /// Whether forgetting the peer loses nothing.
    pub(crate) fn is_blank(&self) -> bool {
        self.link.is_none()
            && !self.sessions.is_trying()
            && self.waiters.is_empty()
            && self.streams.is_blank()
    }

    /// The path that traffic takes now.
    pub(crate) fn path(&self) -> Option<Path> {
        let mailbox = || self.mail.in_use.then_some(Path::Mailbox);
        self.link
            .as_ref()
            .map(|link| link.pair.path())
            .or_else(mailbox)
    }

    pub(crate) fn is_link(&self, id: LinkId) -> bool {
        self.link.as_ref().is_some_and(|link| link.id == id)
    }

    /// Whether something waits that only a link can carry.
    pub(crate) fn wants_link(&self, now: Instant) -> bool {
        self.streams.wants_link()
            || self.awaited
            || !self.waiters.is_empty()
            || self.eager_at.is_some_and(|at| at <= now)
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let link = self.link.as_ref();
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        PeerStatus {
            agent: self.name.clone(),
            agent_id: self.id,
            state: if link.is_some() {
                PeerState::Linked
            } else if self.mail.in_use {
                PeerState::Mailbox
            } else if self.sessions.is_trying() {
                PeerState::Connecting
            } else {
                PeerState::Offline
            },
            path: self.path(),
            transport: link.map(|_| Transport::Webrtc),
            local_candidate: link.map(|l| l.pair.local),
            remote_candidate: link.map(|l| l.pair.remote),
            protocol: link.map(|l| l.pair.protocol),
            rtt_ms: link.and_then(|l| l.liveness.last_rtt()).map(ms),
            setup_ms: link.map(|l| ms(l.setup)),
            reason: self.why(),
            attempts: None,
        }
    }

    /// Why the path is what it is.
    fn why(&self) -> String {
        match (&self.distrust, &self.link) {
            (Some(fault), None) => fault.message.clone(),
            (None, None) if self.mail.in_use && self.sessions.is_trying() => {
                "sealed messages go through the registry while a link is being made".into()
            }
            (None, None) if self.mail.in_use => {
                format!("sealed messages go through the registry: {}", self.reason)
            }
            _ => self.reason.clone(),
        }
    }

    /// Which messages may go to the peer's mailbox now.
    pub(crate) fn mail_scope(&self, now: Instant) -> Option<Scope> {
        let link_works = self.link.as_ref().is_some_and(|link| {
            // A link that may be dead is helped out by the mailbox.
            !link.liveness.is_suspect(now) && self.incarnation <= Some(link.incarnation)
        });
        let scope = if link_works {
            Scope::Parked
        } else {
            Scope::All
        };
        let may_post = self.mail.may_post(now) && self.id.is_some() && self.distrust.is_none();
        may_post.then_some(scope)
    }

    /// Which messages wait for the mailbox and may go there now; acknowledgements go with all.
    pub(crate) fn due_mail(&self, now: Instant) -> Option<Scope> {
        let scope = self.mail_scope(now)?;
        let acks_due = self.streams.ack_due().is_some_and(|due| due <= now);
        let waits = self.streams.has_letter(now, scope) || (scope == Scope::All && acks_due);
        waits.then_some(scope)
    }

    /// The next moment at which something happens to this peer by itself.
    pub(crate) fn poll_timeout(&self, now: Instant, may_connect: bool) -> Option<Instant> {
        let link = self.link.as_ref();
        let connect =
            (may_connect && link.is_none() && !self.sessions.is_trying() && self.may_connect())
                .then(|| self.connect_at(now))
                .flatten();
        [
            self.streams.poll_timeout(),
            // One that is due already goes with the next frame.
            self.streams.ack_due().filter(|due| *due > now),
            self.streams.park_due().filter(|due| *due > now),
            self.mail.poll_timeout().filter(|at| *at > now),
            self.trust_due(),
            link.map(|l| l.liveness.poll_timeout()),
            self.sessions.poll_timeout(),
            connect,
            self.lost_at,
            self.waiters.iter().map(Waiter::deadline).min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether an attempt has a chance: the peer's identity is known and it is there.
    pub(crate) fn may_connect(&self) -> bool {
        self.id.is_some() && self.presence == Presence::Online && self.distrust.is_none()
    }

    /// When an attempt may start at the earliest.
    pub(crate) fn may_connect_at(&self) -> Option<Instant> {
        self.sessions.not_before().max(self.mail.yields_until)
    }

    fn connect_at(&self, now: Instant) -> Option<Instant> {
        if self.wants_link(now) {
            return Some(self.may_connect_at().unwrap_or(now));
        }
        self.eager_at
    }

    /// When the peer's certificate has to be looked at again.
    fn trust_due(&self) -> Option<Instant> {
        let expires = self.member.as_ref()?.expires;
        self.link.as_ref().map(|_| expires)
    }
}
