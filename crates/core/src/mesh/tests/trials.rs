//! Who decides about a new link beside the one in use, and how the other side learns of it.

use waymesh_proto::api::AttemptOutcome;
use waymesh_proto::frame::{FrameReader, FrameWriter, Header, Section};
use waymesh_proto::link::DownReason;

use super::*;
use crate::link::{Dormant, Link, TRIAL_OFFERED};

impl Lab {
    /// A relayed link comes up beside a direct one that the first host doubts
    /// since its network changed, and on which nothing passes now. It has not
    /// been asked yet.
    fn doubted() -> Self {
        let mut lab = Self::linked();
        lab.cut();
        lab.kind = CandidateKind::Relay;
        lab.is_slow = true;
        lab.change_network(0);
        lab.is_slow = false;
        lab.rise();
        assert_eq!(lab.trials(), [true, true]);
        lab
    }

    /// The same, with a working direct link: the relayed one is not needed.
    fn spare() -> Self {
        let mut lab = Self::doubted();
        let old = lab.used(0);
        lab.hear(0, old, &[Section::Echo(0)]);
        lab.run();
        assert_eq!((lab.moved(0), lab.moved(1)), (0, 0));
        lab
    }

    fn used(&self, at: usize) -> LinkId {
        self.links_in_use(at)[0].0
    }

    fn tried_beside(&self, at: usize) -> LinkId {
        let trial = self.peer(at).trial.as_ref();
        trial.expect("a trial").link.id
    }

