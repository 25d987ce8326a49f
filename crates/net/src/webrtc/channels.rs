//! The six data channels of a link, negotiated out of band with fixed ids
//! (RFC 8832 §3), and what waits in each.

use str0m::Rtc;
use str0m::channel::{ChannelConfig, ChannelId, Reliability as Mode};
use waymesh_proto::class::{Class, Reliability};

/// The `protocol` field of every channel: selects the codec, not an identity.
pub(super) const CHANNEL_PROTOCOL: &str = "waymesh/1";

/// The data channels of one link.
#[derive(Debug)]
pub(super) struct Channels {
    ids: [ChannelId; Class::ALL.len()],
    /// Bytes that SCTP holds for each class: not sent yet, or not acknowledged.
    held: [usize; Class::ALL.len()],
}

impl Channels {
    /// Takes the handles of the channels that `open` makes, one a class.
    pub(super) fn open(mut open: impl FnMut(ChannelConfig) -> ChannelId) -> Self {
        Self {
            ids: Class::ALL.map(|class| open(config(class))),
            held: [0; Class::ALL.len()],
        }
    }

    /// The handle of a class's channel.
    pub(super) fn id(&self, class: Class) -> ChannelId {
        self.ids[usize::from(class.channel_id())]
    }

    /// The class of a channel.
    pub(super) fn class(&self, id: ChannelId) -> Option<Class> {
        let at = self.ids.iter().position(|known| *known == id)?;
        Class::ALL.get(at).copied()
    }

    /// Whether every channel takes writes. The stack's own event is not enough:
    /// a channel that the peer used first opens without one.
    pub(super) fn are_open(&self, rtc: &mut Rtc) -> bool {
        self.ids.iter().all(|id| rtc.channel(*id).is_some())
    }

    /// Counts bytes written to a class.
    pub(super) fn note_written(&mut self, class: Class, bytes: usize) {
        self.held[usize::from(class.channel_id())] += bytes;
    }

    /// Bytes that SCTP holds for all classes.
    pub(super) fn held(&self) -> usize {
        self.held.iter().sum()
    }

    /// Asks SCTP what it still holds, for the classes that held something.
    pub(super) fn refresh(&mut self, rtc: &mut Rtc) {
        for (id, held) in self
            .ids
            .iter()
            .zip(&mut self.held)
            .filter(|(_, held)| **held > 0)
        {
            *held = rtc
                .channel(*id)
                .map_or(0, |mut channel| channel.buffered_amount());
        }
    }
}

fn config(class: Class) -> ChannelConfig {
    ChannelConfig {
        label: class.label().into(),
        ordered: class.is_ordered(),
        reliability: match class.reliability() {
            Reliability::Reliable => Mode::Reliable,
            Reliability::MaxRetransmits(retransmits) => Mode::MaxRetransmits { retransmits },
            Reliability::MaxLifetimeMs(lifetime) => Mode::MaxPacketLifetime { lifetime },
        },
        negotiated: Some(class.channel_id()),
        protocol: CHANNEL_PROTOCOL.into(),
    }
}
