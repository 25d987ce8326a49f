//! What `spec/link.md` promises, as a suite that any implementation of links can run.
//!
//! An implementation shows two nodes and the network between them as [`Links`];
//! [`conformance_suite!`](crate::conformance_suite) then makes one test of each
//! promise. The suite knows nothing of sockets or time: it commands, sends, and
//! steps until what must happen has happened.

pub mod delivery;
pub mod ending;
pub mod pressure;
pub mod set_up;

use std::time::Instant;

use waymesh_net::webrtc::SendError;
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

/// Two nodes, 0 and 1, and the network between them.
pub trait Links {
    /// The time, as the implementation counts it.
    fn now(&self) -> Instant;

    /// Does what a node's core wants.
    fn command(&mut self, node: usize, command: LinkCommand);

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the frame was not sent.
    fn send(
        &mut self,
        node: usize,
        link: LinkId,
        class: Class,
        frame: &[u8],
    ) -> Result<(), SendError>;

    /// Bytes that a node may send on a link now.
    fn room(&self, node: usize, link: LinkId) -> usize;

    /// Takes what happened at a node.
    fn poll_event(&mut self, node: usize) -> Option<LinkEvent>;

    /// Lets a little happen: time passes, packets arrive.
    fn step(&mut self);

    /// Lets nothing through between the nodes from now on.
    fn cut(&mut self);

    /// Undoes [`Links::cut`].
    fn heal(&mut self);

    /// Whether the implementation has given up waiting: a deadline of its own, virtual or real.
    fn is_out_of_patience(&self, since: Instant) -> bool;
}

/// The link that most of the suite talks about.
pub const LINK: LinkId = LinkId::new(1);

/// A second one.
pub const OTHER: LinkId = LinkId::new(2);

/// A run of the suite: the links under test, and what their nodes have told so far.
#[derive(Debug)]
pub struct Trial<L> {
    /// The links under test.
    pub links: L,
    told: [Vec<LinkEvent>; 2],
}

impl<L: Links> Trial<L> {
    /// A trial of links that have not been used.
    pub fn new(links: L) -> Self {
        Self {
            links,
            told: [Vec::new(), Vec::new()],
        }
    }

    /// A trial with [`LINK`] up between node 0, which offered, and node 1.
    pub fn linked(links: L) -> Self {
        let mut trial = Self::new(links);
        trial.connect(0, 1, LINK);
        trial
    }

    /// Steps until `done` finds what it looks for among the things told, oldest first.
    ///
    /// # Panics
    ///
    /// When that takes longer than the implementation has patience for.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut L, &mut [Vec<LinkEvent>; 2]) -> Option<T>,
    ) -> T {
        let since = self.links.now();
        loop {
            for (node, told) in self.told.iter_mut().enumerate() {
                while let Some(event) = self.links.poll_event(node) {
                    told.push(event);
                }
            }
            if let Some(found) = done(&mut self.links, &mut self.told) {
                return found;
            }
            assert!(
                !self.links.is_out_of_patience(since),
                "waited too long for {what}; told: {:?}",
                brief(&self.told)
            );
            self.links.step();
        }
    }

    /// Steps until a node tells something that `pick` takes, and removes it.
    pub fn event<T>(
        &mut self,
        node: usize,
        what: &str,
        pick: impl Fn(&LinkEvent) -> Option<T>,
    ) -> T {
        self.until(what, |_, told| {
            let at = told[node].iter().position(|event| pick(event).is_some())?;
            pick(&told[node].remove(at))
        })
    }

    /// Takes everything that a node has told and nobody has picked.
    pub fn rest(&mut self, node: usize) -> Vec<LinkEvent> {
        while let Some(event) = self.links.poll_event(node) {
            self.told[node].push(event);
        }
        std::mem::take(&mut self.told[node])
    }

    /// Makes an offer at a node and returns it.
    pub fn offer(&mut self, node: usize, link: LinkId) -> String {
        self.links.command(node, LinkCommand::Offer { link });
        self.event(node, "the offer", |event| match event {
            LinkEvent::Offered { link: told, sdp } if *told == link => Some(sdp.clone()),
            _ => None,
        })
    }

    /// Answers an offer at a node and returns the answer.
    pub fn accept(&mut self, node: usize, link: LinkId, sdp: String) -> String {
        self.links.command(node, LinkCommand::Accept { link, sdp });
        self.event(node, "the answer", |event| match event {
            LinkEvent::Answered { link: told, sdp } if *told == link => Some(sdp.clone()),
            _ => None,
        })
    }

    /// Exchanges descriptions, without waiting for the link to come up.
    pub fn describe(&mut self, offerer: usize, answerer: usize, link: LinkId) {
        let offer = self.offer(offerer, link);
        let sdp = self.accept(answerer, link, offer);
        self.links
            .command(offerer, LinkCommand::Answer { link, sdp });
    }

    /// Makes a link and waits until both nodes say that it is up.
    pub fn connect(&mut self, offerer: usize, answerer: usize, link: LinkId) {
        self.describe(offerer, answerer, link);
        for node in [0, 1] {
            self.event(node, "up", |event| {
                matches!(event, LinkEvent::Up { link: told, .. } if *told == link).then_some(())
            });
        }
    }

    /// Sends a frame, waiting for room as a sender must.
    pub fn send(&mut self, node: usize, link: LinkId, class: Class, frame: &[u8]) {
        self.until("room for a frame", |links, _| {
            match links.send(node, link, class, frame) {
                Ok(()) => Some(()),
                Err(SendError::WouldBlock) => None,
                Err(error) => panic!("a frame was refused: {error}"),
            }
        });
    }

    /// Steps until a node has a frame, and returns it.
    pub fn frame(&mut self, node: usize, link: LinkId, class: Class) -> Vec<u8> {
        self.event(node, "a frame", |event| match event {
            LinkEvent::Frame {
                link: told,
                class: on,
                bytes,
            } if *told == link && *on == class => Some(bytes.clone()),
            _ => None,
        })
    }
}

