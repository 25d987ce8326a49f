//! What must hold once everything is well: the links, the registry, the
//! model's accounts; and that every pair answers at once.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use waymesh_core::Topology;
use waymesh_core::app::Command;
use waymesh_core::registry::Query;
use waymesh_proto::api::{Attempt, AttemptOutcome, Detail, PeerState, Via};
use waymesh_proto::class::Class;
use waymesh_proto::envelope::Priority;
use waymesh_proto::ids::MessageId;
use waymesh_proto::mailbox::Keep;

use super::host::{host_of, id_of, incarnation_of, life_of, name_of, node_of};
use super::registry::Way;
use super::report::{Checked, Invariant, Violation, hold};
use super::schedule::Reading;
use super::workload::Skill;
use super::{REST, World};

/// How long a message must have to live after the healing to be sure to arrive.
const DELIVERY_BOUND: Duration = Duration::from_secs(50);

/// How long what waits may wait once everything is well: an idle link that carried
/// the acknowledgement to nowhere is found dead within 20 s, and the way around it
/// takes seconds. Measured in 600 schedules: 999 of 1,000 within 2.7 s, the last
/// after 18.8 s.
const TRAFFIC_BOUND: Duration = Duration::from_secs(25);

/// How long a healthy pair may take to answer, link set-up included.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

/// Lives of a sender that a receiver keeps apart, beside the present one.
const PAST_LIVES: u32 = 4;

/// How long an item for a receiver that reads may be in its mailbox.
const MAIL_BOUND: Duration = Duration::from_secs(5);

/// How soon nodes that are connected act on a revocation.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// How soon a node acts on the end of a certificate. Timers fire exactly; the
/// other end may have to find out by silence.
const PAPERS_BOUND: Duration = Duration::from_secs(30);

/// What is tried of the pairs while everything is well.
#[derive(Debug, Default)]
pub struct Health {
    since: Option<Instant>,
    calls: Vec<MessageId>,
    letters: Vec<MessageId>,
    pings: Vec<MessageId>,
    /// Calls that nobody will answer, by their callers; withdrawn half-way.
    mute: Vec<(usize, MessageId)>,
}

impl Health {
    pub(super) fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    pub(super) const fn is_well(&self) -> bool {
        self.since.is_some()
    }
}

impl World {
    fn reads(&self, at: usize) -> bool {
        self.hosts[at].reading != Reading::Never && self.hosts[at].reader.is_some()
    }

    fn check_accounts(&self) -> Checked {
        let (now, lives) = (self.now, &self.model.lives);
        let since = self.health.since.unwrap_or(now);
        self.model.letters.check_settled(
            now,
            since,
            (DELIVERY_BOUND, TRAFFIC_BOUND),
            lives,
            |from, to| {
                // What a hostile registry said was stored comes over a link, or not at all.
                let unlinked = !self.may_link(from, to) || self.is_poisoned();
                let believed = self.office.is_hostile() && unlinked;
                self.reads(to) && self.model.members.is_sound(from, to) && !believed
            },
        )?;
        self.check_stored_arrived(since)?;
        self.model.letters.check_conserved(lives)?;
        self.model.calls.check_settled(now, lives)?;
        self.model.waits.check_settled(now, lives)
    }

    /// Whether two hosts may have a link in the end.
    pub(super) fn may_link(&self, a: usize, b: usize) -> bool {
        let none = |at: usize| self.hosts[at].plan.topology == Topology::MailboxOnly;
        self.model.members.is_linkable(a, b) && !none(a) && !none(b)
    }

    /// What is stored reaches an application that reads, even if its sender is gone.
    fn check_stored_arrived(&self, since: Instant) -> Checked {
        let model = &self.model;
        for (key, mail) in model.mails.all() {
            let Some(inside) = mail.inside.filter(|inside| inside.is_letter) else {
                continue;
            };
            let Some(letter) = model.letters.get(&inside.id) else {
                continue;
            };
            // Receivers keep apart only so many lives of a sender.
            let lives = model.lives.current(key.0).map_or(0, |life| life.number);
            let is_due = mail.is_durable
                && mail.keep == Keep::Store
                && mail.expires > since + DELIVERY_BOUND
                && mail.posted + DELIVERY_BOUND < self.now
                && !mail.is_unwanted()
                && letter.ended.is_none()
                && letter.class.is_reliable()
                && !model.letters.waits_for_another(&inside.id)
                && lives < mail.from.number + PAST_LIVES;
            let can_arrive = model.lives.current(mail.to).is_some()
                && self.reads(mail.to)
                && model.members.is_sound(mail.from.host, mail.to)
                && !self.office.is_hostile();
            hold!(
                !is_due || !can_arrive || model.letters.was_acked(&inside.id),
                StoredArrives,
                "{} of {:?} to {} was stored and no application has it: {mail:?}",
                inside.id,
                mail.from,
                mail.to
            );
        }
        Ok(())
    }

