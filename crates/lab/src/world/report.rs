//! What a run of the world tells: a violation with what led to it, and counts.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use waymesh_core::registry::Gone;

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
    /// What waited for a path goes soon after there is one.
    TrafficReturns,
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
    /// A call enters a handler at most once in each life of the called, and
    /// marked in any but the first.
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
    /// A working direct link is not given up for a relayed one.
    NeverForWorse,
    /// Nothing but probes goes over a link that is not proved, and none is given up for it.
    NothingUnproved,
    /// A registry that fails takes no link down.
    LinksOutliveTheRegistry,
    /// `refused` has a cause: papers, a policy, or what the sender knows at once.
    RefusedIsTrue,
    /// A sender is told `stored` only of what a disk has.
    StoredIsTrue,
    /// The registry forgets an item only when it is taken, refused, over, replaced or not wanted.
    StoredStays,
    /// What is stored reaches an application that reads, whatever becomes of its sender.
    StoredArrives,
    /// The registry keeps nothing for a receiver that has taken everything.
    NoLeak,
    /// What a life of a receiver began with a mark of does not come to it again.
    MarksHold,
    /// No message and no call comes past a policy.
    PolicyHolds,
    /// A revoked member loses its links within a second where the registry is
    /// there, and in the end everywhere.
    RevokedIsOut,
    /// No link outlives the certificate of either end.
    ExpiredIsOut,
    /// Every client hears in time that the certificate of its node ends, and when.
    ExpiryIsTold,
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

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened in one schedule, or in many.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds those of another schedule.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    /// Steps of the world.
    steps,
    /// Frames that nodes sent.
    frames,
    /// Messages that applications sent.
    sent,
    /// Those of them that ended as delivered.
    delivered,
    /// Those that ended as expired.
    expired,
    /// Those that were refused.
    refused,
    /// Those that ended as unconfirmed.
    unconfirmed,
    /// Messages that came to an application a second time, marked.
    redelivered,
    /// Calls that applications made.
    calls,
    /// Those of them that were answered with a result.
    answered,
    /// Those that ended as `peer_lost`.
    peer_lost,
    /// Links that came up, each counted at both ends.
    links,
    /// Faults that struck.
    faults,
    /// Lives of nodes.
    lives,
    /// Gaps that readers were told of.
    gaps,
    /// Papers that nodes had at hand when they looked a name up.
    introduced,
    /// Items that nodes posted.
    posted,
    /// Posts that were answered with `stored`.
    stored,
    /// Messages whose senders were told `stored`.
    told_stored,
    /// Posts that were answered with `forwarded`.
    forwarded,
    /// Posts that were refused.
    posts_refused,
    /// Items that came to nodes.
    pushed,
    /// Those of them that were marked as pushed before.
    pushed_again,
    /// Items that were settled as taken.
    taken,
    /// Items that were settled as kept.
    kept,
    /// Items that were settled as to come later.
    put_off,
    /// Items that could not be opened.
    unreadable,
    /// Items that a policy or a revocation denied.
    mail_denied,
    /// Items with nothing but acknowledgements that were opened.
    mailed_acks,
    /// Items that their senders withdrew.
    withdrawn,
    /// Items that came back to their senders.
    returned,
    /// Items whose lives ended in the mailbox.
    items_expired,
    /// Items that a newer one replaced.
    items_replaced,
    /// Items of revoked members.
    items_revoked,
    /// Messages that came to applications by mailbox.
    given_by_mail,
    /// Messages that came to applications over links.
    given_by_link,
    /// Those of them that were in the mailbox too.
    moved_to_link,
    /// Answers to calls that came by mailbox.
    answers_by_mail,
    /// Peers whose traffic went to the mailbox.
    fell_to_mail,
    /// Peers whose traffic moved from the mailbox to a link.
    rose_to_link,
    /// Marks that lives of nodes began with.
    marks_kept,
    /// Lives of the registry after its first.
    registry_lives,
    /// Items that died with the registry before they were written.
    unwritten_lost,
    /// Disks that were full for a while.
    full_disks,
    /// Writes that failed.
    writes_failed,
    /// Hosts that were away for long.
    absences,
    /// Certificates that the registry extended.
    extensions,
    /// Logins with a certificate that had ended for good.
    expired_logins,
    /// Nodes that announced the end of their certificate.
    expiries_announced,
    /// Links that ended with a certificate.
    links_expired,
    /// Hosts that the authority revoked.
    revoked,
    /// Nodes that learnt of a revocation.
    revocations_heard,
    /// Revocations that peers told each other.
    gossip,
    /// Orders of an admin that failed.
    orders_failed,
    /// Records and signals whose papers did not hold.
    distrusted,
    /// Schedules with a hostile registry.
    hostile,
    /// What it did that was not honest.
    lies,
    /// Hosts that were moved to another network.
    moves,
    /// Times that traffic moved from a link to another.
    moved_to_better,
    /// Schedules in which no link worked until the healing.
    mail_only,
}

impl Counts {
    /// The registry has forgotten an item.
    pub(super) fn note_gone(&mut self, why: Gone) {
        match why {
            Gone::Expired => self.items_expired += 1,
            Gone::Replaced => self.items_replaced += 1,
            Gone::Revoked => self.items_revoked += 1,
            Gone::Taken | Gone::Refused | Gone::Withdrawn | Gone::Damaged => {}
        }
    }
}
