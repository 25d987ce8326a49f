//! Promises about a link that cannot send as fast as it is asked to.

use waymesh_net::webrtc::SendError;
use waymesh_proto::class::Class;
use waymesh_proto::limits::FRAME_MAX_BYTES;
use waymesh_proto::link::LinkEvent;

use super::{LINK, Links, Trial};

/// More than any link may take without an acknowledgement.
const TOO_MUCH_BYTES: usize = 8 * 1024 * 1024;

/// Fills a link whose peer does not answer; returns how many frames it took.
fn fill<L: Links>(trial: &mut Trial<L>, frame: &[u8]) -> usize {
    let mut taken = 0;
    loop {
        match trial.links.send(0, LINK, Class::Control, frame) {
            Ok(()) => taken += 1,
            Err(SendError::WouldBlock) => return taken,
            Err(error) => panic!("{error}"),
        }
        assert!(
            taken * frame.len() < TOO_MUCH_BYTES,
            "a link without an answer takes everything"
        );
    }
}

/// Memory does not grow with a peer that does not read.
pub fn a_link_whose_peer_is_silent_takes_a_bounded_amount_and_then_would_block<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    trial.links.cut();
    let taken = fill(&mut trial, &[5; FRAME_MAX_BYTES]);
    assert!(taken > 0);
    for _ in 0..20 {
        trial.links.step();
        assert_eq!(
            fill(&mut trial, &[5; FRAME_MAX_BYTES]),
            0,
            "room came without an acknowledgement"
        );
    }
}

/// After would-block comes `Writable`, and everything that was taken arrives.
pub fn a_sender_that_was_refused_hears_when_there_is_room_and_nothing_taken_is_lost<L: Links>(
    links: L,
) {
    let mut trial = Trial::linked(links);
    trial.links.cut();
    let taken = fill(&mut trial, &[6; 3_000]);
    trial.links.step();
    trial.links.heal();
    trial.event(0, "room", |event| {
        matches!(event, LinkEvent::Writable { .. }).then_some(())
    });
    assert!(trial.links.room(0, LINK) >= 3_000);
    for _ in 0..taken {
        assert_eq!(trial.frame(1, LINK, Class::Control), [6; 3_000]);
    }
}

/// `room` is what may be sent, across all classes together.
pub fn room_shrinks_by_what_is_sent<L: Links>(links: L) {
    let mut trial = Trial::linked(links);
    trial.links.cut();
    let before = trial.links.room(0, LINK);
    for class in [Class::Control, Class::Tasks] {
        trial
            .links
            .send(0, LINK, class, &[1; 1_000])
            .expect("there is room for two");
    }
    assert!(trial.links.room(0, LINK) <= before - 2_000);
    let left = trial.links.room(0, LINK);
    if left < FRAME_MAX_BYTES {
        assert_eq!(
            trial.links.send(0, LINK, Class::Bulk, &vec![1; left + 1]),
            Err(SendError::WouldBlock)
        );
    }
}