    /// The registry keeps nothing for those who have taken everything, and its
    /// index says what its disk has.
    fn check_mailboxes(&self) -> Checked {
        if self.office.is_hostile() {
            // What waits for something that it has thrown away is held to the end of its life.
            return Ok(());
        }
        let items = self.office.disk.items();
        let level = self.office.mailbox_level();
        hold!(
            !self.office.disk.is_idle() || level.items == items.len(),
            NoLeak,
            "the registry counts {} items and its disk has {}",
            level.items,
            items.len()
        );
        for item in &items {
            let (from, to) = (host_of(item.header.from), host_of(item.header.to));
            let key = (from, item.header.item);
            let Some(mail) = self.model.mails.get(&key) else {
                continue;
            };
            let lives = self.model.lives.current(from).map_or(0, |life| life.number);
            // Waits for a sender that never comes back.
            let is_given_back = mail.was_unreadable() && lives == 0;
            let has_taken = !is_given_back
                && self.model.lives.current(to).is_some()
                && self.reads(to)
                && mail.posted + MAIL_BOUND < self.now
                && lives < mail.from.number + PAST_LIVES
                && self.model.members.is_sound(from, to)
                && mail
                    .inside
                    .is_none_or(|inside| !self.model.letters.waits_for_another(&inside.id));
            hold!(
                !has_taken,
                NoLeak,
                "the registry still keeps an item for host {to}: {mail:?}"
            );
        }
        Ok(())
    }

    /// Whoever hears of revocations at once has no link to a revoked host.
    pub(super) fn check_revoked(&self) -> Checked {
        let now = self.now;
        for (host, since) in self.model.members.told() {
            for (at, other) in self.hosts.iter().enumerate() {
                let heard = other.known_revoked.contains(&host);
                let there = self.model.lives.registered_since(at);
                let is_told = there.is_some_and(|there| there.max(since) + TOLD_WITHIN < now);
                let linked = other.used_links().any(|n| life_of(n).host == host);
                let reached = other.way == Way::Open && !self.office.is_hostile();
                hold!(
                    !linked || !(heard || is_told && reached),
                    RevokedIsOut,
                    "host {at} has a link to host {host}, which is revoked (heard: {heard})"
                );
            }
        }
        Ok(())
    }

    /// No link outlives a certificate, where clocks are right.
    fn check_papers(&self) -> Checked {
        for (a, host) in self.hosts.iter().enumerate() {
            for (link, (node, _)) in &host.links {
                let b = life_of(*node).host;
                // Nobody may tell a revoked host so: it goes on asking on a link that
                // its peer has closed without its noticing, and nobody answers.
                let is_over = !host.uses(link);
                for of in [a, b] {
                    let over = self.hosts[of].plan.term;
                    let right = host.plan.term.skew_ms == 0 && over.skew_ms == 0;
                    let ends = over.ends.filter(|_| over.is_final() && right);
                    hold!(
                        ends.is_none_or(|ends| self.now < self.start + ends + PAPERS_BOUND),
                        ExpiredIsOut,
                        "hosts {a} and {b} have a link, and the certificate of {of} ended at {ends:?}"
                    );
                    hold!(
                        !self.model.members.is_revoked(of) || (of == a && is_over),
                        RevokedIsOut,
                        "hosts {a} and {b} have a link, and {of} is revoked"
                    );
                }
            }
        }
        Ok(())
    }

    /// Nobody waits to be told that a certificate ends, except where it was revoked
    /// before: then there is no end to come.
    fn check_notices(&self) -> Checked {
        for (at, host) in self.hosts.iter().enumerate() {
            if self.model.members.is_revoked(at) {
                continue;
            }
            hold!(
                host.owed_notices.is_empty(),
                ExpiryIsTold,
                "clients of host {at} were not told that its certificate ends: {:?}",
                host.owed_notices
            );
        }
        Ok(())
    }

    /// Everything must have settled by now.
    pub(super) fn check_settled(&mut self) -> Checked {
        self.check_accounts()?;
        self.check_presence()?;
        self.check_papers()?;
        self.check_notices()?;
        self.check_mailboxes()?;
        self.check_links()
    }

