//! What a doubt about one link leaves alone, and what a trial that ends leaves behind.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use waymesh_proto::api::{AttemptPurpose, Via};
use waymesh_proto::link::DownReason;

use super::*;
use crate::backoff::LINK_PAUSE_MAX;
use crate::link::{Signaling, TRIAL_OFFERED, UPGRADE_PAUSES};
use crate::peer::Presence;
use crate::session::ATTEMPT_TIMEOUT;

impl Lab {
    fn beside(&self, at: usize, name: &str) -> &Peer {
        let mesh = &self.hosts[at].mesh;
        let key = mesh.by_name.get(&name.parse::<Name>().expect("a name"));
        &mesh.peers[key.expect("a peer")]
    }

    /// The registry tells the first host of the second one.
    fn tell(&mut self, record: AgentRecord) {
        let now = self.now;
        self.hosts[0].mesh.handle_registry(now, told(record));
    }

    /// A link that is in doubt, and a trial beside it that this side offered.
    fn tried() -> (Self, LinkId) {
        let mut lab = Self::linked();
        lab.is_slow = true;
        lab.change_network(0);
        lab.pass(SECOND / 2);
        lab.come_up();
        let trial = lab.peer(0).trial.as_ref().map(|trial| trial.link.id);
        (lab, trial.expect("a trial"))
    }

    fn down(&mut self, at: usize, link: LinkId) {
        let (now, reason) = (self.now, DownReason::IceFailed);
        let event = LinkEvent::Down { link, reason };
        self.hosts[at].mesh.handle_link(now, event);
    }
}

#[test]
fn a_peer_that_goes_offline_is_no_reason_to_renew_the_links_to_others() {
    let mut lab = Lab::new(&["a", "b", "c"]);
    lab.send(0, "b", Class::Control, 10);
    lab.send(0, "c", Class::Control, 10);
    lab.pass(10 * SECOND);
    let other = lab.beside(0, "c").attempts.list(lab.now).len();
    let gone = AgentRecord {
        online: false,
        ..lab.hosts[1].record.clone()
    };
    lab.tell(gone);
    let due = lab.hosts[0].mesh.poll_timeout().map(|(at, _)| at);
    assert_eq!(due, Some(lab.now), "the doubt is asked about at once");
    lab.pass(SECOND / 10);
    assert!(lab.beside(0, "b").link.is_some(), "it has answered");
    assert_eq!(lab.beside(0, "c").attempts.list(lab.now).len(), other);
}

#[test]
fn an_attempt_that_was_allowed_long_ago_is_due_now() {
    let start = Instant::now();
    let mut peer = Peer::new("b".parse().expect("a name"));
    peer.id = Some(record("b", 1).agent_id);
    peer.presence = Presence::Online;
    let (session, link) = (SessionId::from_bytes([1; 16]), LinkId::new(1));
    peer.sessions.start(start, session, link);
    let failed_at = start + ATTEMPT_TIMEOUT;
    let mut rng = SmallRng::seed_from_u64(1);
    peer.sessions.handle_timeout(failed_at, &mut rng);
    assert!(peer.sessions.not_before().is_some());
    let later = failed_at + LINK_PAUSE_MAX;
    peer.eager_at = Some(later);
    assert_eq!(peer.poll_timeout(later, Signaling::Possible), Some(later));
}

#[test]
fn a_trial_that_ends_unused_puts_off_the_next_attempt_to_recover() {
    let (mut lab, trial) = Lab::tried();
    assert_eq!(lab.peer(0).recover.not_before(), None);
    lab.down(0, trial);
    assert!(lab.peer(0).recover.not_before() > Some(lab.now));

    let (mut lab, trial) = Lab::tried();
    let now = lab.now;
    lab.hosts[0].mesh.handle_unsent(now, trial);
    assert!(lab.peer(0).recover.not_before() > Some(now));
}

#[test]
fn the_side_that_answered_owes_no_pause_for_a_trial_that_ends() {
    let (mut lab, _) = Lab::tried();
    let trial = lab.peer(1).trial.as_ref().map(|trial| trial.link.id);
    lab.down(1, trial.expect("a trial"));
    assert_eq!(lab.peer(1).recover.not_before(), None);
}

#[test]
fn an_upgrade_that_comes_to_nothing_does_not_put_off_a_recovery() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.kind = CandidateKind::Relay;
    lab.send(0, "b", Class::Control, 10);
    lab.pass(SECOND + UPGRADE_PAUSES[0]);
    assert_eq!(lab.trials(), [true, true]);
    assert_eq!(lab.attempts(1)[0].purpose, AttemptPurpose::Upgrade);
    lab.pass(TRIAL_OFFERED);
    assert!(lab.peer(1).trial.is_none());
    assert_eq!(lab.peer(1).recover.not_before(), None);
}

#[test]
fn a_ping_by_link_makes_none_and_says_so_at_once() {
    let mut lab = Lab::new(&["a", "b"]);
    let id = lab.ping(0, Via::Link);
    assert_eq!(lab.pong(0, id), Some(Err(Code::PathUnavailable)));
    lab.pass(SECOND);
    assert!(lab.hosts[0].links.is_empty());
    let id = lab.ping(0, Via::InUse);
    assert!(matches!(lab.pong(0, id), Some(Ok(_))));
}

#[test]
fn a_newer_life_of_the_peer_ends_the_trial_with_the_earlier_one() {
    let (mut lab, trial) = Lab::tried();
    lab.tell(record("b", 2));
    assert!(lab.peer(0).trial.is_none());
    assert!(!lab.hosts[0].mesh.by_link.contains_key(&trial));
    assert!(lab.attempts(0)[0].reason.contains("restarted"));
}

#[test]
fn a_newer_life_of_the_peer_is_not_disproved_by_old_answers_on_a_dormant_link() {
    let mut lab = Lab::linked();
    lab.lose_registry();
    lab.cut();
    lab.send(0, "b", Class::Control, 10);
    lab.pass(5 * SECOND);
    let asked = {
        let (now, key) = (lab.now, *lab.hosts[0].mesh.peers.keys().next().expect("b"));
        let peer = lab.hosts[0].mesh.peers.get_mut(&key).expect("b");
        let dormant = peer.dormant.as_mut().expect("a dormant link");
        dormant.link.liveness.probe(now)
    };
    lab.tell(record("b", 2));
    let dormant = lab.peer(0).dormant.as_ref().expect("a dormant link");
    assert!(!dormant.link.liveness.is_proof(asked));
}
