//! Promises about how a link comes up, and about descriptions that are none.

use waymesh_net::webrtc::SendError;
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{DownReason, LinkCommand, LinkEvent};

use super::{LINK, Links, OTHER, Trial};

/// One `Up` a side; before it no room, and a frame would block.
pub fn a_link_comes_up_once_on_both_sides_and_has_room_only_then<L: Links>(links: L) {
    let mut trial = Trial::new(links);
    assert_eq!(trial.links.room(0, LINK), 0);
    let offer = trial.offer(0, LINK);
    assert_eq!(trial.links.room(0, LINK), 0);
    assert_eq!(
        trial.links.send(0, LINK, Class::Control, b"early"),
        Err(SendError::WouldBlock)
    );
    let sdp = trial.accept(1, LINK, offer);
    trial
        .links
        .command(0, LinkCommand::Answer { link: LINK, sdp });
    for node in [0, 1] {
        trial.event(node, "up", |event| {
            matches!(event, LinkEvent::Up { .. }).then_some(())
        });
        assert!(trial.links.room(node, LINK) > 0);
    }
    for (from, to) in [(0, 1), (1, 0)] {
        trial.send(from, LINK, Class::Control, b"hello");
        assert_eq!(trial.frame(to, LINK, Class::Control), b"hello");
    }
    for node in [0, 1] {
        let rest = trial.rest(node);
        assert!(
            !rest
                .iter()
                .any(|event| matches!(event, LinkEvent::Up { .. })),
            "{rest:?}"
        );
    }
}

fn refused(event: &LinkEvent, wanted: LinkId) -> Option<()> {
    matches!(
        event,
        LinkEvent::Down { link, reason: DownReason::BadDescription(_) } if *link == wanted
    )
    .then_some(())
}

fn still_carries<L: Links>(trial: &mut Trial<L>, link: LinkId) {
    trial.send(0, link, Class::Tasks, b"alive");
    assert_eq!(trial.frame(1, link, Class::Tasks), b"alive");
}

/// Descriptions that no implementation may take.
const GARBAGE: [&str; 4] = [
    "",
    "garbage",
    "v=0\r\n",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
];

/// A link that is asked to accept nonsense ends; the one beside it does not.
pub fn a_garbage_offer_is_refused_and_other_links_live_on<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    let oversized = "x".repeat(100_000);
    for (number, sdp) in GARBAGE.into_iter().chain([oversized.as_str()]).enumerate() {
        let link = LinkId::new(100 + number as u64);
        trial.links.command(
            1,
            LinkCommand::Accept {
                link,
                sdp: sdp.into(),
            },
        );
        trial.event(1, "the refusal", |event| refused(event, link));
    }
    still_carries(&mut trial, LINK);
}

/// The same for an answer.
pub fn a_garbage_answer_is_refused_and_other_links_live_on<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    for (number, sdp) in GARBAGE.into_iter().enumerate() {
        let link = LinkId::new(100 + number as u64);
        trial.offer(0, link);
        trial.links.command(
            0,
            LinkCommand::Answer {
                link,
                sdp: sdp.into(),
            },
        );
        trial.event(0, "the refusal", |event| refused(event, link));
        assert_eq!(
            trial.links.send(0, link, Class::Control, b"x"),
            Err(SendError::Closed)
        );
    }
    still_carries(&mut trial, LINK);
}

/// Before a link is up, an unreadable candidate ends it.
pub fn a_garbage_candidate_ends_a_link_that_is_being_made<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    trial.offer(0, OTHER);
    let candidate = "candidate:what 1 is this".to_owned();
    trial.links.command(
        0,
        LinkCommand::Candidate {
            link: OTHER,
            candidate,
        },
    );
    trial.event(0, "the refusal", |event| refused(event, OTHER));
    still_carries(&mut trial, LINK);
}

/// Once it is up, no candidate can harm it.
pub fn a_garbage_candidate_does_not_end_a_link_that_is_up<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    for node in [0, 1] {
        let candidate = "candidate:what 1 is this".to_owned();
        trial.links.command(
            node,
            LinkCommand::Candidate {
                link: LINK,
                candidate,
            },
        );
    }
    still_carries(&mut trial, LINK);
}

/// An answer that comes again, or too late, changes nothing.
pub fn a_second_answer_is_ignored<L: Links>(links: L) {
    let mut trial = Trial::new(links);
    let offer = trial.offer(0, LINK);
    let sdp = trial.accept(1, LINK, offer);
    for _ in 0..2 {
        trial.links.command(
            0,
            LinkCommand::Answer {
                link: LINK,
                sdp: sdp.clone(),
            },
        );
    }
    trial.event(0, "up", |event| {
        matches!(event, LinkEvent::Up { .. }).then_some(())
    });
    trial
        .links
        .command(0, LinkCommand::Answer { link: LINK, sdp });
    still_carries(&mut trial, LINK);
}

/// A new session beside a working one: each gets its own frames.
pub fn two_links_between_the_same_nodes_are_separate<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    trial.connect(1, 0, OTHER);
    for round in 0..20_u8 {
        for link in [LINK, OTHER] {
            let frame = [round, link.number() as u8];
            trial.send(0, link, Class::Control, &frame);
            trial.send(1, link, Class::Tasks, &frame);
            assert_eq!(trial.frame(1, link, Class::Control), frame);
            assert_eq!(trial.frame(0, link, Class::Tasks), frame);
        }
    }
}
