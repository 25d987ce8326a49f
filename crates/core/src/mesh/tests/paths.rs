//! Which link is in use: trials, failover, dormant links, upgrades, pings per path.

use super::*;
use crate::link::{TRIAL_OFFERED, UPGRADE_PAUSES};
use crate::mail::ECHOES_MAX;
use waymesh_proto::api::{
    Attempt, AttemptOutcome, AttemptPurpose, AttemptRole, Detail, PeerState, Via,
};
use waymesh_proto::link::Path;

impl Lab {
    /// Two nodes with a link between them, which the first of them has just used.
    pub(super) fn linked() -> Self {
        let mut lab = Self::new(&["a", "b"]);
        let id = lab.id();
        lab.command(1, Command::ClaimInbox { id });
        lab.send(0, "b", Class::Control, 10);
        lab.pass(SECOND);
        assert_eq!(lab.links_in_use(0).len(), 1);
        for host in &mut lab.hosts {
            host.events.clear();
        }
        lab
    }

    pub(super) fn peer(&self, at: usize) -> &Peer {
        self.hosts[at].mesh.peers.values().next().expect("a peer")
    }

    pub(super) fn links_in_use(&self, at: usize) -> Vec<(LinkId, Path)> {
        let link = self.peer(at).link.iter();
        link.map(|link| (link.id, link.pair.path())).collect()
    }

    pub(super) fn trials(&self) -> [bool; 2] {
        [0, 1].map(|at| self.peer(at).trial.is_some())
    }

    fn told(&self, at: usize, what: impl Fn(&Event) -> bool) -> usize {
        let events = self.hosts[at].events.iter();
        events.filter(|event| what(event)).count()
    }

    pub(super) fn moved(&self, at: usize) -> usize {
        self.told(at, |e| matches!(e, Event::PathChanged { .. }))
    }

    pub(super) fn ended(&self, at: usize) -> usize {
        self.told(at, |e| matches!(e, Event::PeerDisconnected { .. }))
    }

    pub(super) fn arrived(&self, at: usize) -> usize {
        self.told(at, |e| matches!(e, Event::Message { .. }))
    }

    pub(super) fn attempts(&mut self, at: usize) -> Vec<Attempt> {
        let (id, attempts) = (self.id(), Detail::Attempts);
        self.command(at, Command::ListPeers { id, attempts });
        let last = self.hosts[at].events.iter().rev().find_map(|e| match e {
            Event::Peers { peers, .. } => peers[0].attempts.clone(),
            _ => None,
        });
        last.expect("attempts")
    }

    /// What is on its way between the hosts is lost from now on. Gives what was there.
    pub(super) fn cut(&mut self) -> Vec<BTreeMap<LinkId, (usize, LinkId)>> {
        let hosts = self.hosts.iter_mut();
        hosts.map(|host| std::mem::take(&mut host.links)).collect()
    }

    pub(super) fn mend(&mut self, links: Vec<BTreeMap<LinkId, (usize, LinkId)>>) {
        for (host, links) in self.hosts.iter_mut().zip(links) {
            host.links.extend(links);
        }
    }

    fn change_pair(&mut self, at: usize, link: LinkId, kind: CandidateKind) {
        let (now, pair) = (self.now, pair(kind));
        let event = LinkEvent::PairChanged { link, pair };
        self.hosts[at].mesh.handle_link(now, event);
        self.run();
    }

    pub(super) fn change_network(&mut self, at: usize) {
        let now = self.now;
        self.hosts[at].mesh.handle_network_change(now);
        self.run();
    }

    pub(super) fn ping(&mut self, at: usize, via: Via) -> MessageId {
        let id = self.id();
        let (to, timeout) = ("b".parse().expect("a name"), 5 * SECOND);
        self.command(
            at,
            Command::Ping {
                id,
                to,
                timeout,
                via,
            },
        );
        id
    }

    pub(super) fn pong(&self, at: usize, id: MessageId) -> Option<Result<Path, Code>> {
        self.hosts[at].events.iter().find_map(|event| match event {
            Event::Pong { id: of, outcome } if *of == id => {
                Some(outcome.clone().map(|(path, _)| path).map_err(|f| f.code))
            }
            _ => None,
        })
    }