    fn check_presence(&self) -> Checked {
        let all = self.office.rules.find(&Query::default(), NonZeroUsize::MAX);
        let records = all.agents;
        for at in (0..self.hosts.len()).filter(|at| !self.model.members.is_out(*at)) {
            let record = records.iter().find(|record| record.agent_id == id_of(at));
            let life = self.model.lives.current(at);
            let online = record
                .filter(|record| record.online)
                .map(|record| record.incarnation);
            let truth = life.map(|life| incarnation_of(life.number));
            hold!(
                online == truth,
                Presence,
                "host {at} lives as {truth:?} and the registry says {online:?}"
            );
            if let Some(mesh) = &self.hosts[at].mesh {
                hold!(mesh.is_registered(), Presence, "host {at} is not logged in");
            }
        }
        Ok(())
    }

    /// Pairs have at most one link, whose two ends agree; full meshes are whole.
    fn check_links(&mut self) -> Checked {
        for at in 0..self.hosts.len() {
            self.list_peers(at)?;
        }
        for a in 0..self.hosts.len() {
            let Some(life) = self.model.lives.current(a) else {
                continue;
            };
            for b in (0..self.hosts.len()).filter(|b| *b != a) {
                let ends = |from: usize, to: usize| {
                    let links = self.hosts[from].used_links();
                    links.filter(|other| life_of(*other).host == to).count()
                };
                let (here, there) = (ends(a, b), ends(b, a));
                if self.is_trying(a, b) || self.is_trying(b, a) {
                    continue;
                }
                hold!(
                    here <= 1,
                    OneLink,
                    "host {a} has {here} links to {b} ({:?})",
                    self.hosts[a].links
                );
                hold!(
                    here == there,
                    OneLink,
                    "host {a} has {here} links to {b}, which has {there} to it"
                );
                let current = self.model.lives.current(b);
                let right = self.hosts[a].used_links().all(|other| {
                    let other = life_of(other);
                    self.model.lives.is_alive(other)
                });
                hold!(
                    right,
                    OneLink,
                    "{life:?} has a link to a life that ended: {:?}",
                    self.hosts[a].links
                );
                let both = self.may_link(a, b)
                    && !self.is_poisoned()
                    && [a, b]
                        .iter()
                        .all(|at| self.hosts[*at].plan.topology == Topology::FullMesh);
                hold!(
                    !both || current.is_none() || here == 1,
                    Whole,
                    "hosts {a} and {b} have no link: {:?}",
                    self.status(a, b)
                );
                let told = self.status(a, b).map(|status| status.0);
                hold!(
                    here == usize::from(told == Some(PeerState::Linked)),
                    OneLink,
                    "host {a} says of {b}: {told:?}, and has {here} links to it"
                );
            }
        }
        Ok(())
    }

    fn list_peers(&mut self, at: usize) -> Checked {
        let (now, client, id) = (self.now, self.hosts[at].worker, self.new_id());
        if let Some(mesh) = &mut self.hosts[at].mesh {
            mesh.handle_command(
                now,
                client,
                Command::ListPeers {
                    id,
                    attempts: Detail::Attempts,
                },
            );
        }
        self.pump(at)
    }

    /// Whether a new link to a peer is being made or on trial.
    fn is_trying(&self, at: usize, of: usize) -> bool {
        let name = name_of(of);
        let mut peers = self.hosts[at].told.peers.iter();
        let peer = peers.find(|peer| peer.agent == name);
        let mut attempts = peer.and_then(|peer| peer.attempts.iter().flatten().next());
        let trying = |attempt: &mut &Attempt| attempt.outcome == AttemptOutcome::Trying;
        attempts.as_mut().is_some_and(trying) && self.hosts[at].mesh.is_some()
    }

    fn status(&self, at: usize, of: usize) -> Option<(PeerState, &str)> {
        let name = name_of(of);
        let peer = self.hosts[at]
            .told
            .peers
            .iter()
            .find(|peer| peer.agent == name)?;
        Some((peer.state, &peer.reason))
    }

    /// Whether nodes may still believe what a hostile registry said of lives
    /// that are yet to come: it may deny them links until those have come.
    fn is_poisoned(&self) -> bool {
        self.plan.malice.is_some_and(|malice| malice.records > 0)
    }

