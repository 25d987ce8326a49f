//! Delivery classes: the six presets, the data channel each maps to, and the
//! sequenced streams inside them.

use serde::{Deserialize, Serialize};

/// How hard a data channel tries to deliver (RFC 8832 §5.1, RFC 3758).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliability {
    /// Retransmits until the message is delivered or the link ends.
    Reliable,
    /// Gives a message up after so many retransmissions.
    MaxRetransmits(u16),
    /// Gives a message up after so many milliseconds.
    MaxLifetimeMs(u16),
}

/// A delivery class: what a sender asks for, and one data channel of a link.
///
/// The channel is negotiated out of band (RFC 8832 §3): its SCTP stream id is
/// [`Class::channel_id`] on both sides, so that opening it costs no round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Reliable and ordered: plain messages.
    Control,
    /// Reliable and unordered: calls and replies; one never waits for another.
    Tasks,
    /// Reliable and ordered with the lowest weight: large payloads.
    Bulk,
    /// Ordered, at most three retransmissions: progress.
    Events,
    /// Unordered, never retransmitted: metrics and sensors.
    Telemetry,
    /// Unordered, given up after one second: live views.
    Live,
}

impl Class {
    /// All classes in the order of their channel ids.
    pub const ALL: [Self; 6] = [
        Self::Control,
        Self::Tasks,
        Self::Bulk,
        Self::Events,
        Self::Telemetry,
        Self::Live,
    ];

    /// The SCTP stream id of the class's data channel, 0–5.
    pub const fn channel_id(self) -> u16 {
        self as u16
    }

    /// The class whose data channel has this SCTP stream id.
    pub fn from_channel_id(id: u16) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The label of the data channel, which is also the name of the preset.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Tasks => "tasks",
            Self::Bulk => "bulk",
            Self::Events => "events",
            Self::Telemetry => "telemetry",
            Self::Live => "live",
        }
    }

    /// Whether messages arrive in the order in which they were sent.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Control | Self::Bulk | Self::Events)
    }

    /// How hard the data channel tries.
    pub const fn reliability(self) -> Reliability {
        match self {
            Self::Control | Self::Tasks | Self::Bulk => Reliability::Reliable,
            Self::Events => Reliability::MaxRetransmits(3),
            Self::Telemetry => Reliability::MaxRetransmits(0),
            Self::Live => Reliability::MaxLifetimeMs(1_000),
        }
    }

    /// Whether messages are acknowledged end to end and survive a change of path.
    pub const fn is_reliable(self) -> bool {
        matches!(self.reliability(), Reliability::Reliable)
    }
}

/// A sequence of messages from one incarnation of a sender to one receiver.
///
/// There is one for each class, and a seventh for replies and cancels: they
/// travel on the `tasks` channel with a quota of their own, so that calls in
/// both directions cannot block each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Messages of [`Class::Control`].
    Control,
    /// Requests of [`Class::Tasks`].
    Tasks,
    /// Messages of [`Class::Bulk`].
    Bulk,
    /// Messages of [`Class::Events`].
    Events,
    /// Messages of [`Class::Telemetry`].
    Telemetry,
    /// Messages of [`Class::Live`].
    Live,
    /// Replies and cancels, on the channel of [`Class::Tasks`].
    Replies,
}

impl Stream {
    /// All streams in the order of their numbers on the wire.
    pub const ALL: [Self; 7] = [
        Self::Control,
        Self::Tasks,
        Self::Bulk,
        Self::Events,
        Self::Telemetry,
        Self::Live,
        Self::Replies,
    ];

    /// The number on the wire, 0–6.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The stream with this number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The class whose data channel carries the stream.
    pub const fn class(self) -> Class {
        match self {
            Self::Control => Class::Control,
            Self::Tasks | Self::Replies => Class::Tasks,
            Self::Bulk => Class::Bulk,
            Self::Events => Class::Events,
            Self::Telemetry => Class::Telemetry,
            Self::Live => Class::Live,
        }
    }

    /// The share of the link that the stream gets when others wait too.
    ///
    /// Chosen: whoever waits for an answer goes first, bulk gets what is left,
    /// and nobody gets nothing.
    pub const fn weight(self) -> u32 {
        match self {
            Self::Control | Self::Replies | Self::Tasks => 16,
            Self::Events | Self::Live => 8,
            Self::Telemetry => 4,
            Self::Bulk => 1,
        }
    }
}

impl From<Class> for Stream {
    /// The stream that carries messages, not replies, of a class.
    fn from(class: Class) -> Self {
        match class {
            Class::Control => Self::Control,
            Class::Tasks => Self::Tasks,
            Class::Bulk => Self::Bulk,
            Class::Events => Self::Events,
            Class::Telemetry => Self::Telemetry,
            Class::Live => Self::Live,
        }
    }
}
