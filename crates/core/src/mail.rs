//! What a node knows of the mailbox path to one peer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use waymesh_proto::class::Stream;
use waymesh_proto::ids::{Incarnation, ItemId};

use crate::backoff::Backoff;

/// Longest pause after the registry would not take an item. Chosen: a mailbox
/// that is emptied is filled again soon after.
const MAIL_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Probes of one peer that are answered by mailbox in [`ECHO_WINDOW`]; more are
/// dropped and counted. Chosen: a person measures, a program does not flood.
pub(crate) const ECHOES_MAX: u32 = 16;
/// See [`ECHOES_MAX`].
pub(crate) const ECHO_WINDOW: Duration = Duration::from_secs(2);

/// The mailbox path to one peer.
#[derive(Debug)]
pub(crate) struct Mail {
    /// The program has a key to seal messages to the peer with.
    pub(crate) can_seal: bool,
    /// Traffic takes this path: something went or came since the last link.
    pub(crate) in_use: bool,
    /// The peer wrote first and is making the link, so this node does not until then.
    pub(crate) yields_until: Option<Instant>,
    /// The first letter since the last link goes before the offer of a new one,
    /// whose computing would hold it up.
    pub(crate) first_until: Option<Instant>,
    /// Acknowledgements went this way while a link was up that might be dead: if
    /// it is not, they go over it too, whatever became of them here.
    pub(crate) has_told_acks: bool,
    /// Answers to probes in the present window, and when that began.
    echoes: Option<(Instant, u32)>,
    /// Items that wait for the application, by what is in them.
    held: BTreeMap<(Incarnation, Stream, u64), ItemId>,
    backoff: Backoff,
    /// After items that the peer could not open: that the registry takes others
    /// says nothing of it.
    reseal: Backoff,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            can_seal: false,
            in_use: false,
            yields_until: None,
            first_until: None,
            has_told_acks: false,
            echoes: None,
            held: BTreeMap::new(),
            backoff: Backoff::new(MAIL_PAUSE_MAX),
            reseal: Backoff::new(MAIL_PAUSE_MAX),
        }
    }
}

impl Mail {
    /// Whether an item may be posted.
    pub(crate) fn may_post(&self, now: Instant) -> bool {
        self.can_seal && self.poll_timeout().is_none_or(|at| at <= now)
    }

    /// When items may be posted again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.backoff.not_before().max(self.reseal.not_before())
    }

    /// Whether one more probe of the peer may be answered now.
    pub(crate) fn may_echo(&mut self, now: Instant) -> bool {
        let (since, count) = self
            .echoes
            .filter(|(since, _)| *since + ECHO_WINDOW > now)
            .unwrap_or((now, 0));
        self.echoes = Some((since, count + 1));
        count < ECHOES_MAX
    }

    /// The registry would not take an item.
    pub(crate) fn handle_failure(&mut self, now: Instant, rng: &mut impl Rng) {
        self.backoff.handle_failure(now, rng);
    }

    /// The peer could not open an item: maybe it has another key by now.
    pub(crate) fn handle_unreadable(&mut self, now: Instant, rng: &mut impl Rng) {
        self.can_seal = false;
        self.reseal.handle_failure(now, rng);
    }

    /// The registry took an item, or things have changed since it did not.
    pub(crate) fn forgive(&mut self) {
        self.backoff.reset();
    }

    /// An item's message waits for the application. Gives another item that it came in before.
    pub(crate) fn hold(
        &mut self,
        life: Incarnation,
        stream: Stream,
        seq: u64,
        item: ItemId,
    ) -> Option<ItemId> {
        let old = self.held.insert((life, stream, seq), item);
        old.filter(|old| *old != item)
    }

    /// Whether a message came in an item that is still held.
    pub(crate) fn has(&self, life: Incarnation, stream: Stream, seq: u64) -> bool {
        self.held.contains_key(&(life, stream, seq))
    }

    /// The application has a message, or will not get it. Gives the item that it came in.
    pub(crate) fn release(
        &mut self,
        life: Incarnation,
        stream: Stream,
        seq: u64,
    ) -> Option<ItemId> {
        self.held.remove(&(life, stream, seq))
    }
}