    pub(super) fn lose_registry(&mut self) {
        let now = self.now;
        for host in &mut self.hosts {
            host.mesh.handle_registry(now, RegistryEvent::Disconnected);
        }
        self.run();
    }
}

#[test]
fn a_link_that_seems_dead_is_replaced_before_it_is_given_up() {
    let mut lab = Lab::linked();
    let old = lab.links_in_use(0);
    lab.cut();
    lab.send(0, "b", Class::Control, 10);
    lab.pass(SECOND);
    assert_ne!(lab.links_in_use(0), old);
    assert_eq!((lab.moved(0), lab.moved(1)), (1, 1));
    assert_eq!((lab.ended(0), lab.ended(1)), (0, 0));
    assert_eq!(lab.arrived(1), 1);
    let attempt = &lab.attempts(0)[0];
    assert_eq!(attempt.purpose, AttemptPurpose::Recover);
    assert_eq!(attempt.outcome, AttemptOutcome::Linked);
    assert!(attempt.reason.contains("stopped answering"), "{attempt:?}");
    assert_eq!(lab.attempts(1)[0].role, AttemptRole::Answered);
}

#[test]
fn an_upgrade_is_used_only_once_its_path_is_direct_and_by_both_sides() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.kind = CandidateKind::Relay;
    lab.send(0, "b", Class::Control, 10);
    lab.pass(SECOND);
    let old = lab.links_in_use(1);
    assert_eq!(old[0].1, Path::Relay);
    lab.pass(UPGRADE_PAUSES[0]);
    assert_eq!(lab.trials(), [true, true]);
    assert_eq!(lab.links_in_use(1), old);
    // The side that offered is the one that does not give way.
    let trial = lab.peer(1).trial.as_ref().map(|t| t.link.id);
    lab.change_pair(1, trial.expect("a trial"), CandidateKind::Host);
    assert_eq!(
        lab.links_in_use(1),
        [(trial.expect("a trial"), Path::Direct)]
    );
    assert_ne!(lab.links_in_use(0)[0].0, old[0].0);
    assert_eq!(lab.trials(), [false, false]);
    assert_eq!((lab.ended(0), lab.ended(1)), (0, 0));
    let first = &lab.attempts(1)[0];
    assert_eq!(first.purpose, AttemptPurpose::Upgrade);
    assert!(
        first.reason.contains("a direct path was found"),
        "{first:?}"
    );
}

#[test]
fn an_upgrade_that_stays_relayed_ends_unneeded_and_the_next_comes_later() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.kind = CandidateKind::Relay;
    lab.send(0, "b", Class::Control, 10);
    lab.pass(SECOND);
    let old = (lab.links_in_use(0), lab.links_in_use(1));
    lab.pass(UPGRADE_PAUSES[0] + TRIAL_OFFERED + TRIAL_OFFERED);
    assert_eq!((lab.links_in_use(0), lab.links_in_use(1)), old);
    let attempts = lab.attempts(1);
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Unneeded);
    assert!(attempts[0].reason.contains("relayed"), "{attempts:?}");
    assert!(lab.peer(1).trial.is_none());
    lab.pass(UPGRADE_PAUSES[1]);
    assert_eq!(lab.attempts(1).len(), 3);
    // Nobody has used it for so long that nobody wants a better one.
    lab.pass(UPGRADE_PAUSES[2] + UPGRADE_PAUSES[2]);
    assert_eq!(lab.attempts(1).len(), 3);
}

#[test]
fn a_working_direct_link_is_not_given_up_for_a_relayed_one() {
    let mut lab = Lab::linked();
    let old = (lab.links_in_use(0), lab.links_in_use(1));
    lab.kind = CandidateKind::Relay;
    // The new link comes up after the old one has answered.
    lab.is_slow = true;
    lab.change_network(0);
    lab.pass(SECOND / 2);
    lab.come_up();
    assert_eq!(lab.trials(), [true, true]);
    lab.pass(TRIAL_OFFERED);
    assert_eq!((lab.links_in_use(0), lab.links_in_use(1)), old);
    assert_eq!((lab.moved(0), lab.moved(1)), (0, 0));
    assert!(lab.peer(0).trial.is_none());
    assert_eq!(lab.attempts(0)[0].outcome, AttemptOutcome::Unneeded);
}

