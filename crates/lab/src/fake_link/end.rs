//! One node's end of a fake link.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use waymesh_proto::class::Class;
use waymesh_proto::limits::FRAME_MAX_BYTES;
use waymesh_proto::link::CandidateKind;

use super::Place;

/// What an end has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The offer is out.
    Offered,
    /// Waits for the set-up to come through.
    Connecting,
    /// Carries frames.
    Up,
}

/// One node's end of a link.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stage: Stage,
    /// The number in this end's description.
    pub(super) token: u64,
    pub(super) other: Option<Place>,
    /// Bytes accepted and not yet acknowledged.
    pub(super) held: usize,
    pub(super) starved: bool,
    /// When the wire is free for the next message.
    pub(super) wire_free: Option<Instant>,
    /// For each class: how many frames were sent.
    pub(super) sent: [u64; Class::ALL.len()],
    /// For each class: what came before its turn.
    pub(super) turns: [Turns; Class::ALL.len()],
    /// Frames that came before this end was up.
    pub(super) early: VecDeque<(Class, Vec<u8>)>,
    /// Dead without anybody having been told.
    pub(super) vanished: bool,
    /// What its address is.
    pub(super) kind: CandidateKind,
}

impl End {
    pub(super) fn new(stage: Stage, token: u64) -> Self {
        Self {
            stage,
            token,
            other: None,
            held: 0,
            starved: false,
            wire_free: None,
            sent: [0; Class::ALL.len()],
            turns: Default::default(),
            early: VecDeque::new(),
            vanished: false,
            kind: CandidateKind::Host,
        }
    }

    pub(super) fn room(&self, window: usize) -> usize {
        match self.stage {
            Stage::Up => window.saturating_sub(self.held),
            Stage::Offered | Stage::Connecting => 0,
        }
    }

    /// Counts a message in; a sender that filled the window will hear when there is room.
    pub(super) fn hold(&mut self, bytes: usize, window: usize) {
        self.held += bytes;
        self.starved |= self.room(window) < FRAME_MAX_BYTES;
    }

    /// Counts a message out; true when a waiting sender should be told.
    pub(super) fn release(&mut self, bytes: usize, window: usize) -> bool {
        self.held = self.held.saturating_sub(bytes);
        let tell = self.starved && self.held <= window / 2;
        self.starved &= !tell;
        tell
    }
}

/// Puts the frames of an ordered class back into order.
#[derive(Debug, Default)]
pub(super) struct Turns {
    next: u64,
    /// Frames that came early; none where the sender gave one up.
    early: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Turns {
    /// Takes the frame of a turn, or that it will never come, and returns what may be delivered now.
    pub(super) fn take(&mut self, turn: u64, frame: Option<Vec<u8>>) -> Vec<Vec<u8>> {
        self.early.insert(turn, frame);
        let mut ready = Vec::new();
        while let Some(frame) = self.early.remove(&self.next) {
            self.next += 1;
            ready.extend(frame);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_wait_for_their_turn_and_skip_one_that_was_given_up() {
        let mut turns = Turns::default();
        assert!(turns.take(2, Some(vec![2])).is_empty());
        assert_eq!(turns.take(0, Some(vec![0])), [vec![0]]);
        assert_eq!(turns.take(1, None), [vec![2]]);
    }
}
