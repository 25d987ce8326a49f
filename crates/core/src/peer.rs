//! One peer: who it is, how it is reached, what waits for it.

use std::time::{Duration, Instant};

use rand::Rng;
use waymesh_proto::api::{AttemptPurpose, AttemptRole, PeerState, PeerStatus, Transport, Via};
use waymesh_proto::error::Fault;
use waymesh_proto::ids::{AgentId, Incarnation, LinkId, MessageId, Name};
use waymesh_proto::link::Path;

use crate::app::{ClientId, Member};
use crate::attempts::{Attempts, End};
use crate::backoff::{Backoff, LINK_PAUSE_MAX};
use crate::link::{Dormant, Link, Signaling, Trial, Upgrade};
use crate::mail::Mail;
use crate::outbound::Scope;
use crate::session::{Manners, Sessions};
use crate::streams::Streams;

/// How long after its last message a link is worth a better one. Chosen: a
/// conversation goes on after a minute, or is over.
const RECENT_USE: Duration = Duration::from_secs(60);

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
    /// A link.
    Link,
    /// A round trip over the link.
    Echo { token: Option<u64> },
    /// A round trip through the mailbox; what was asked, and when. Asked for on
    /// the path in use, a link serves as well.
    MailEcho {
        asked: Option<(u64, Instant)>,
        via: Via,
    },
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
    /// A new link beside that in use; there is none without one in use.
    pub(crate) trial: Option<Trial>,
    /// A link that fell silent; there is none beside one in use.
    pub(crate) dormant: Option<Dormant>,
    pub(crate) attempts: Attempts,
    /// Between attempts at a link beside one that seemed dead and was not.
    pub(crate) recover: Backoff,
    pub(crate) upgrade: Upgrade,
    /// The network has changed just now: the link in use may be worth nothing.
    pub(crate) renew: bool,
    pub(crate) streams: Streams,
    pub(crate) waiters: Vec<Waiter>,
    /// A client waits for an answer: only a link tells whether it can still come.
    pub(crate) awaited: bool,
    /// A call in the mailbox is to be answered when fewer answers wait for it.
    pub(crate) has_call_put_off: bool,
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
            sessions: Sessions::new(Manners::Firm),
            link: None,
            trial: None,
            dormant: None,
            attempts: Attempts::default(),
            recover: Backoff::new(LINK_PAUSE_MAX),
            upgrade: Upgrade::default(),
            renew: false,
            streams: Streams::default(),
            waiters: Vec::new(),
            awaited: false,
            has_call_put_off: false,
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
        !self.has_links()
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

    /// The path of the link that brings what arrives now.
    pub(crate) fn link_path(&self) -> Option<Path> {
        let dormant = self.dormant.as_ref().map(|dormant| &dormant.link);
        let link = self.link.as_ref().or(dormant);
        link.map(|link| link.pair.path())
    }

    /// Whether there is any link, in use or not.
    pub(crate) const fn has_links(&self) -> bool {
        self.link.is_some() || self.dormant.is_some()
    }

    /// Whether a link is with an earlier life of the peer than this.
    pub(crate) fn has_link_before(&self, life: Incarnation) -> bool {
        let trial = self.trial.as_ref().map(|trial| &trial.link);
        let dormant = self.dormant.as_ref().map(|dormant| &dormant.link);
        let mut links = self.link.iter().chain(trial).chain(dormant);
        links.any(|link| link.incarnation < life)
    }

    pub(crate) fn is_link(&self, id: LinkId) -> bool {
        self.link.as_ref().is_some_and(|link| link.id == id)
    }

    /// Whether something waits that only a link can carry.
    pub(crate) fn wants_link(&self, now: Instant) -> bool {
        self.streams.wants_link()
            || self.awaited
            || self.is_link_awaited()
            // Whoever is answered by mailbox meanwhile goes on over a link.
            || self.mail.first_until.is_some()
            || self.eager_at.is_some_and(|at| at <= now)
    }

    /// Whether a client waits for a link, or for something over it.
    pub(crate) fn is_link_awaited(&self) -> bool {
        let by_mail = |w: &Waiter| {
            let via = Via::Mailbox;
            matches!(w.wants, Wanted::MailEcho { via: of, .. } if of == via)
        };
        !self.waiters.iter().all(by_mail)
    }

    /// A probe went by mailbox and may be lost: it is to go again.
    pub(crate) fn forget_mail_probe(&mut self, token: u64) {
        for waiter in &mut self.waiters {
            if let Wanted::MailEcho { asked, .. } = &mut waiter.wants {
                asked.take_if(|(asked, _)| *asked == token);
            }
        }
    }

    /// What a new link would be for now.
    pub(crate) fn purpose(&self, now: Instant) -> Option<AttemptPurpose> {
        let Some(link) = &self.link else {
            return self.wants_link(now).then_some(AttemptPurpose::Connect);
        };
        // One at a time; and a link to an earlier life is only questioned.
        if self.trial.is_some() || self.incarnation > Some(link.incarnation) {
            return None;
        }
        let recent = link.last_used + RECENT_USE > now || self.wants_link(now);
        let upgrade = self.upgrade.due().is_some_and(|due| due <= now);
        if !recent {
            None
        } else if self.renew || link.liveness.needs_help(now) {
            Some(AttemptPurpose::Recover)
        } else {
            upgrade.then_some(AttemptPurpose::Upgrade)
        }
    }

    /// The trial ends without having been used. The next attempt to help a link
    /// out comes later; attempts at a better one have pauses of their own.
    pub(crate) fn end_trial(&mut self, now: Instant, end: End, rng: &mut impl Rng) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        let purpose = self.attempts.purpose(trial.link.id);
        if trial.role() == AttemptRole::Offered && purpose == Some(AttemptPurpose::Recover) {
            self.recover.handle_failure(now, rng);
        }
        self.attempts.end(now, trial.link.id, end);
    }

    /// When an attempt for this purpose may start at the earliest.
    pub(crate) fn may_start_at(&self, purpose: AttemptPurpose) -> Option<Instant> {
        let other = match purpose {
            AttemptPurpose::Connect => self.mail.yields_until.max(self.mail.first_until),
            AttemptPurpose::Recover => self.recover.not_before(),
            AttemptPurpose::Upgrade => None,
        };
        self.sessions.not_before().max(other)
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

    /// The next moment at which something happens to this peer by itself; what is
    /// overdue happens now. One in the past would look as if the host had slept.
    pub(crate) fn poll_timeout(&self, now: Instant, signaling: Signaling) -> Option<Instant> {
        let link = self.link.as_ref();
        let possible = signaling == Signaling::Possible;
        let connect = (possible && !self.sessions.is_trying() && self.may_connect())
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
            self.trial.as_ref().map(Trial::poll_timeout),
            self.dormant.as_ref().map(Dormant::poll_timeout),
            self.sessions.poll_timeout(),
            connect,
            self.lost_at,
            self.waiters.iter().map(Waiter::deadline).min(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.max(now))
    }

    /// Whether an attempt has a chance: the peer's identity is known and it is there.
    pub(crate) fn may_connect(&self) -> bool {
        self.id.is_some() && self.presence == Presence::Online && self.distrust.is_none()
    }

    fn connect_at(&self, now: Instant) -> Option<Instant> {
        match self.purpose(now) {
            Some(purpose) => Some(self.may_start_at(purpose).unwrap_or(now)),
            None if self.link.is_none() => self.eager_at,
            // One that is due already waits for the link to be used.
            None => self.upgrade.due().filter(|due| *due > now),
        }
    }

    /// When the peer's certificate has to be looked at again.
    fn trust_due(&self) -> Option<Instant> {
        let expires = self.member.as_ref()?.expires;
        self.has_links().then_some(expires)
    }
}