#[test]
fn nothing_moves_to_a_link_that_carries_no_answer() {
    let mut lab = Lab::linked();
    let old = lab.links_in_use(0);
    let links = lab.cut();
    lab.send(0, "b", Class::Control, 10);
    lab.is_slow = true;
    lab.pass(SECOND * 9 / 10);
    // Nothing passes on the new one; the old one comes back.
    lab.cut();
    lab.come_up();
    lab.pass(SECOND / 10);
    assert_eq!((lab.links_in_use(0), lab.moved(0)), (old.clone(), 0));
    lab.mend(links);
    lab.pass(SECOND / 3);
    assert_eq!((lab.links_in_use(0), lab.moved(0)), (old, 0));
}

#[test]
fn a_trial_takes_over_when_the_link_in_use_ends() {
    let mut lab = Lab::linked();
    lab.kind = CandidateKind::Relay;
    lab.is_slow = true;
    lab.change_network(0);
    lab.pass(SECOND / 2);
    lab.come_up();
    let used = lab.links_in_use(1)[0].0;
    let now = lab.now;
    let reason = waymesh_proto::link::DownReason::IceFailed;
    let event = LinkEvent::Down { link: used, reason };
    lab.hosts[1].mesh.handle_link(now, event);
    lab.run();
    assert_eq!((lab.moved(0), lab.moved(1)), (1, 1));
    assert_eq!((lab.ended(0), lab.ended(1)), (0, 0));
    assert!(lab.peer(1).reason.contains("no pair of addresses works"));
}

#[test]
fn a_change_of_the_network_makes_a_new_link_at_once_beside_one_that_was_used() {
    let mut lab = Lab::linked();
    lab.cut();
    lab.change_network(0);
    lab.pass(SECOND / 10);
    assert_eq!((lab.moved(0), lab.ended(0)), (1, 0));
    assert_eq!(lab.attempts(0)[0].purpose, AttemptPurpose::Recover);
}

#[test]
fn a_change_of_the_network_only_asks_on_a_link_that_nobody_used_for_long() {
    let mut lab = Lab::linked();
    lab.pass(120 * SECOND);
    let attempts = lab.attempts(0).len();
    lab.cut();
    lab.change_network(0);
    lab.pass(SECOND * 2);
    assert_eq!((lab.moved(0), lab.ended(0)), (0, 1));
    assert_eq!(lab.attempts(0).len(), attempts);
}

#[test]
fn a_link_that_fell_silent_comes_back_with_its_path_while_the_registry_is_away() {
    let mut lab = Lab::linked();
    lab.lose_registry();
    let links = lab.cut();
    lab.send(0, "b", Class::Control, 10);
    lab.pass(10 * SECOND);
    assert_eq!(lab.ended(0), 1);
    assert_eq!(lab.peer(0).status().path, None);
    assert_eq!(lab.arrived(1), 0);
    lab.mend(links);
    lab.pass(3 * SECOND);
    assert_eq!(lab.arrived(1), 1);
    let back = |e: &Event| matches!(e, Event::PeerConnected { .. });
    assert_eq!(lab.told(0, back), 1);
    assert_eq!(lab.peer(0).status().state, PeerState::Linked);
}

#[test]
fn a_link_that_fell_silent_is_closed_when_a_new_one_is_up() {
    let mut lab = Lab::linked();
    lab.lose_registry();
    lab.cut();
    lab.send(0, "b", Class::Control, 10);
    lab.pass(5 * SECOND);
    assert!(lab.peer(0).dormant.is_some());
    let now = lab.now;
    for host in &mut lab.hosts {
        host.mesh.handle_registry(now, RegistryEvent::Connected);
    }
    lab.run();
    lab.pass(SECOND);
    assert_eq!(lab.arrived(1), 1);
    assert!(lab.peer(0).dormant.is_none());
    assert_eq!(lab.hosts[0].mesh.by_link.len(), 1);
}