/// What was told, without the bytes.
fn brief(told: &[Vec<LinkEvent>; 2]) -> Vec<String> {
    let short = |event: &LinkEvent| match event {
        LinkEvent::Frame { link, class, bytes } => {
            format!("Frame({link}, {class:?}, {} B)", bytes.len())
        }
        LinkEvent::Offered { link, .. } => format!("Offered({link})"),
        LinkEvent::Answered { link, .. } => format!("Answered({link})"),
        other => format!("{other:?}"),
    };
    let latest = told
        .iter()
        .map(|events| events.iter().rev().take(8).map(short).collect::<Vec<_>>());
    latest.map(|events| events.join(" < ")).collect()
}

/// Makes a test of every promise, for links that `$make` makes anew for each.
#[macro_export]
macro_rules! conformance_suite {
    ($make:expr) => {
        $crate::conformance_suite!(@tests $make;
            set_up::a_link_comes_up_once_on_both_sides_and_has_room_only_then,
            set_up::a_garbage_offer_is_refused_and_other_links_live_on,
            set_up::a_garbage_answer_is_refused_and_other_links_live_on,
            set_up::a_garbage_candidate_ends_a_link_that_is_being_made,
            set_up::a_garbage_candidate_does_not_end_a_link_that_is_up,
            set_up::a_second_answer_is_ignored,
            set_up::two_links_between_the_same_nodes_are_separate,
            delivery::every_class_carries_frames_both_ways_unchanged,
            delivery::reliable_classes_deliver_everything_once,
            delivery::ordered_classes_keep_their_order,
            delivery::lossy_classes_deliver_at_most_once_and_unchanged,
            delivery::the_largest_frame_passes_and_one_byte_more_is_refused,
            pressure::a_link_whose_peer_is_silent_takes_a_bounded_amount_and_then_would_block,
            pressure::a_sender_that_was_refused_hears_when_there_is_room_and_nothing_taken_is_lost,
            pressure::room_shrinks_by_what_is_sent,
            ending::closing_tells_the_peer_and_nothing_to_the_closer,
            ending::a_closed_link_takes_nothing,
            ending::commands_for_a_link_that_ended_are_ignored,
            ending::closing_one_link_leaves_the_other_alone,
        );
    };
    (@tests $make:expr; $($module:ident :: $promise:ident),* $(,)?) => {
        $(
            #[test]
            fn $promise() {
                $crate::conformance::$module::$promise($make);
            }
        )*
    };
}