    /// A frame of the peer arrives.
    fn hear(&mut self, at: usize, link: LinkId, sections: &[Section<'_>]) {
        let mut writer = FrameWriter::default();
        for section in sections {
            writer.put(section);
        }
        let event = LinkEvent::Frame {
            link,
            class: Class::Tasks,
            bytes: writer.into_bytes(),
        };
        self.hosts[at].mesh.handle_link(self.now, event);
    }

    /// Both hosts use the two ends of one link.
    fn agree(&self) -> bool {
        let far = self.hosts[0].links.get(&self.used(0));
        far == Some(&(1, self.used(1)))
    }
}

#[test]
fn a_direct_link_that_recovers_while_its_relayed_trial_is_answered_stays() {
    let mut lab = Lab::doubted();
    let old = (lab.used(0), lab.used(1));
    // The probe is on its way; the answer to it meets the link that works again.
    lab.step(0);
    assert_eq!(lab.used(1), old.1, "a probe alone moves nobody");
    lab.hear(0, old.0, &[Section::Echo(0)]);
    lab.run();
    assert_eq!((lab.used(0), lab.used(1)), old);
    lab.pass(TRIAL_OFFERED);
    assert_eq!((lab.used(0), lab.used(1)), old);
    assert_eq!((lab.moved(0), lab.moved(1)), (0, 0));
    let attempt = &lab.attempts(0)[0];
    assert_eq!(attempt.outcome, AttemptOutcome::Unneeded);
    assert!(attempt.reason.contains("goes on working"), "{attempt:?}");
    let (now, link) = (lab.now, lab.tried_beside(1));
    let reason = DownReason::ClosedByPeer;
    let event = LinkEvent::Down { link, reason };
    lab.hosts[1].mesh.handle_link(now, event);
    let attempt = &lab.attempts(1)[0];
    assert_eq!(attempt.outcome, AttemptOutcome::Unneeded);
    assert!(
        attempt.reason.contains("peer goes on with the link in use"),
        "{attempt:?}"
    );
}

#[test]
fn the_first_frame_after_the_answer_brings_the_word_and_what_waits() {
    let mut lab = Lab::doubted();
    let command = Command::Send {
        id: lab.id(),
        to: "b".parse().expect("a name"),
        class: Class::Control,
        priority: Priority::Normal,
        ttl: 60 * SECOND,
        storing: Storing::WithoutLink,
        payload: Payload::json("1"),
    };
    let now = lab.now;
    lab.hosts[0].mesh.handle_command(now, CLIENT, command);
    lab.step(0);
    lab.step(1);
    assert_eq!((lab.moved(0), lab.moved(1)), (0, 0));
    assert_eq!(lab.arrived(1), 0);
    lab.step(0);
    assert!(lab.agree());
    lab.run();
    assert_eq!((lab.moved(0), lab.moved(1)), (1, 1));
    assert_eq!(lab.arrived(1), 1);
    let attempt = &lab.attempts(1)[0];
    assert_eq!(attempt.outcome, AttemptOutcome::Linked);
    assert!(attempt.reason.contains("the peer went over"), "{attempt:?}");
}

#[test]
fn the_side_that_answered_follows_a_word_or_a_message_and_no_question() {
    let header = Header {
        stream: Stream::Control,
        redelivered: false,
        seq: 2,
        previous: 1,
        lowest: 2,
        life_ms: 60_000,
        wait_ms: 0,
    };
    let id = MessageId::new(99, [0; 10]);
    let envelope = Envelope::new(Kind::Message, id, Payload::json("1")).encode();
    let hello = Section::Hello(Incarnation::new(1));
    for (said, follows) in [
        (Section::Probe(7), false),
        (Section::Echo(7), false),
        (Section::Adopted, true),
        (Section::Message(header, &envelope), true),
    ] {
        let mut lab = Lab::spare();
        let (old, trial) = (lab.used(1), lab.tried_beside(1));
        lab.hear(1, trial, &[hello.clone(), said.clone()]);
        let used = if follows { trial } else { old };
        assert_eq!(lab.used(1), used, "{said:?}");
    }
}

#[test]
fn a_word_in_the_name_of_another_life_ends_the_trial_only() {
    let mut lab = Lab::spare();
    let (old, trial) = (lab.used(1), lab.tried_beside(1));
    let hello = Section::Hello(Incarnation::new(2));
    lab.hear(1, trial, &[hello, Section::Adopted]);
    assert_eq!(lab.used(1), old);
    assert_eq!(lab.trials(), [true, false]);
    assert_eq!(lab.attempts(1)[0].outcome, AttemptOutcome::Failed);
    assert_eq!(lab.hosts[1].mesh.counters().bad_frames, 1);
}

#[test]
fn a_second_doubt_is_asked_about_on_the_same_trial() {
    let mut lab = Lab::spare();
    lab.pass(SECOND);
    lab.change_network(0);
    assert!(lab.agree());
    assert_eq!((lab.moved(0), lab.moved(1)), (1, 1));
}

#[test]
fn only_a_probe_or_the_answer_to_the_present_question_moves_the_side_that_offered() {
    let hello = Section::Hello(Incarnation::new(1));
    // The first doubt was asked about with token 1, the second one with token 2.
    for (said, moves) in [
        (vec![], false),
        (vec![Section::Echo(1)], false),
        (vec![Section::Echo(3)], false),
        (vec![Section::Echo(2)], true),
        (vec![Section::Probe(7)], true),
    ] {
        let mut lab = Lab::doubted();
        let (old, trial) = (lab.used(0), lab.tried_beside(0));
        // The link in use works again before the first answer comes.
        lab.hear(0, old, &[Section::Echo(0)]);
        let now = lab.now;
        lab.hosts[0].mesh.handle_network_change(now);
        assert_eq!(lab.used(0), old);
        let sections: Vec<_> = std::iter::once(hello.clone()).chain(said).collect();
        lab.hear(0, trial, &sections);
        let used = if moves { trial } else { old };
        assert_eq!(lab.used(0), used, "{sections:?}");
    }
}

#[test]
fn a_doubt_of_the_side_that_answered_makes_the_other_look_at_its_own_link() {
    let mut lab = Lab::spare();
    let old = (lab.used(0), lab.used(1));
    lab.change_network(1);
    assert_eq!((lab.used(0), lab.used(1)), old);
    // Before the patience of the side that answered is over.
    lab.pass(SECOND * 6 / 10);
    assert_eq!((lab.moved(0), lab.moved(1)), (1, 1));
    assert!(lab.agree());
}

#[test]
fn where_both_doubt_the_question_of_one_is_enough_for_the_other() {
    let mut lab = Lab::doubted();
    let now = lab.now;
    lab.hosts[1].mesh.handle_network_change(now);
    lab.step(1);
    assert_eq!(lab.trials(), [false, true]);
    lab.run();
    assert!(lab.agree());
    assert_eq!((lab.moved(0), lab.moved(1)), (1, 1));
}

#[test]
fn the_side_that_answered_takes_the_trial_when_its_own_link_is_dead_and_the_other_follows() {
    let mut lab = Lab::spare();
    let (old, other) = (lab.used(1), lab.used(0));
    lab.change_network(1);
    // The side that offered goes on hearing on its link: it sees no reason to move.
    for _ in 0..11 {
        lab.hear(0, other, &[Section::Echo(0)]);
        lab.pass(SECOND / 10);
    }
    assert_ne!(lab.used(1), old);
    assert!(lab.agree());
    assert_eq!((lab.ended(0), lab.ended(1)), (0, 0));
}

#[test]
fn a_first_link_replaces_the_one_that_the_peer_still_believes_in() {
    let mut lab = Lab::linked();
    lab.cut();
    let (now, link) = (lab.now, lab.used(0));
    let reason = DownReason::IceFailed;
    let event = LinkEvent::Down { link, reason };
    lab.hosts[0].mesh.handle_link(now, event);
    lab.ping(0, waymesh_proto::api::Via::InUse);
    assert!(lab.agree());
    assert_eq!((lab.moved(1), lab.ended(1)), (1, 0));
}

#[test]
fn a_word_brings_a_link_back_that_had_fallen_silent() {
    let mut lab = Lab::linked();
    lab.lose_registry();
    lab.cut();
    lab.send(0, "b", Class::Control, 10);
    lab.pass(5 * SECOND);
    let dormant = lab.peer(0).dormant.as_ref().expect("a dormant link");
    let id = dormant.link.id;
    lab.hear(0, id, &[Section::Adopted]);
    assert_eq!(lab.used(0), id);
}

#[test]
fn a_link_that_fell_silent_before_its_word_went_out_is_not_said_to_be_in_use() {
    let now = Instant::now();
    let mut link = Link::new(
        now,
        LinkId::new(9),
        pair(CandidateKind::Host),
        Incarnation::new(1),
        Duration::ZERO,
    );
    link.owes_word = true;
    let mut dormant = Dormant::new(now, link);
    let mut writer = FrameWriter::default();
    dormant.link.put_head(Incarnation::new(1), &mut writer);
    let bytes = writer.into_bytes();
    let said: Vec<_> = FrameReader::new(&bytes).expect("a frame").collect();
    assert_eq!(said, [Ok(Section::Hello(Incarnation::new(1)))]);
}