#[test]
fn a_sleep_proves_nothing_about_links_that_could_not_be_heard() {
    let mut lab = Lab::linked();
    let old = lab.links_in_use(0);
    lab.is_slow = true;
    lab.now += 300 * SECOND;
    let now = lab.now;
    for host in &mut lab.hosts {
        host.mesh.handle_timeout(now);
    }
    lab.run();
    lab.pass(3 * SECOND);
    assert_eq!(lab.links_in_use(0), old);
    assert_eq!((lab.ended(0), lab.ended(1)), (0, 0));
}

#[test]
fn a_link_that_is_gone_after_a_sleep_is_given_up_within_a_second() {
    let mut lab = Lab::linked();
    lab.links_work = false;
    lab.cut();
    lab.now += 600 * SECOND;
    let now = lab.now;
    lab.hosts[0].mesh.handle_timeout(now);
    lab.run();
    lab.pass(SECOND + SECOND / 10);
    assert_eq!(lab.ended(0), 1);
}

#[test]
fn a_first_letter_goes_before_the_offer_of_a_link() {
    let mut lab = Lab::new(&["a", "b"]);
    let id = lab.id();
    let command = Command::Send {
        id,
        to: "b".parse().expect("a name"),
        class: Class::Control,
        priority: Priority::Normal,
        ttl: 60 * SECOND,
        storing: Storing::WithoutLink,
        payload: Payload::json("1"),
    };
    let now = lab.now;
    let mesh = &mut lab.hosts[0].mesh;
    mesh.handle_command(now, CLIENT, command);
    let record = lab.hosts[1].record.clone();
    let mesh = &mut lab.hosts[0].mesh;
    mesh.handle_registry(now, told(record));
    let post = |command: RegistryCommand| matches!(command, RegistryCommand::Post(_));
    assert!(std::iter::from_fn(|| mesh.poll_registry_command()).any(post));
    assert_eq!(mesh.poll_link_command(), None);
    mesh.handle_timeout(now + links::LETTER_FIRST);
    let offer = mesh.poll_link_command();
    assert!(matches!(offer, Some(LinkCommand::Offer { .. })));
}

#[test]
fn a_ping_takes_the_path_that_it_names() {
    let mut lab = Lab::linked();
    lab.mailbox.works = true;
    for (via, path) in [
        (Via::InUse, Path::Direct),
        (Via::Link, Path::Direct),
        (Via::Mailbox, Path::Mailbox),
    ] {
        let id = lab.ping(0, via);
        assert_eq!(lab.pong(0, id), Some(Ok(path)), "{via:?}");
    }
    lab.lose_registry();
    let id = lab.ping(0, Via::Mailbox);
    assert_eq!(lab.pong(0, id), Some(Err(Code::PathUnavailable)));
    lab.hosts[0].mesh.config.topology = Topology::MailboxOnly;
    let id = lab.ping(0, Via::Link);
    assert_eq!(lab.pong(0, id), Some(Err(Code::PathUnavailable)));
}

#[test]
fn probes_by_mailbox_are_answered_at_a_limited_rate() {
    let mut lab = Lab::linked();
    lab.mailbox.works = true;
    let pings: Vec<_> = (0..=ECHOES_MAX)
        .map(|_| lab.ping(0, Via::Mailbox))
        .collect();
    let answered = pings.iter().filter(|id| lab.pong(0, **id).is_some());
    assert_eq!(answered.count(), ECHOES_MAX as usize);
    assert_eq!(lab.hosts[1].mesh.counters().mail_probes_dropped, 1);
    lab.pass(6 * SECOND);
    assert_eq!(
        lab.pong(0, pings[ECHOES_MAX as usize]),
        Some(Err(Code::Timeout))
    );
    let id = lab.ping(0, Via::Mailbox);
    assert_eq!(lab.pong(0, id), Some(Ok(Path::Mailbox)));
}
