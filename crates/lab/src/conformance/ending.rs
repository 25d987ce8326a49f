//! Promises about how a link ends.

use waymesh_net::webrtc::SendError;
use waymesh_proto::class::Class;
use waymesh_proto::link::{DownReason, LinkCommand, LinkEvent};

use super::{LINK, Links, OTHER, Trial};

fn down<L: Links>(trial: &mut Trial<L>, node: usize) -> DownReason {
    trial.event(node, "down", |event| match event {
        LinkEvent::Down { link: LINK, reason } => Some(reason.clone()),
        _ => None,
    })
}

/// The peer hears `Down`; the closer hears nothing of the link ever again.
pub fn closing_tells_the_peer_and_nothing_to_the_closer<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    trial.send(1, LINK, Class::Control, b"on its way");
    trial.rest(0);
    trial.links.command(0, LinkCommand::Close { link: LINK });
    let reason = down(&mut trial, 1);
    assert!(
        matches!(reason, DownReason::ClosedByPeer | DownReason::IceFailed),
        "{reason:?}"
    );
    for _ in 0..20 {
        trial.links.step();
    }
    let rest = trial.rest(0);
    assert!(rest.is_empty(), "{rest:?}");
}

/// On both sides.
pub fn a_closed_link_takes_nothing<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    trial.links.command(0, LinkCommand::Close { link: LINK });
    down(&mut trial, 1);
    for node in [0, 1] {
        assert_eq!(trial.links.room(node, LINK), 0);
        assert_eq!(
            trial.links.send(node, LINK, Class::Control, b"late"),
            Err(SendError::Closed)
        );
    }
}

/// Neither an answer nor a candidate nor a second close brings anything back.
pub fn commands_for_a_link_that_ended_are_ignored<L: Links>(links: L) {
    let mut trial = Trial::new(links);
    let offer = trial.offer(0, LINK);
    let sdp = trial.accept(1, LINK, offer);
    trial.links.command(0, LinkCommand::Close { link: LINK });
    trial
        .links
        .command(0, LinkCommand::Answer { link: LINK, sdp });
    trial.links.command(
        0,
        LinkCommand::Candidate {
            link: LINK,
            candidate: "candidate:x".into(),
        },
    );
    trial.links.command(0, LinkCommand::Close { link: LINK });
    for _ in 0..20 {
        trial.links.step();
    }
    assert!(trial.rest(0).is_empty());
}

/// Also while the other one is between the same nodes.
pub fn closing_one_link_leaves_the_other_alone<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    trial.connect(1, 0, OTHER);
    trial.links.command(1, LinkCommand::Close { link: LINK });
    down(&mut trial, 0);
    for (from, to) in [(0, 1), (1, 0)] {
        trial.send(from, OTHER, Class::Control, b"alive");
        assert_eq!(trial.frame(to, OTHER, Class::Control), b"alive");
    }
}