    /// Sends, calls and pings between all pairs that live.
    pub(super) fn try_every_pair(&mut self) {
        if self.is_poisoned() {
            return;
        }
        let living: Vec<usize> = (0..self.hosts.len())
            .filter(|at| self.hosts[*at].mesh.is_some())
            .collect();
        for &a in &living {
            for &b in living.iter().filter(|b| **b != a) {
                // Calls share their window with messages of their class.
                let life = self.model.lives.current(a);
                let blocked = |life| self.model.letters.may_block(life, b, Class::Tasks);
                if life.is_some_and(blocked) || !self.model.members.is_sound(a, b) {
                    continue;
                }
                if self.model.members.permits_call(a, b, &Skill::Fast.name()) {
                    let calls = self.call(a, b, Skill::Fast, (ANSWER_BOUND, false), 100);
                    self.health.calls.extend(calls);
                }
                if self.model.members.permits_call(a, b, &Skill::Mute.name()) {
                    let mute = self.call(a, b, Skill::Mute, (REST, false), 10);
                    self.health.mute.extend(mute.map(|id| (a, id)));
                }
                if self.may_link(a, b) {
                    let ping = self.ask(a, ANSWER_BOUND, |id| Command::Ping {
                        id,
                        to: name_of(b),
                        timeout: ANSWER_BOUND,
                        via: Via::InUse,
                    });
                    self.health.pings.extend(ping);
                }
                for class in [Class::Control, Class::Tasks, Class::Bulk] {
                    let sent = self.send(a, b, (class, 20_000), REST, Priority::Normal);
                    // What a hostile registry made of earlier ones may hold it up.
                    let waits = class.is_ordered() && self.office.is_hostile();
                    if self.reads(b) && !waits {
                        self.health.letters.extend(sent);
                    }
                }
            }
        }
    }

    /// Withdraws the calls that nobody answers.
    pub(super) fn cancel_some(&mut self) {
        for (from, id) in std::mem::take(&mut self.health.mute) {
            self.health.calls.push(id);
            self.cancel(from, id);
        }
    }

    /// All that was tried must have worked, and nothing may be left over.
    pub(super) fn check_end(&mut self) -> Checked {
        self.check_accounts()?;
        self.check_papers()?;
        self.check_mailboxes()?;
        self.check_links()?;
        for id in &self.health.calls {
            let cancelled = self.model.calls.skill_of(id) == Some(Skill::Mute);
            let ending = self.model.calls.ending_of(id);
            hold!(
                cancelled || ending == Some(None),
                Responsive,
                "{id} between healthy hosts ended as {ending:?}"
            );
            hold!(
                !cancelled || self.model.calls.was_entered(id),
                Responsive,
                "{id} between healthy hosts entered no handler"
            );
            hold!(
                !self.model.calls.is_worked_on(id, &self.model.lives),
                CancelArrives,
                "the handler of {id} was not told that it is cancelled"
            );
        }
        for id in &self.health.letters {
            hold!(
                self.model.letters.is_delivered(id),
                Responsive,
                "{id} between healthy hosts was not delivered"
            );
        }
        for id in &self.health.pings {
            hold!(
                self.model.waits.is_good(id),
                Responsive,
                "ping {id} between healthy hosts failed"
            );
        }
        self.check_drained()
    }

    /// Where nothing is open, nothing is kept.
    fn check_drained(&self) -> Checked {
        let count = self.hosts.len();
        let all_sound = (0..count).all(|a| {
            (0..count).all(|b| a == b || self.may_link(a, b) && self.model.members.is_sound(a, b))
        });
        if !all_sound
            || self.office.is_hostile()
            || self.hosts.iter().any(|host| host.gone)
            || self.model.calls.has_open(&self.model.lives)
        {
            return Ok(());
        }
        for (at, host) in self.hosts.iter().enumerate() {
            let (Some(mesh), Some(life)) = (&host.mesh, self.model.lives.current(at)) else {
                continue;
            };
            let (out, inn) = mesh.backlog();
            hold!(
                out == 0 || self.model.letters.has_open(life),
                Drained,
                "host {at} keeps {out} bytes for peers that have everything"
            );
            let idle =
                self.reads(at) && !self.model.letters.has_open_to(at) && host.in_hand.is_empty();
            hold!(
                inn == 0 || !idle,
                Drained,
                "host {at} keeps {inn} bytes for an application that has everything"
            );
            hold!(
                host.links
                    .keys()
                    .all(|link| self.net.room(node_of(life), *link) > 0),
                Drained,
                "a link of host {at} is full and idle"
            );
        }
        Ok(())
    }
}
