//! What a run of the world tells: a violation with what led to it, and counts.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Lines of a trace that are kept for a violation.
const TRACE_KEPT: usize = 60;

macro_rules! invariants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What must always hold. DESIGN §3 is where they come from.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Invariant {
            $($(#[$doc])* $name,)*
        }
    };
}

invariants! {
    /// A message reaches the application at most once per life of the receiver.
    AtMostOnce,
    /// What arrives is what was sent, to whom it was sent, from whom it was sent.
    Integrity,
    /// Ordered classes arrive in the order of sending.
    Order,
    /// No message of an ordered class overtakes one that still lives.
    Overtaken,
    /// `delivered` is told only of messages that an application acknowledged.
    DeliveredIsTrue,
    /// `expired` and `refused` are never told of a message that an application acknowledged.
    NotDeliveredIsTrue,
    /// A message that an earlier life of the receiver was given is marked.
    RedeliveredIsSet,
    /// A message that no earlier life of the receiver can have had is not marked.
    RedeliveredIsTrue,
    /// A send ends in exactly one final state.
    OneFinalState,
    /// A send ends within its life and the grace.
    EndsInTime,
    /// A message whose life allows it is delivered once the world is well.
    Delivered,
    /// Every message is delivered, expired, refused, unconfirmed or queued.
    Conservation,
    /// A call ends exactly once.
    OneAnswer,
    /// A call ends by its deadline.
    AnsweredInTime,
    /// An answer is the one that the handler gave.
    AnswerIsTrue,
    /// An error of a call has a cause that really happened.
    FaultIsTrue,
    /// `peer_lost` is told only when the peer restarted, stopped or left the registry.
    PeerLostIsTrue,
    /// A call whose handler died with its node ends before its deadline.
    LossIsTold,
    /// `executed: no` is told only when no handler is entered.
    NotExecutedIsTrue,
    /// A call that may not be repeated enters a handler at most once.
    EnteredOnce,
    /// The handler of a call that nobody waits for any more is told.
    CancelArrives,
    /// Connects, pings and finds are answered once and in time.
    AnsweredOnce,
    /// Outbox, inbox and what an owner has in hand keep their limits.
    Bounded,
    /// No sender passes its receiver's window.
    Windows,
    /// When nothing is open, nothing is kept.
    Drained,
    /// A pair of nodes has at most one link once the world is well, and its ends agree.
    OneLink,
    /// A full mesh becomes whole.
    Whole,
    /// A healthy pair answers calls, delivers messages and answers pings at once.
    Responsive,
    /// No node wakes again and again while time stands still.
    NoSpin,
    /// Every frame parses and fits its channel.
    Frames,
    /// Honest peers are never counted as abusers.
    NoSurprise,
    /// The registry says what is.
    Presence,
    /// A registry that fails takes no link down.
    LinksOutliveTheRegistry,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What happened instead.
    pub what: String,
}

impl Violation {
    /// An invariant that did not hold, and what happened instead.
    pub fn new(invariant: Invariant, what: impl Into<String>) -> Self {
        Self {
            invariant,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

/// Nothing, or the first invariant that did not hold.
pub type Checked = Result<(), Violation>;

/// Fails with an invariant and a message unless a condition holds.
macro_rules! hold {
    ($condition:expr, $invariant:ident, $($what:tt)*) => {
        if !$condition {
            return Err(Violation::new(Invariant::$invariant, format!($($what)*)));
        }
    };
}
pub(super) use hold;

/// What happened, kept when somebody wants to read it.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Option<VecDeque<String>>,
    kept: usize,
}

impl Trace {
    /// Keeps the last lines.
    pub fn last() -> Self {
        Self {
            lines: Some(VecDeque::new()),
            kept: TRACE_KEPT,
        }
    }

    /// Keeps every line.
    pub fn whole() -> Self {
        Self {
            lines: Some(VecDeque::new()),
            kept: usize::MAX,
        }
    }

    /// Adds a line, made only when it is kept.
    pub(super) fn note(&mut self, at: Duration, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() >= self.kept {
                lines.pop_front();
            }
            lines.push_back(format!("{:>12.6} {}", at.as_secs_f64(), line()));
        }
    }

    /// The lines that were kept, oldest first.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default().into()
    }
}

/// What happened in one schedule, or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps of the world.
    pub steps: u64,
    /// Frames that nodes sent.
    pub frames: u64,
    /// Messages that applications sent.
    pub sent: u64,
    /// Those of them that ended as delivered.
    pub delivered: u64,
    /// Those that ended as expired.
    pub expired: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that ended as unconfirmed.
    pub unconfirmed: u64,
    /// Messages that came to an application a second time, marked.
    pub redelivered: u64,
    /// Calls that applications made.
    pub calls: u64,
    /// Those of them that were answered with a result.
    pub answered: u64,
    /// Those that ended as `peer_lost`.
    pub peer_lost: u64,
    /// Links that came up, each counted at both ends.
    pub links: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Lives of nodes.
    pub lives: u64,
    /// Gaps that readers were told of.
    pub gaps: u64,
}

impl Counts {
    /// Adds those of another schedule.
    pub fn add(&mut self, other: &Self) {
        let Self {
            steps,
            frames,
            sent,
            delivered,
            expired,
            refused,
            unconfirmed,
            redelivered,
            calls,
            answered,
            peer_lost,
            links,
            faults,
            lives,
            gaps,
        } = other;
        self.steps += steps;
        self.frames += frames;
        self.sent += sent;
        self.delivered += delivered;
        self.expired += expired;
        self.refused += refused;
        self.unconfirmed += unconfirmed;
        self.redelivered += redelivered;
        self.calls += calls;
        self.answered += answered;
        self.peer_lost += peer_lost;
        self.links += links;
        self.faults += faults;
        self.lives += lives;
        self.gaps += gaps;
    }
}
